"""Phrases: which query each takes, its score and mask, and what cannot be referred by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_postprocess
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt import Engine, tasks
from xdecoder_rt.errors import ArgumentError, VocabularyError
from xdecoder_rt.image import letterbox
from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.models.plain import plain_forward
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.questions import refer as grounding
from xdecoder_rt.results import Reference
from xdecoder_rt.state import DecodedRows
from xdecoder_rt.words.tokenizer import ClipTokenizer

PHRASES = ["the red mug", "the robot arm left of the mug", "floor"]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tiny_plan, threads=1, cache_dir=tmp_path_factory.mktemp("cache")) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tiny: ModelConfig) -> XDecoder:
    """The model of the tiny plan, by its seed."""
    torch.manual_seed(0)
    return XDecoder(tiny).eval().requires_grad_(False)


def picture(height: int = 50, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(first: Reference, second: Reference) -> bool:
    return (
        first.phrase == second.phrase
        and bool((first.mask == second.mask).all())
        and first.score == pytest.approx(second.score, abs=1e-5)
        and bool((first.box == second.box).all())
    )


def test_one_entry_a_phrase_in_the_pixels_of_the_image(engine: Engine) -> None:
    found = engine.refer(picture(), PHRASES)
    assert [reference.phrase for reference in found] == PHRASES
    for reference in found:
        assert reference.mask.shape == (50, 60)
        assert reference.mask.dtype == np.bool_
        assert 0.0 <= reference.score <= 1.0
        rows, columns = np.nonzero(reference.mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else 0
        assert (reference.box == box).all()


def test_a_phrase_below_the_least_score_is_not_found_and_keeps_its_score(engine: Engine) -> None:
    state = engine.decode(picture())
    free = engine.refer(state, PHRASES, min_score=0)
    middle = sorted(reference.score for reference in free)[1]
    for least in (middle, 1.0):
        for before, after in zip(free, engine.refer(state, PHRASES, min_score=least), strict=True):
            assert (after.phrase, after.score) == (before.phrase, before.score)
            if before.score >= least:
                assert same(before, after)
            else:
                assert not after.found and after.mask.shape == (50, 60) and not after.box.any()
                assert after.to_dict()["found"] is False
    run = engine.run(state, refer=PHRASES, segment=["mug"], task="instance", min_score=middle)
    assert run.refer is not None and run.segment is not None
    assert [r.found for r in run.refer] == [r.found and r.score >= middle for r in free]
    assert all(info["score"] >= middle for info in run.segment.segments_info)
    finding = engine.find([state], PHRASES[0], min_score=1.0)
    assert finding.reference.score == pytest.approx(free[0].score, abs=1e-5)
    assert not finding.reference.found


def test_without_a_found_phrase_no_mask_is_formed() -> None:
    group = group_of(np.array([[1.0, 0.0]], np.float32), np.zeros((1, 2), np.float32))

    def masks(embeddings: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing was found")

    across, along = np.array([[0.0, 1.0]], np.float32), np.array([1.0, 0.0], np.float32)
    box = Letterbox((8, 8), (8, 8), (8, 8))
    (reference,) = grounding.read_references(
        ["mug"], [across], [group], along, 10.0, masks, box, 0.0, 1, 0.25
    )
    assert reference.score < 0.25 and not reference.found


@pytest.mark.parametrize(("nouns", "chosen"), [([0.9, 0.2], 0), ([0.01, 0.9], 1)])
def test_phrase_and_noun_decide_together_which_query_it_is(nouns: list[float], chosen: int) -> None:
    """By the phrase alone it is the first query; its noun may say that this is another thing."""
    likeness = np.array([0.6, 0.5], np.float32)
    embeddings = np.stack([likeness, np.zeros(2), np.sqrt(1 - likeness**2)], axis=1)
    group = group_of(embeddings.astype(np.float32), np.array([[0.0, 1.0], [1.0, 0.0]], np.float32))
    phrase, background = np.eye(3, dtype=np.float32)[:2]
    formed: list[np.ndarray] = []

    def masks(chosen_embeddings: np.ndarray) -> np.ndarray:
        formed.append(chosen_embeddings)
        return np.ones((len(chosen_embeddings), 2, 2), np.float32)

    (reference,) = grounding.read_references(
        ["mug"],
        [phrase[None]],
        [group],
        background,
        10.0,
        masks,
        Letterbox((8, 8), (8, 8), (8, 8)),
        0.0,
        1,
        noun_scores=[np.array(nouns, np.float32)],
    )
    of_phrase = 1 / (1 + np.exp(-10 * likeness[chosen]))
    assert reference.score == pytest.approx(np.sqrt(of_phrase * nouns[chosen]), abs=1e-4)
    np.testing.assert_array_equal(formed[0], group.answer("refer")[1][[chosen]])


def test_a_phrase_does_not_depend_on_the_others(engine: Engine) -> None:
    state = engine.encode(picture())
    together = engine.refer(state, PHRASES)
    for place, phrase in enumerate(PHRASES):
        (alone,) = engine.refer(state, [phrase])
        assert same(together[place], alone)
    backwards = engine.refer(state, PHRASES[::-1])
    assert all(same(*pair) for pair in zip(together, backwards[::-1], strict=True))
    # The same phrase twice is two entries.
    assert same(*engine.refer(state, [PHRASES[0]] * 2))


def asked_plainly(
    model: XDecoder, phrases: Sequence[str], image: np.ndarray
) -> tuple[Tensor, Tensor, list[Tensor], Letterbox]:
    """The original's group of all phrases: class embeddings and mask logits of the copies.

    Also the features of each phrase's tokens, and where the image lies in the input.
    """
    config, tokenizer = model.config, ClipTokenizer.default()
    ids = tokenizer(phrases)
    lengths = tokenizer.lengths(ids).tolist()
    frame, box = letterbox(image, SIZE)
    pixels = torch.from_numpy(frame).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.pixel_mean, config.pixel_std))
    images = ((pixels - mean) / std)[None]
    images[:, :, box.valid[0] :] = 0.0
    images[:, :, :, box.valid[1] :] = 0.0
    with torch.no_grad():
        encoded = model.text_encoder(torch.from_numpy(ids))
        features = [row[:length] for row, length in zip(encoded, lengths, strict=True)]
        queries = config.num_queries
        group = tasks.group("refer", queries, sum(lengths))
        layout = tasks.side_by_side([tasks.latents(queries), group], tasks.LATENT_GROUP)
        text = F.pad(torch.cat(features), (0, 0, 2 * queries - 1, 0))[None]
        output = plain_forward(model, images, Rows.of([layout], text))
    copies = slice(queries, 2 * queries - 1)
    classes = output.layers[-1].class_embedding[0, copies]
    return classes, output.mask_logits[-1][0, copies], features, box


def background(engine: Engine) -> Tensor:
    """The void class as phrases are compared with it: its bare name, of unit length."""
    return F.normalize(torch.from_numpy(engine.embed_text(["background"])[0]), dim=0)


@pytest.mark.parametrize("phrases", [PHRASES, PHRASES[1:2]], ids=["all", "one"])
def test_joint_phrases_are_the_originals_group(
    phrases: list[str], engine: Engine, model: XDecoder
) -> None:
    image = picture()
    classes, mask_logits, features, box = asked_plainly(model, phrases, image)
    found = engine.refer(image, phrases, joint=True, min_score=0)
    scale = min(float(model.text_encoder.logit_scale.exp()), 100.0)
    void = background(engine)
    for own, reference in zip(features, found, strict=True):
        likeness = F.cosine_similarity(classes, own[-1:])
        best = int(likeness.argmax())
        against = torch.stack((likeness[best], F.normalize(classes[best], dim=0) @ void))
        assert reference.score == pytest.approx(float((scale * against).softmax(0)[0]), abs=1e-4)
        logits = plain_postprocess.full_size_logits(mask_logits[best : best + 1].numpy(), box)
        clear = np.abs(logits[0]) > 1e-4 * np.abs(logits).max()
        assert clear.mean() > 0.99
        assert (reference.mask == (logits[0] > 0))[clear].all()


def test_phrases_asked_jointly_depend_on_one_another(engine: Engine) -> None:
    state = engine.encode(picture())
    joint, alone = engine.refer(state, PHRASES, joint=True), engine.refer(state, PHRASES)
    assert any(
        abs(a.score - b.score) > 1e-6 or (a.mask != b.mask).any()
        for a, b in zip(joint, alone, strict=True)
    )
    # One phrase is a group either way.
    assert same(*(engine.refer(state, PHRASES[:1], joint=j)[0] for j in (False, True)))


def test_groups_of_phrases() -> None:
    features = [np.full((length, 4), length, np.float32) for length in (3, 5)]
    alone = grounding.phrase_groups(features, 6, joint=False)
    assert [len(group.layout) for group in alone] == [5 + 3, 5 + 5]
    assert [group.text.shape for group in alone] == [(3, 4), (5, 4)]
    (joint,) = grounding.phrase_groups(features, 6, joint=True)
    assert len(joint.layout) == 5 + 8
    assert joint.text[:, 0].tolist() == [3.0] * 3 + [5.0] * 5


def group_of(classes: np.ndarray, masks: np.ndarray) -> DecodedRows:
    """A decoded group: copies of some objects, and two rows of a phrase along the first axis."""
    copies = len(classes)
    layout = tasks.group("refer", copies + 1, 2)
    text = 1e3 * np.eye(1, classes.shape[1], dtype=np.float32).repeat(2, axis=0)
    return DecodedRows(
        layout,
        np.concatenate((classes, text)),
        np.concatenate((masks, np.full((2, masks.shape[1]), 1e3, np.float32))),
        np.zeros((copies + 2, 1), np.float32),
        (),
        (),
    )


def read(
    group: DecodedRows, embedding: np.ndarray, void: np.ndarray, scale: float = 10.0
) -> tuple[Reference, np.ndarray]:
    """The reference of one phrase, and the mask embedding that it took."""
    taken = []

    def masks(embeddings: np.ndarray) -> np.ndarray:
        taken.append(embeddings)
        return np.ones((len(embeddings), 8, 8), np.float32)

    (reference,) = grounding.read_references(
        ["a mug"],
        [np.stack((np.full_like(embedding, 9.0), embedding))],
        [group],
        void,
        scale,
        masks,
        Letterbox((32, 32), (32, 32), (32, 32)),
        0.0,
        1,
    )
    return reference, taken[0][0]


def test_a_phrase_takes_the_nearest_query_by_angle() -> None:
    # Longer, but further away in angle; text rows are no candidates.
    classes = np.array([[0.0, 9.0, 9.0], [1.0, 0.2, 0.0], [0.0, 0.0, 5.0]], np.float32)
    masks = np.arange(6, dtype=np.float32).reshape(3, 2)
    phrase, void = np.array([3.0, 0.0, 0.0], np.float32), np.array([0.0, 0.0, 1.0], np.float32)
    reference, taken = read(group_of(classes, masks), phrase, void)
    assert taken.tolist() == [2.0, 3.0]
    cosine = 1.0 / np.hypot(1.0, 0.2)
    assert reference.score == pytest.approx(1 / (1 + np.exp(-10.0 * cosine)), rel=1e-5)


def test_a_score_weighs_the_phrase_against_nothing() -> None:
    classes, masks = np.array([[1.0, 0.0]], np.float32), np.zeros((1, 2), np.float32)
    along, across = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    group = group_of(classes, masks)
    assert read(group, along, along)[0].score == pytest.approx(0.5, abs=1e-5)
    assert read(group, across, along)[0].score == pytest.approx(1 / (1 + np.exp(10.0)), rel=1e-4)
    # The original clamps the factor of the cosines at 100; exp of it overflows nothing.
    tilted = np.array([0.99, -np.sqrt(1 - 0.99**2)], np.float32)
    expected = 1 / (1 + np.exp(-100.0 * (1 - 0.99)))
    assert read(group, along, tilted, 1e9)[0].score == pytest.approx(expected, rel=1e-3)
    assert read(group, -along, along, 1e9)[0].score == pytest.approx(0.0, abs=1e-30)


def test_the_first_copy_sees_all_of_the_image() -> None:
    layout = tasks.group("refer", 9, 4)
    assert tasks.sees_everything(layout).tolist() == [True] + [False] * 11


@pytest.mark.parametrize(
    ("phrases", "error", "named"),
    [
        ([], ArgumentError, "There are no phrases.*at least one"),
        ("the mug", ArgumentError, "phrases is 'the mug'.*a list of phrases"),
        (None, ArgumentError, "phrases is None"),
        (7, ArgumentError, "phrases is 7"),
        (["mug", ""], VocabularyError, "Phrase 1 is empty"),
        (["  "], VocabularyError, "Phrase 0 is empty"),
        (["mug", 3], VocabularyError, "Phrase 1 is a int"),
        (["nul\0"], VocabularyError, "Phrase 0"),
        (["\ud800"], VocabularyError, "Phrase 0"),
        (["x" * 1_000_000], VocabularyError, "Phrase 0 has 1000000 characters"),
        (
            [f"mug {i}" for i in range(65)],
            ArgumentError,
            "65 phrases.*64.*--max-phrases 65",
        ),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else "",
)
def test_phrases_that_cannot_be_referred_by(
    phrases: object, error: type[Exception], named: str, engine: Engine
) -> None:
    with pytest.raises(error, match=named):
        engine.refer(picture(), phrases)  # type: ignore[call-overload]
    if phrases is not None:
        with pytest.raises(error, match=named):
            engine.run(picture(), refer=phrases)


def test_the_plan_says_how_many_phrases_it_allows(
    altered: Callable[[Callable[[Manifest], Manifest]], Path], tmp_path: Path
) -> None:
    def of_two(manifest: Manifest) -> Manifest:
        return replace(manifest, decoder=replace(manifest.decoder, max_phrases=2))

    with Engine(altered(of_two), cache_dir=tmp_path / "cache") as engine:
        assert len(engine.refer(picture(), PHRASES[:2])) == 2
        with pytest.raises(ArgumentError, match="3 phrases.*at most 2"):
            engine.refer(picture(), PHRASES)


def test_a_phrase_over_the_context_length(engine: Engine) -> None:
    phrase = "very " * 80 + "red mug"
    with pytest.warns(RuntimeWarning, match="'very very.*cut to its first 75 tokens") as caught:
        engine.refer(picture(), ["mug", phrase])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.raises(VocabularyError, match="'very very.*too long.*at most 75 tokens.*shorten"):
        engine.refer(picture(), ["mug", phrase], strict=True)
    # The longest that fits is not cut.
    engine.refer(picture(), ["mug " * 75], strict=True)


def test_images_of_a_list_may_have_phrases_each(engine: Engine) -> None:
    images = [picture(seed=1), picture(30, 90, seed=2)]
    for_all = engine.refer(images, PHRASES)
    assert [len(found) for found in for_all] == [3, 3]
    each = engine.refer(images, [PHRASES[:1], PHRASES[1:]])
    assert [len(found) for found in each] == [1, 2]
    assert same(each[0][0], for_all[0][0])
    assert all(same(*pair) for pair in zip(each[1], for_all[1][1:], strict=True))
    with pytest.raises(ArgumentError, match="phrases for 3 images and 2 images"):
        engine.refer(images, [PHRASES, PHRASES, PHRASES])
    with pytest.raises(ArgumentError, match="There are no phrases"):
        engine.refer(images, [PHRASES, []])
