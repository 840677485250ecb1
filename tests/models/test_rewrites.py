"""Every exact rewrite of the network against the original's order of operations.

Where two forms meet at a threshold they are compared in float64, so that rounding cannot move a
mask logit across zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import original
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt import tasks
from xdecoder_rt.models import ModelConfig, XDecoder, load_published
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.models.graphs import DecodeGraph, MaskGraph, TextGraph, VisionGraph, state_names
from xdecoder_rt.models.plain import PlainOutput, plain_forward
from xdecoder_rt.models.resample import shrink
from xdecoder_rt.parity.fixture import Fixture
from xdecoder_rt.parity.settings import model_config

FIXTURE = Path(__file__).parents[1] / "data" / "focal_tiny_a"
START, END = 49406, 49407


def bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


SIDE = st.integers(1, 20)
# PyTorch itself (2.13, CPU) resizes to a width of one pixel wrongly: every row is as the first.
SIZE = st.tuples(SIDE, st.integers(2, 20))
# Of the levels, in pixels of the mask map.
STRIDE = st.sampled_from([2, 4, 8])


@settings(max_examples=25, deadline=None)
@given(target=SIZE, stride=STRIDE, seed=st.integers(0, 999))
def test_shrinking_is_antialiased_bicubic_interpolation(
    target: tuple[int, int], stride: int, seed: int
) -> None:
    # PyTorch's weights depend on the dtype: float32 is what the original ran in.
    x = normal(2, 3, target[0] * stride, target[1] * stride, seed=seed, dtype=torch.float32)
    expected = bicubic(x, target)
    # Relative to what went in: a resize to few values may cancel.
    scale = max(float(expected.square().mean().sqrt()), float(x.square().mean().sqrt()))
    assert float((shrink(x, stride) - expected).abs().max()) < 4e-6 * scale


@pytest.mark.parametrize("level", [8, 16, 32])
@pytest.mark.parametrize("image", [(512, 512), (384, 640), (800, 1344)])
def test_shrinking_to_the_levels_is_exact_to_rounding(image: tuple[int, int], level: int) -> None:
    height, width = image
    x = normal(1, 2, height // 4, width // 4, dtype=torch.float32)
    size = (height // level, width // level)
    assert relative(shrink(x, level // 4), bicubic(x, size)) < 4e-7


@settings(max_examples=20, deadline=None)
@given(
    target=SIZE,
    stride=STRIDE,
    queries=st.integers(1, 5),
    channels=st.integers(1, 6),
    seed=st.integers(0, 999),
)
def test_shrinking_mask_features_commutes_with_the_product(
    target: tuple[int, int], stride: int, queries: int, channels: int, seed: int
) -> None:
    features = normal(2, channels, target[0] * stride, target[1] * stride, seed=seed)
    embedding = normal(2, queries, channels, seed=seed + 1)
    product = torch.einsum("bqc,bchw->bqhw", embedding, features)
    for shrunk in (lambda x: bicubic(x, target), lambda x: shrink(x, stride)):
        shrunk_first = torch.einsum("bqc,bchw->bqhw", embedding, shrunk(features))
        torch.testing.assert_close(shrunk_first, shrunk(product), atol=1e-9, rtol=1e-9)


# float32 sigmoid rounds to exactly one half for the logits that are this near to zero.
ROUNDED = 2.0**-22


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False).filter(lambda x: x == 0 or abs(x) >= ROUNDED))
@example(0.0)
@example(-0.0)
@example(ROUNDED)
@example(-ROUNDED)
@example(math.inf)
@example(-math.inf)
def test_a_negative_logit_is_a_sigmoid_below_one_half(logit: float) -> None:
    x = torch.tensor([logit], dtype=torch.float32)
    assert torch.equal(x < 0, x.sigmoid() < 0.5)


def changed(config: ModelConfig, variant: str) -> ModelConfig:
    pixel, decoder = config.pixel_decoder, config.decoder
    if variant == "mask convolution":
        return replace(config, pixel_decoder=replace(pixel, mask_kernel=3, mask_dim=8))
    if variant == "narrow mask map":
        return replace(config, pixel_decoder=replace(pixel, mask_level_dim=8, mask_dim=8))
    if variant == "other widths":
        return replace(config, decoder=replace(decoder, hidden_dim=24), proj_dim=24)
    if variant == "projected levels":
        wider = replace(decoder, hidden_dim=24, input_projection=True)
        return replace(config, decoder=wider, proj_dim=24)
    if variant in LEVELS:
        return replace(config, decoder=replace(decoder, level_strides=LEVELS[variant]))
    if variant in FORMS:
        return replace(config, pixel_decoder=replace(pixel, output_convs=FORMS[variant]))
    if variant == "narrow from stride 8":
        narrow = replace(pixel, mask_level_dim=8, mask_dim=8, narrow_stride=8)
        return replace(
            config, pixel_decoder=narrow, decoder=replace(decoder, level_strides=(32, 16))
        )
    if variant == "masks at stride 8":
        return replace(config, pixel_decoder=replace(pixel, mask_stride=8))
    if variant == "narrow masks at stride 8":
        narrow = replace(pixel, mask_level_dim=8, mask_dim=8, mask_stride=8)
        return replace(config, pixel_decoder=narrow)
    return config


LEVELS = {"two levels": (32, 16), "one level": (16,), "levels from fine to coarse": (8, 16, 32)}
FORMS = {
    "separable outputs": ("separable",) * 4,
    "a form a stride": ("none", "pointwise", "separable", "full"),
}
VARIANTS = [
    "tiny",
    "mask convolution",
    "narrow mask map",
    "other widths",
    "projected levels",
    *LEVELS,
    *FORMS,
    "narrow from stride 8",
    "masks at stride 8",
    "narrow masks at stride 8",
]


def assert_same_predictions(model: XDecoder, images: Tensor) -> PlainOutput:
    with torch.no_grad():
        ours, plain = model(images), plain_forward(model, images)
    torch.testing.assert_close(ours.mask_features, plain.mask_features)
    assert len(ours.layers) == len(plain.layers) == model.config.decoder.layers + 1
    for i, (layer, expected) in enumerate(zip(ours.layers, plain.layers, strict=True)):
        for field in ("mask_embedding", "class_embedding"):
            # The resampling matrices are those of float32.
            torch.testing.assert_close(
                getattr(layer, field),
                getattr(expected, field),
                atol=1e-6,
                rtol=1e-5,
                msg=lambda text, i=i, field=field: f"{field} of prediction {i}: {text}",
            )
    return plain


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_equals_the_plain_form(
    variant: str, tiny: ModelConfig, redraw: Callable[[XDecoder], XDecoder]
) -> None:
    model = redraw(XDecoder(changed(tiny, variant))).double()
    plain = assert_same_predictions(model, normal(2, 3, 64, 96, seed=3))
    # The comparison means something only where some positions are blocked and some are not.
    mixed = [blocked.any(dim=-1) & ~blocked.all(dim=-1) for blocked in plain.blocked]
    assert torch.cat(mixed, dim=1).any()


@pytest.mark.parametrize("size", [(32, 32), (32, 160), (96, 64)])
def test_forward_equals_the_plain_form_at_other_sizes(
    size: tuple[int, int], tiny_model: XDecoder
) -> None:
    assert_same_predictions(tiny_model.double(), normal(1, 3, *size, seed=4))


def test_forward_equals_the_plain_form_with_the_fixtures_weights() -> None:
    config = model_config(Fixture.open(FIXTURE).settings, "fixture")
    model = load_published(original.weights(), config).double()
    plain = assert_same_predictions(model, normal(2, 3, 64, 96, seed=5))
    whole_rows = torch.cat([blocked.all(dim=-1).flatten() for blocked in plain.blocked])
    assert whole_rows.any(), "the rule for queries that may see nothing was not exercised"


def test_training_passes_no_gradient_through_the_masks(tiny_model: XDecoder) -> None:
    prediction = tiny_model(normal(1, 3, 32, 64, dtype=torch.float32))
    prediction.layers[-1].class_embedding.sum().backward()
    gradients = {name for name, p in tiny_model.named_parameters() if p.grad is not None}
    assert "decoder.query_feat" in gradients
    # Mask embeddings steer attention by a threshold alone.
    assert not any(name.startswith("decoder.mask_embed") for name in gradients)


@pytest.fixture
def ids() -> Tensor:
    texts = [[START, 320, END], [START, END], [START, 320, 1929, 518, 2368, 7, 9, END]]
    return torch.tensor([text + [END] * (12 - len(text)) for text in texts])


def test_text_may_stop_at_its_end_token(tiny_model: XDecoder, ids: Tensor) -> None:
    model = tiny_model.double()
    with torch.no_grad():
        padded = model.encode_text(ids)
        for row, length, expected in zip(ids, (3, 2, 8), padded, strict=True):
            trimmed = model.encode_text(row[None, :length])
            torch.testing.assert_close(trimmed[0], expected)


def test_nothing_after_the_end_token_matters(tiny_model: XDecoder, ids: Tensor) -> None:
    model = tiny_model.double()
    other = ids.clone()
    other[0, 3:] = torch.arange(5, 14)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(other), model.encode_text(ids))


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_text_may_go_on_from_what_was_encoded(cut: int, tiny_model: XDecoder, ids: Tensor) -> None:
    model, layers = tiny_model.double(), tiny_model.config.text.layers
    graph = TextGraph(model)
    token_ids = ids[2:, :8]
    places = torch.arange(8)[None]
    seen = places <= places[0, :, None]
    heads, width = model.config.text.heads, model.config.text.width
    past = (torch.empty(1, heads, 0, width // heads, dtype=torch.float64),) * (2 * layers)
    with torch.no_grad():
        begun, *states = graph(token_ids[:, :cut], places[:, :cut], seen[None, :cut, :cut], *past)
        ended, *_ = graph(token_ids[:, cut:], places[:, cut:], seen[None, cut:], *states)
        torch.testing.assert_close(torch.cat((begun, ended), 1), model.text_encoder(token_ids))


def test_the_end_token_sees_every_word(tiny_model: XDecoder, ids: Tensor) -> None:
    model = tiny_model.double()
    with torch.no_grad():
        expected = model.encode_text(ids[2:])
        for position in range(1, 7):
            other = ids[2:].clone()
            other[0, position] = 11
            assert relative(model.encode_text(other), expected) > 1e-6, position


def asked_of_the_latents(config: ModelConfig, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of the decode graph beside the memory of two images: the latents, and no past."""
    rows = Rows.of([tasks.latents(config.num_queries)] * 2)
    shape = config.decoder
    nothing = torch.zeros(2, shape.heads, 0, shape.hidden_dim // shape.heads, dtype=torch.float64)
    given = {
        "kind": rows.kind,
        "content": rows.content,
        "position": rows.position,
        "visible": rows.visible,
        "text": torch.zeros(2, config.num_queries, shape.hidden_dim, dtype=torch.float64),
        "region_weight": torch.zeros(2, config.num_queries, 1, dtype=torch.float64),
        **dict.fromkeys(state_names("past", shape.layers), nothing),
    }
    for level in range(len(shape.level_strides)):
        positions = values[f"mask_features_{level}"].shape[1]
        given[f"regions_{level}"] = torch.zeros(2, 1, positions, dtype=torch.float64)
    return given


@pytest.mark.parametrize("variant", ["tiny", *LEVELS, "masks at stride 8"])
def test_the_graphs_in_a_row_are_the_network(
    variant: str, tiny: ModelConfig, redraw: Callable[[XDecoder], XDecoder]
) -> None:
    model = redraw(XDecoder(changed(tiny, variant))).double()
    # The graph normalises in float32, as a runtime does.
    model.backbone.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    generator = torch.Generator().manual_seed(6)
    frame = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8, generator=generator)
    valid = torch.tensor([[50, 96], [64, 70]])
    config = model.config
    images = frame.permute(0, 3, 1, 2).float()
    images = images - torch.tensor(config.pixel_mean)[:, None, None]
    images = images / torch.tensor(config.pixel_std)[:, None, None]
    # The padding is zero after normalisation, whatever the frame holds there.
    images[0, :, 50:] = 0.0
    images[1, :, :, 70:] = 0.0

    vision, decode, mask = VisionGraph(model), DecodeGraph(model), MaskGraph()
    with torch.no_grad():
        plain = plain_forward(model, images)
        values = dict(zip(vision.outputs, vision(frame, valid), strict=True))
        levels = len(config.decoder.level_strides)
        assert len(values) == 2 * config.decoder.layers + levels + 2
        values |= asked_of_the_latents(config, values)
        outputs = decode(*(values[name] for name in decode.inputs))
        decoded = dict(zip(decode.outputs, outputs, strict=True))
        logits = mask(decoded["mask_embedding"], values["mask_map"])
        backbone_embedding = plain.backbone[3].mean(dim=(2, 3)) @ model.backbone_proj

    assert relative(logits, plain.mask_logits[-1]) < 1e-5
    assert relative(decoded["class_embedding"], plain.layers[-1].class_embedding) < 1e-5
    assert relative(decoded["caption_embedding"], plain.caption_embedding) < 1e-5
    assert relative(values["backbone_embedding"], backbone_embedding) < 1e-5


def test_padding_is_set_to_zero_after_normalising(tiny_model: XDecoder) -> None:
    normalise = VisionGraph(tiny_model).normalise
    frame = torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)
    pixels = normalise(frame, torch.tensor([[20, 9]]))
    assert (pixels[0, :, :20, :9] != 0).all()
    assert (pixels[0, :, 20:] == 0).all()
    assert (pixels[0, :, :, 9:] == 0).all()


def test_class_logits_are_scaled_cosines(tiny_model: XDecoder) -> None:
    embedding = normal(2, 4, 16, dtype=torch.float32)
    table = F.normalize(normal(3, 16, seed=1, dtype=torch.float32), dim=-1)
    with torch.no_grad():
        logits = tiny_model.class_logits(embedding, table)
    scale = tiny_model.text_encoder.logit_scale.detach().exp()
    cosines = F.cosine_similarity(embedding[:, :, None], table[None, None], dim=-1)
    torch.testing.assert_close(logits, cosines * scale)
