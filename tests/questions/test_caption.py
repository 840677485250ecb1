"""Captions with caches: what full recomputation writes, token for token, and how a caption ends.

The runtime's own writer runs here over the PyTorch forms of a plan's graphs, in float64: building a
plan for each of hundreds of models would take hours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt import Engine, tasks
from xdecoder_rt.backends.base import ModelReader
from xdecoder_rt.errors import ArgumentError, VocabularyError
from xdecoder_rt.export.portable import NO_REPEAT_NGRAM
from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.models.graphs import DecodeGraph, TextGraph, TokenGraph, memory_names
from xdecoder_rt.models.plain import PlainFeatures, plain_caption, plain_decode, plain_features
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import DecoderInfo, TextInfo
from xdecoder_rt.questions.caption import (
    CaptionWriter,
    Draft,
    Opening,
    normalisers,
    repeating_tokens,
)
from xdecoder_rt.questions.regions import region_levels
from xdecoder_rt.rows import RowDecoder
from xdecoder_rt.state import ImageState
from xdecoder_rt.words import text_graph
from xdecoder_rt.words.tokenizer import ClipTokenizer

NEAR = 1e-3
"""Logits nearer than this are a tie: rounding may choose."""


class TorchGraph:
    """A graph of a plan in its PyTorch form."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.inputs: tuple[str, ...] = module.inputs  # type: ignore[assignment]

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Tensor]:
        values = [feeds[name] for name in self.inputs]
        values = [v if isinstance(v, Tensor) else torch.tensor(v) for v in values]
        values = [value.double() if value.is_floating_point() else value for value in values]
        with torch.no_grad():
            outputs = self.module(*values)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        return dict(zip(self.module.outputs, outputs, strict=True))  # type: ignore[call-overload]


class TorchBackend:
    """Values are tensors."""

    name, version, device = "torch", torch.__version__, "cpu"

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> TorchGraph:
        raise NotImplementedError

    def to_numpy(self, value: Tensor) -> np.ndarray[Any, Any]:
        return value.numpy()

    def to_numpy_all(self, values: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
        return {name: value.numpy() for name, value in values.items()}

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Studio:
    """A model, an image that it has seen, and the runtime's writer over its graphs."""

    model: XDecoder
    images: Tensor
    features: PlainFeatures
    state: ImageState
    writer: CaptionWriter
    rows: RowDecoder
    tokenizer: ClipTokenizer

    @classmethod
    def of(cls, model: XDecoder, images: Tensor, stops: Sequence[str] = ()) -> Studio:
        config = model.config
        model = model.double().requires_grad_(False)
        tokenizer = ClipTokenizer([], config.context_length)
        assert tokenizer.vocab_size == config.text.vocabulary_size
        backend = TorchBackend()
        text_info = TextInfo(
            config.context_length,
            config.proj_dim,
            config.text.layers,
            config.text.heads,
            config.text.width,
            "tokenizer.json",
            ("{}",),
            (),
            "background",
        )
        decoder_info = DecoderInfo(
            config.num_queries,
            config.decoder.layers,
            config.decoder.heads,
            config.mask_dim,
            4,
            False,
            10.0,
            64,
            False,
        )
        decode_graph = TorchGraph(DecodeGraph(model))
        token_graph = TorchGraph(TokenGraph(model))
        text = text_graph.TextGraph(text_info, TorchGraph(TextGraph(model)), backend)
        rows = RowDecoder(decoder_info, config.proj_dim, lambda _: decode_graph, backend)

        def scores(embedding: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return token_graph({"caption_embedding": embedding})["token_logits"].numpy()

        with torch.no_grad():
            features = plain_features(model, images)
            memory = model.remember(features.pixels, features.mask_features)
        size = (images.shape[2], images.shape[3])
        values = (*memory.keys, *memory.values, *memory.mask_features)
        named = dict(zip(memory_names(config.decoder), values, strict=True))
        state = ImageState(Letterbox(size, size, size), named)
        writer = CaptionWriter(text, rows, tokenizer, scores, config.num_queries, stops)
        return cls(model, images, features, state, writer, rows, tokenizer)

    def opening(self, prompt: str | None = None) -> Opening:
        return self.writer.open(prompt)

    def drafts(
        self,
        opening: Opening,
        beams: int = 1,
        max_tokens: int | None = None,
        region: Tensor | None = None,
    ) -> Iterator[Draft]:
        levels = None
        if region is not None:
            levels = region_levels(region[0].numpy(), self.state.letterbox, self.rows.level_strides)
        (decoded,) = self.rows.decode(self.state, [self.writer.group(opening, levels)])
        return self.writer.drafts(self.state, opening, decoded, beams, max_tokens)

    def logits_after(self, token_ids: Sequence[int], region: Tensor | None) -> Tensor:
        """Scores of the next token, everything anew in the original's order."""
        return logits_after(self.model, self.features, token_ids, region)


def logits_after(
    model: XDecoder, features: PlainFeatures, token_ids: Sequence[int], region: Tensor | None = None
) -> Tensor:
    """Scores of the token after others, the whole decoder anew in the original's order."""
    queries = model.config.num_queries
    groups = [tasks.latents(queries), tasks.group("caption", queries, len(token_ids))]
    layout = tasks.side_by_side(groups, tasks.LATENT_GROUP)
    with torch.no_grad():
        text = F.pad(model.text_encoder(torch.tensor([token_ids])), (0, 0, queries, 0))
        output = plain_decode(model, features, Rows.of([layout], text), region)
        return model.token_logits(output.caption_embedding[0, -1])


def recomputed(
    model: XDecoder,
    features: PlainFeatures,
    begun: Sequence[int],
    steps: int,
    end: int,
    region: Tensor | None = None,
    unrepeated: int = 0,
) -> tuple[list[int], float, float]:
    """Tokens after others up to an end, their mean log-probability, and how near a tie was.

    With `unrepeated` so many tokens in a row are never there twice.
    """
    written: list[int] = []
    log_probs, nearest = [], float("inf")
    for _ in range(steps):
        logits = logits_after(model, features, [*begun, *written], region)
        log_softmaxed = torch.log_softmax(logits, 0)
        ids = [*begun, *written]
        runs = [ids[i : i + unrepeated] for i in range(len(ids) - unrepeated + 1)]
        for token in set(ids) if unrepeated else ():
            if [*ids, token][-unrepeated:] in runs:
                logits[token] = -torch.inf
        first, second = logits.topk(2).values.tolist()
        nearest = min(nearest, first - second)
        token = int(logits.argmax())
        log_probs.append(float(log_softmaxed[token]))
        if token == end:
            break
        written.append(token)
    return written, float(np.mean(log_probs)), nearest


def small(tiny: ModelConfig, choice: random.Random) -> ModelConfig:
    """A small model with sizes of its own; widths differ so that none passes for another."""
    width = choice.choice([8, 16, 24])
    return replace(
        tiny,
        proj_dim=width,
        decoder=replace(
            tiny.decoder,
            num_queries=choice.randint(2, 9),
            hidden_dim=width,
            heads=choice.choice([1, 2, 4]),
            layers=choice.randint(1, 4),
        ),
        text=replace(
            tiny.text,
            width=choice.choice([12, 20]),
            heads=choice.choice([1, 2, 4]),
            layers=choice.randint(1, 3),
            context_length=choice.randint(8, 14),
            token_rank=choice.choice([0, 6]),
            vocabulary_size=514,
        ),
    )


def drawn(config: ModelConfig, seed: int, size: tuple[int, int] = (32, 64)) -> Studio:
    """A random model before a random image; of its 514 tokens the end is a likely one."""
    torch.manual_seed(seed)
    model = XDecoder(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim >= 2:
                value.normal_(0, max(0.05, value[0].numel() ** -0.5))
            elif name.endswith("bias"):
                value.normal_(0, 0.2)
        model.text_encoder.token_embedding.weight[-1] *= 3.0
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(1, 3, *size, generator=generator, dtype=torch.float64)
    return Studio.of(model, images)


def a_region(choice: random.Random, size: tuple[int, int]) -> Tensor:
    region = torch.zeros(1, *size, dtype=torch.bool)
    top, left = choice.choice([0, size[0] // 2]), choice.choice([0, size[1] // 2])
    region[:, top : top + choice.randint(8, 32), left : left + choice.randint(8, 32)] = True
    # The position of each level at the region's corner is inside, so that no level is without.
    region[:, 0, 0] = True
    return region


@pytest.mark.parametrize("batch", range(10))
def test_caches_change_no_token(batch: int, tiny: ModelConfig) -> None:
    compared, captions = 0, set()
    for seed in range(20 * batch, 20 * batch + 20):
        choice = random.Random(seed)
        # PyTorch (2.13, CPU) resizes to a width of one pixel wrongly, so none is 64 by 32.
        size = choice.choice([(32, 32), (32, 64), (64, 64)])
        studio = drawn(small(tiny, choice), seed, size)
        prompt = "".join(choice.choices("abcdxyz", k=choice.randint(0, 3))) or None
        region = choice.choice([None, a_region(choice, size)])
        opening = studio.opening(prompt)
        end = studio.tokenizer.end_token
        expected, score, nearest = recomputed(
            studio.model, studio.features, opening.token_ids, 4, end, region
        )
        if nearest < NEAR:
            continue
        *_, caption = studio.drafts(opening, max_tokens=4, region=region)
        assert list(caption.token_ids) == expected, seed
        assert caption.score == pytest.approx(score, abs=1e-6)
        compared += 1
        captions.add(caption.token_ids)
    assert compared >= 16
    assert len(captions) >= 8, "the models write the same whatever they see"


def test_recomputation_is_the_originals(tiny: ModelConfig) -> None:
    # The original fills the text up to its whole length; what is not yet written is not seen.
    studio = drawn(small(tiny, random.Random(1)), 1)
    region = a_region(random.Random(1), (32, 64))
    start = studio.tokenizer.start_token
    for part in (None, region):
        with torch.no_grad():
            token_ids, _ = plain_caption(studio.model, studio.images, 5, part)
        written, _, _ = recomputed(studio.model, studio.features, [start], 5, -1, part)
        assert token_ids.tolist()[:6] == [start, *written]


def test_a_caption_may_fill_the_context(tiny: ModelConfig) -> None:
    studio = drawn(small(tiny, random.Random(2)), 2)
    with torch.no_grad():
        studio.model.text_encoder.token_embedding.weight[-1] = 0.0
    opening = studio.opening()
    room = studio.tokenizer.context_length - 1
    *_, caption = studio.drafts(opening)
    expected, _, _ = recomputed(studio.model, studio.features, opening.token_ids, room, 513)
    assert len(caption.token_ids) == len(expected) == room
    assert list(caption.token_ids) == expected


def beam_search(
    logits_of: Callable[[tuple[int, ...]], Tensor], beams: int, steps: int, end: int
) -> tuple[tuple[int, ...], float]:
    """Every continuation of every draft, weighed anew at each step."""
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    finished: list[tuple[tuple[int, ...], float]] = []
    for step in range(1, steps + 1):
        continued = []
        for ids, log_prob in live:
            following = torch.log_softmax(logits_of(ids), 0).tolist()
            continued += [(log_prob + p, ids, token) for token, p in enumerate(following)]
        continued.sort(key=lambda one: -one[0])
        finished += [(ids, p / step) for p, ids, token in continued[:beams] if token == end]
        going = [((*ids, token), p) for p, ids, token in continued if token != end]
        live = going[:beams]
        if len(finished) >= beams:
            break
    return max(finished or [(ids, p / step) for ids, p in live], key=lambda one: one[1])


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_beams_find_what_an_exhaustive_search_finds(
    seed: int, beams: int, tiny: ModelConfig
) -> None:
    studio = drawn(small(tiny, random.Random(seed)), seed)
    opening = studio.opening("ab")

    def logits_of(ids: tuple[int, ...]) -> Tensor:
        return studio.logits_after([*opening.token_ids, *ids], None)

    tokens, score = beam_search(logits_of, beams, 4, studio.tokenizer.end_token)
    *_, best = studio.drafts(opening, beams, 4)
    assert best.token_ids == tokens
    assert best.score == pytest.approx(score, abs=1e-6)
    assert best.finished


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 0.0), (np.float32, 2e-7)])
def test_a_logit_less_its_rows_normalisers_is_pytorchs_log_softmax(
    dtype: type[np.floating], atol: float
) -> None:
    logits = np.random.default_rng(0).normal(0, 50, (3, 7)).astype(dtype)
    expected = torch.log_softmax(torch.from_numpy(logits).double(), -1)
    highest, log_totals = normalisers(logits)
    actual = logits.astype(np.float64) - highest[:, None] - log_totals[:, None]
    np.testing.assert_allclose(actual, expected.numpy(), atol=atol)


@dataclass
class Script:
    """Scores that write given tokens, one a step, whatever the image."""

    token_ids: Sequence[int]
    vocabulary: int
    step: int = 0

    def __call__(self, embedding: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = np.zeros((len(embedding), self.vocabulary), np.float32)
        logits[:, self.token_ids[self.step]] = 20.0
        self.step += 1
        return logits


def scripted(tiny: ModelConfig, text: str, stops: Sequence[str] = ()) -> Studio:
    """A studio that writes the bytes of a text, and an end."""
    config = replace(tiny, text=replace(tiny.text, vocabulary_size=514, context_length=40))
    studio = drawn(config, 0)
    tokenizer = studio.tokenizer
    ids = tokenizer([text])
    script = Script(ids[0, 1 : tokenizer.lengths(ids)[0]].tolist(), 514)
    writer = studio.writer
    studio.writer = CaptionWriter(
        writer._text, studio.rows, tokenizer, script, config.num_queries, stops
    )
    return studio


def test_an_end_token_ends(tiny: ModelConfig) -> None:
    studio = scripted(tiny, "a mug")
    opening = studio.opening()
    drafts = list(studio.drafts(opening))
    assert [len(draft.token_ids) for draft in drafts] == [1, 2, 3, 4, 4]
    assert [draft.finished for draft in drafts] == [False] * 4 + [True]
    caption = studio.writer.caption(opening, drafts[-1])
    assert caption.text == "a mug"
    # The end is a token too, as sure as the others.
    assert drafts[-1].scored == 5
    assert caption.score == pytest.approx(-np.log1p(513 * np.exp(-20.0)))


@pytest.mark.parametrize("most", [1, 2, 4])
def test_a_caption_has_a_longest_length(most: int, tiny: ModelConfig) -> None:
    studio = scripted(tiny, "a mug on a table")
    opening = studio.opening()
    *_, last = studio.drafts(opening, max_tokens=most)
    assert len(last.token_ids) == last.scored == most
    assert last.finished


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("a mug. and more", (".",), "a mug"),
        ("a mug. and more", (), "a mug. and more"),
        ("a mug; or not. no", (".", ";"), "a mug"),
        ("one mug and two", ("and",), "one mug"),
    ],
)
def test_a_caption_ends_before_a_stop(
    text: str, stops: Sequence[str], expected: str, tiny: ModelConfig
) -> None:
    studio = scripted(tiny, text, stops)
    opening = studio.opening()
    *_, last = studio.drafts(opening)
    assert studio.writer.caption(opening, last).text == expected


def test_a_stop_in_the_prompt_ends_nothing(tiny: ModelConfig) -> None:
    studio = scripted(tiny, "on it", (".",))
    opening = studio.opening("no. 1")
    *_, last = studio.drafts(opening)
    assert studio.writer.caption(opening, last).text == "no. 1 on it"


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("a mug on a table", ()),
        ("a mug. more", (".",)),
        ("it's what they're at", ()),
        ("don't 'this' 'll", ()),
        ("a 日本語 mug 🦆", ()),
        ("the end of it", ("end",)),
        ("an enormous end", ("end",)),
        ("it's over", ("'s",)),
    ],
)
def test_pieces_are_whole_letters_and_join_to_the_caption(
    text: str, stops: Sequence[str], tiny: ModelConfig
) -> None:
    studio = scripted(tiny, text, stops)
    opening = studio.opening()
    told, final = "", None
    for draft in studio.drafts(opening):
        settled = studio.writer.settled(opening, draft)
        assert settled.startswith(told), "what was told is taken back"
        assert "\N{REPLACEMENT CHARACTER}" not in settled
        told, final = settled, draft
    assert final is not None
    assert told == studio.writer.caption(opening, final).text


@pytest.mark.parametrize(
    ("beams", "most", "named"),
    [(0, None, "beams is 0.*1 to 64"), (65, None, "beams is 65"), (1, 0, "max_tokens is 0")],
)
def test_numbers_out_of_range(beams: int, most: int | None, named: str, tiny: ModelConfig) -> None:
    studio = scripted(tiny, "a")
    with pytest.raises(ArgumentError, match=named):
        list(studio.drafts(studio.opening(), beams, most))


def test_no_more_tokens_than_the_context_has_room_for(tiny: ModelConfig) -> None:
    studio = scripted(tiny, "a")
    opening = studio.opening("abc")
    with pytest.raises(ArgumentError, match="1 to 36, what the context length leaves"):
        list(studio.drafts(opening, 1, 37))


@pytest.fixture(scope="module")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tiny_plan, threads=1, cache_dir=tmp_path_factory.mktemp("cache")) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tiny: ModelConfig) -> XDecoder:
    """The model of the tiny plan, by its seed."""
    torch.manual_seed(0)
    return XDecoder(tiny).eval().requires_grad_(False)


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def seen_by(model: XDecoder, image: np.ndarray[Any, Any]) -> PlainFeatures:
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()
    mean = torch.tensor(model.config.pixel_mean)[:, None, None]
    std = torch.tensor(model.config.pixel_std)[:, None, None]
    with torch.no_grad():
        return plain_features(model, ((pixels - mean) / std)[None])


@pytest.mark.parametrize("prompt", [None, "a photo of"])
@pytest.mark.parametrize("box", [None, (8, 0, 40, 64)])
def test_a_plan_writes_what_recomputation_writes(
    prompt: str | None,
    box: tuple[int, int, int, int] | None,
    engine: Engine,
    model: XDecoder,
) -> None:
    tokenizer = ClipTokenizer.default()
    begun = tokenizer([prompt or ""])
    begun = begun[0, : tokenizer.lengths(begun)[0] - 1].tolist()
    region = None
    if box is not None:
        region = torch.zeros(1, 64, 64, dtype=torch.bool)
        region[:, box[1] : box[3], box[0] : box[2]] = True
    compared = 0
    for seed in range(3):
        image = picture(seed)
        written, score, nearest = recomputed(
            model,
            seen_by(model, image),
            begun,
            5,
            tokenizer.end_token,
            region,
            engine.manifest.text.no_repeat_ngram,
        )
        text = tokenizer.decode([*begun, *written])
        if nearest < 1e-4 or "." in text:
            continue
        caption = engine.caption(image, prompt, box, max_tokens=5)
        assert caption.text == text
        assert caption.score == pytest.approx(score, abs=1e-4)
        compared += 1
    assert compared


def test_streamed_pieces_are_the_caption(engine: Engine) -> None:
    state = engine.encode(picture(5))
    caption = engine.caption(state, max_tokens=12)
    pieces = list(engine.caption_stream(state, max_tokens=12))
    assert "".join(pieces) == caption.text
    assert len(pieces) > 1


def test_a_stream_holds_back_half_a_letter(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ClipTokenizer.default()
    ids = tokenizer(["a 🦩 isn't"])
    script = Script(ids[0, 1 : tokenizer.lengths(ids)[0]].tolist(), tokenizer.vocab_size)
    monkeypatch.setattr(engine._runtime, "token_logits", script)
    pieces = list(engine.caption_stream(picture(1)))
    assert "".join(pieces) == "a 🦩 isn't"
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


def test_beams_are_asked_for_in_the_call(engine: Engine) -> None:
    state = engine.encode(picture(6))
    greedy, beams = (engine.caption(state, beams=n, max_tokens=4) for n in (1, 3))
    assert greedy.score <= 0.0 and beams.score <= 0.0
    with pytest.raises(ArgumentError, match="beams"):
        engine.caption(state, beams=0)
    with pytest.raises(ArgumentError, match="max_tokens"):
        engine.caption(state, max_tokens=77)


@pytest.mark.parametrize("prompt", ["", "  ", "nul\0", "\ud800", 3])
def test_prompts_that_cannot_be_gone_on_from(prompt: object, engine: Engine) -> None:
    with pytest.raises(VocabularyError, match="The prompt"):
        engine.caption(picture(0), prompt)  # type: ignore[call-overload]


def test_a_prompt_over_the_context_length_is_cut_with_a_warning(engine: Engine) -> None:
    prompt = "long " * 80
    with pytest.warns(RuntimeWarning, match="'long long.*is cut to its first 75 tokens"):
        engine.caption(picture(0), prompt)
    with pytest.raises(VocabularyError, match="'long long.*too long.*at most 75 tokens"):
        engine.caption(picture(0), prompt, strict=True)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_tokens_that_would_repeat_are_those_that_a_plain_search_finds(
    token_ids: list[int], length: int
) -> None:
    def runs(ids: list[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)]

    longer = {token: runs([*token_ids, token]) for token in range(4)}
    expected = {token for token, found in longer.items() if found and found[-1] in found[:-1]}
    assert repeating_tokens(token_ids, length) == expected


@pytest.fixture(scope="module")
def looping(tiny: ModelConfig) -> Studio:
    """A studio whose scores are made of few tokens, again and again."""
    return scripted(tiny, "loop")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([None, "a mug", "aba aba"]),
)
def test_no_run_of_tokens_is_written_twice_whatever_the_scores(
    looping: Studio, seed: int, length: int, beams: int, prompt: str | None
) -> None:
    rng = np.random.default_rng(seed)
    favourites = rng.choice(np.arange(30, 90), 3, replace=False)

    def scores(embedding: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = rng.normal(0, 0.1, (len(embedding), 514)).astype(np.float32)
        logits[:, favourites] += 20.0
        return logits

    writer = CaptionWriter(
        looping.writer._text, looping.rows, looping.tokenizer, scores,
        looping.model.config.num_queries, (), 1.0, length,
    )  # fmt: skip
    studio = replace(looping, writer=writer)
    opening = studio.opening(prompt)
    for draft in studio.drafts(opening, beams):
        ids = [*opening.token_ids, *draft.token_ids]
        runs = [tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)]
        # A prompt may repeat itself; what is written after it repeats nothing.
        own = range(max(0, len(opening.token_ids) - length + 1), len(runs))
        assert all(runs[i] not in runs[:i] for i in own)


def test_a_rule_against_repeating_leaves_other_captions_as_they_are(tiny: ModelConfig) -> None:
    free, bound = scripted(tiny, "a red mug"), scripted(tiny, "a red mug")
    bound.writer._no_repeat_ngram = 2
    captions = []
    for studio in (free, bound):
        opening = studio.opening()
        *_, last = studio.drafts(opening)
        captions.append(studio.writer.caption(opening, last))
    assert captions[0] == captions[1] and captions[0].text == "a red mug"


def test_plans_of_compact_models_have_the_rule_and_those_of_published_ones_have_not(
    tiny_plan: Path,
) -> None:
    with Plan.open(tiny_plan) as plan:
        text = plan.manifest.text
        assert text.no_repeat_ngram == NO_REPEAT_NGRAM == 3
    # As plans were before, and as those of published models are.
    assert TextInfo.__dataclass_fields__["no_repeat_ngram"].default == 0
