"""Every task, decoded together: in PyTorch, against each alone and against the original's order.

Models and images are float64, so that rounding cannot move a mask logit across zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt import tasks
from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.models.config import LEVEL_STRIDES
from xdecoder_rt.models.decoder import Decoded, ImageMemory, Past, Rows
from xdecoder_rt.models.deployed import DeployedDecoder
from xdecoder_rt.models.plain import plain_forward
from xdecoder_rt.tasks import RowLayout

SIZE = (64, 96)
QUERIES = 9
TOLERANCE = 1e-6


@dataclass
class Seen:
    """A model and what it keeps of two images."""

    model: XDecoder
    images: Tensor
    memory: ImageMemory

    def of_image(self, index: int) -> ImageMemory:
        parts = (self.memory.keys, self.memory.values, self.memory.mask_features)
        return ImageMemory(*([value[index : index + 1] for value in part] for part in parts))


def encoded(model: XDecoder) -> Seen:
    model = model.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, *SIZE, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        features = model.pixel_decoder(model.backbone(images))
        mask_features = model.pixel_decoder.mask_features(features.mask_map)
        return Seen(model, images, model.remember(features, mask_features))


@pytest.fixture(scope="module")
def seen(tiny: ModelConfig, redraw: Callable[[XDecoder], XDecoder]) -> Seen:
    return encoded(redraw(XDecoder(tiny)))


@pytest.fixture(scope="module", params=[LEVEL_STRIDES, (32, 16), (16,)])
def seen_at_levels(
    request: pytest.FixtureRequest, tiny: ModelConfig, redraw: Callable[[XDecoder], XDecoder]
) -> Seen:
    decoder = replace(tiny.decoder, level_strides=request.param)
    return encoded(redraw(XDecoder(replace(tiny, decoder=decoder))))


@dataclass
class Asked:
    """One group: its rows, its text features, and a region of the image, ``[H, W]`` or None."""

    layout: RowLayout
    text: Tensor
    region: Tensor | None


def ask(task: str, tokens: int, seed: int, confined: bool = False) -> Asked:
    layout = tasks.group(task, QUERIES, tokens)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(tokens, 16, generator=generator, dtype=torch.float64)
    text = torch.zeros(len(layout), 16, dtype=torch.float64)
    has_text = torch.from_numpy(layout.text != tasks.NO_TEXT)
    text[has_text] = features[: int(has_text.sum())]
    region = torch.rand(SIZE[0] // 32, SIZE[1] // 32, generator=generator) < 0.5
    region[0, 0], region[1, 2] = True, False
    region = region.repeat_interleave(32, 0).repeat_interleave(32, 1)
    return Asked(layout, text, region if confined else None)


LATENTS = Asked(tasks.latents(QUERIES), torch.zeros(QUERIES, 16, dtype=torch.float64), None)


def rows_of(
    asked: list[list[Asked]],
    past: RowLayout | None = None,
    strides: tuple[int, ...] = LEVEL_STRIDES,
) -> Rows:
    """One image's groups a list, padded to the longest; regions each in a channel of its own."""
    first = tasks.LATENT_GROUP if past is None else 1
    layouts = [tasks.side_by_side([one.layout for one in own], first) for own in asked]
    length = max(map(len, layouts))
    padded = [tasks.padded(layout, length, QUERIES) for layout in layouts]
    texts = [torch.cat([one.text for one in own]) for own in asked]
    text = torch.stack([F.pad(own, (0, 0, 0, length - len(own))) for own in texts])
    rows = Rows.of(padded, text, past)
    channels = max(1, *(len(own) for own in asked))
    rows.region_weight = torch.zeros(len(asked), length, channels, dtype=torch.float64)
    regions = torch.zeros(len(asked), channels, *SIZE, dtype=torch.float64)
    for image, own in enumerate(asked):
        start = 0
        for channel, one in enumerate(own):
            stop = start + len(one.layout)
            if one.region is not None:
                opened = torch.from_numpy(tasks.sees_everything(one.layout))
                rows.region_weight[image, start:stop, channel] = opened.double()
                regions[image, channel] = torch.where(one.region, 1.0, -1.0)
            start = stop
    rows.regions = [regions[..., ::s, ::s].flatten(2) for s in strides]
    return rows


def decode(seen: Seen, memory: ImageMemory, rows: Rows, past: Past | None = None) -> Decoded:
    with torch.no_grad():
        return seen.model.decoder(memory, rows, past)


def everything(decoded: Decoded, image: int, rows: slice) -> dict[str, Tensor]:
    """All that a decode leaves of some rows of an image."""
    last = decoded.layers[-1]
    return {
        "class": last.class_embedding[image, rows],
        "mask": last.mask_embedding[image, rows],
        "caption": decoded.caption_embedding[image, rows],
        "states": decoded.states[image, rows],
        **{f"key {i}": key[image, :, rows] for i, key in enumerate(decoded.rows.keys)},
        **{f"value {i}": value[image, :, rows] for i, value in enumerate(decoded.rows.values)},
    }


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, wanted in expected.items():
        assert actual[name].shape == wanted.shape, name
        error = float((actual[name] - wanted).norm() / wanted.norm())
        assert error < TOLERANCE, (name, error)


ONE = st.builds(
    ask,
    st.sampled_from(["refer", "caption", "answer"]),
    st.integers(2, 6),
    st.integers(0, 99),
    st.booleans(),
)
MIXTURE = st.lists(ONE, max_size=4)


@settings(max_examples=20, deadline=None)
@given(first=MIXTURE, second=MIXTURE)
def test_a_mixture_is_each_task_alone(seen: Seen, first: list[Asked], second: list[Asked]) -> None:
    # Two images, each with questions of its own, in one decode.
    asked = [[LATENTS, *first], [LATENTS, *second]]
    fused = decode(seen, seen.memory, rows_of(asked))
    for image, own in enumerate(asked):
        memory = seen.of_image(image)
        latents = decode(seen, memory, rows_of([[LATENTS]]))
        assert_same(everything(fused, image, slice(QUERIES)), everything(latents, 0, slice(None)))
        start = QUERIES
        for one in own[1:]:
            stop = start + len(one.layout)
            alone = decode(seen, memory, rows_of([[LATENTS, one]]))
            assert_same(
                everything(fused, image, slice(start, stop)),
                everything(alone, 0, slice(QUERIES, None)),
            )
            start = stop


@settings(max_examples=15, deadline=None)
@given(first=MIXTURE, second=MIXTURE)
def test_what_is_asked_later_is_as_if_it_were_asked_at_once(
    seen: Seen, first: list[Asked], second: list[Asked]
) -> None:
    latents = decode(seen, seen.memory, rows_of([[LATENTS], [LATENTS]]))
    if not first and not second:
        return
    together = decode(seen, seen.memory, rows_of([[LATENTS, *first], [LATENTS, *second]]))
    rows = rows_of([first or [ask("embed", 0, 0)], second or [ask("embed", 0, 0)]], LATENTS.layout)
    later = decode(seen, seen.memory, rows, latents.rows)
    for image, own in enumerate((first, second)):
        length = sum(len(one.layout) for one in own)
        if length:
            assert_same(
                everything(later, image, slice(length)),
                everything(together, image, slice(QUERIES, QUERIES + length)),
            )


def deployed(seen: Seen, memory: ImageMemory, rows: Rows, past: Past | None) -> dict[str, Tensor]:
    """What a plan's decoder leaves, after the names of :func:`everything`."""
    if past is None:
        heads = memory.keys[0].shape[1]
        nothing = torch.zeros(len(rows.kind), heads, 0, 16 // heads, dtype=torch.float64)
        past = Past([nothing] * len(memory.keys), [nothing] * len(memory.keys))
    with torch.no_grad():
        output = DeployedDecoder(seen.model.decoder)(memory, rows, past)
    return {
        "class": output.prediction.class_embedding,
        "mask": output.prediction.mask_embedding,
        "caption": output.caption_embedding,
        **{f"key {i}": key for i, key in enumerate(output.rows.keys)},
        **{f"value {i}": value for i, value in enumerate(output.rows.values)},
    }


def whole(decoded: Decoded) -> dict[str, Tensor]:
    last = decoded.layers[-1]
    return {
        "class": last.class_embedding,
        "mask": last.mask_embedding,
        "caption": decoded.caption_embedding,
        **{f"key {i}": key for i, key in enumerate(decoded.rows.keys)},
        **{f"value {i}": value for i, value in enumerate(decoded.rows.values)},
    }


@settings(max_examples=20, deadline=None)
@given(first=MIXTURE, second=MIXTURE)
def test_a_plans_decoder_gives_what_the_trained_one_gives(
    seen_at_levels: Seen, first: list[Asked], second: list[Asked]
) -> None:
    seen = seen_at_levels
    strides = seen.model.config.decoder.level_strides
    rows = rows_of([[LATENTS, *first], [LATENTS, *second]], strides=strides)
    together = decode(seen, seen.memory, rows)
    assert_same(deployed(seen, seen.memory, rows, None), whole(together))
    if not first and not second:
        return
    latents = rows_of([[LATENTS], [LATENTS]], strides=strides)
    past = decode(seen, seen.memory, latents).rows
    embed = ask("embed", 0, 0)
    rows = rows_of([first or [embed], second or [embed]], LATENTS.layout, strides)
    later = decode(seen, seen.memory, rows, past)
    assert_same(deployed(seen, seen.memory, rows, past), whole(later))


@settings(max_examples=15, deadline=None)
@given(asked=MIXTURE)
def test_a_mixture_is_the_originals_forward_pass(seen: Seen, asked: list[Asked]) -> None:
    # The original knows one region for all: mixtures of regions are compared one by one below.
    unconfined = [Asked(one.layout, one.text, None) for one in asked]
    rows = rows_of([[LATENTS, *unconfined]])
    with torch.no_grad():
        plain = plain_forward(seen.model, seen.images[:1], rows)
    decoded = decode(seen, seen.of_image(0), rows)
    assert len(decoded.layers) == len(plain.layers)
    for ours, theirs in zip(decoded.layers, plain.layers, strict=True):
        torch.testing.assert_close(
            ours.class_embedding, theirs.class_embedding, rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(ours.mask_embedding, theirs.mask_embedding, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        decoded.caption_embedding, plain.caption_embedding, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("task", ["caption", "answer"])
def test_a_region_is_the_originals(seen: Seen, task: str) -> None:
    one = ask(task, 5, 1, confined=True)
    assert one.region is not None
    rows = rows_of([[LATENTS, one]])
    with torch.no_grad():
        plain = plain_forward(seen.model, seen.images[:1], rows, one.region[None])
    decoded = decode(seen, seen.of_image(0), rows)
    torch.testing.assert_close(
        decoded.caption_embedding, plain.caption_embedding, rtol=1e-5, atol=1e-6
    )
    everywhere = decode(seen, seen.of_image(0), rows_of([[LATENTS, ask(task, 5, 1)]]))
    difference = (everywhere.caption_embedding - decoded.caption_embedding)[0].norm(dim=1)
    # The latents do not care, the text does.
    assert float(difference[:QUERIES].max()) < 1e-9
    assert float(difference[QUERIES:].min()) > 1e-3


def test_each_caption_has_a_region_of_its_own(seen: Seen) -> None:
    pair = [ask("caption", 3, seed, confined=True) for seed in (1, 2)]
    assert pair[0].region is not None and pair[1].region is not None
    assert not torch.equal(pair[0].region, pair[1].region)
    fused = decode(seen, seen.of_image(0), rows_of([[LATENTS, *pair]]))
    for place, one in enumerate(pair):
        alone = decode(seen, seen.of_image(0), rows_of([[LATENTS, one]]))
        start = QUERIES + 3 * place
        assert_same(
            everything(fused, 0, slice(start, start + 3)),
            everything(alone, 0, slice(QUERIES, None)),
        )


@pytest.mark.parametrize("begun", [1, 2, 4])
def test_a_caption_goes_on_row_by_row(seen: Seen, begun: int) -> None:
    whole = ask("caption", 6, 7)
    together = decode(seen, seen.of_image(0), rows_of([[LATENTS, whole]]))
    beginning = Asked(whole.layout.chosen(slice(begun)), whole.text[:begun], None)
    decoded = decode(seen, seen.of_image(0), rows_of([[LATENTS, beginning]]))
    past, known = tasks.side_by_side([LATENTS.layout, beginning.layout], 0), decoded.rows
    for place in range(begun, 6):
        layout = tasks.group("caption", QUERIES, 1, first=place)
        one = Asked(layout, whole.text[place : place + 1], None)
        step = decode(seen, seen.of_image(0), rows_of([[one]], past), known)
        row = QUERIES + place
        assert_same(everything(step, 0, slice(1)), everything(together, 0, slice(row, row + 1)))
        known = Past(
            [torch.cat(pair, 2) for pair in zip(known.keys, step.rows.keys, strict=True)],
            [torch.cat(pair, 2) for pair in zip(known.values, step.rows.values, strict=True)],
        )
        past = RowLayout(
            *(
                np.concatenate((getattr(past, name), getattr(layout, name)))
                for name in RowLayout.__dataclass_fields__
            )
        )


def test_a_later_word_changes_no_earlier_one(seen: Seen) -> None:
    whole, other = ask("caption", 5, 1), ask("caption", 5, 1)
    other.text[-1] += 1.0
    first, second = (
        decode(seen, seen.of_image(0), rows_of([[LATENTS, one]])) for one in (whole, other)
    )
    assert_same(everything(first, 0, slice(-1)), everything(second, 0, slice(-1)))
    moved = first.caption_embedding[0, -1] - second.caption_embedding[0, -1]
    assert float(moved.norm()) > 1e-3


def test_the_order_of_groups_does_not_matter(seen: Seen) -> None:
    asked = [ask("refer", 3, 0), ask("answer", 4, 1), ask("caption", 2, 2, confined=True)]
    forward = decode(seen, seen.of_image(0), rows_of([[LATENTS, *asked]]))
    backward = decode(seen, seen.of_image(0), rows_of([[LATENTS, *asked[::-1]]]))
    ends = np.cumsum([len(one.layout) for one in asked]).tolist()
    length = QUERIES + ends[-1]
    for one, end in zip(asked, ends, strict=True):
        start = QUERIES + end - len(one.layout)
        mirrored = length - (QUERIES + end) + QUERIES
        assert_same(
            everything(forward, 0, slice(start, start + len(one.layout))),
            everything(backward, 0, slice(mirrored, mirrored + len(one.layout))),
        )
