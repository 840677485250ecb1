"""Scenes composed of a bank: true to their labels, repeatable, data like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2", reason="composing needs opencv-python-headless")

from xdecoder_rt.datasets.items import NOTHING
from xdecoder_rt.scenes.bank import composer as composing
from xdecoder_rt.scenes.bank.composed import ComposedScenes
from xdecoder_rt.scenes.bank.composer import Composer
from xdecoder_rt.scenes.bank.relief import relief
from xdecoder_rt.scenes.bank.store import Bank
from xdecoder_rt.scenes.names import synonyms
from xdecoder_rt.training.answers import frequent_answers
from xdecoder_rt.training.dataset import TrainingSet
from xdecoder_rt.training.sampler import SampleKey

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def composer(tiny_bank: Path) -> Composer:
    return Composer(Bank(tiny_bank))


@pytest.fixture(scope="module")
def scenes(tiny_bank: Path) -> ComposedScenes:
    return ComposedScenes(tiny_bank)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_ids_agree_with_labels_and_everything_is_large_enough(
    composer: Composer, seed: int
) -> None:
    scene = composer.compose(np.random.default_rng(seed))
    assert scene.image.dtype == np.uint8
    assert scene.image.shape == (*scene.ids.shape, 3)
    present, counts = np.unique(scene.ids[scene.ids > 0], return_counts=True)
    assert present.tolist() == sorted(scene.labels) == list(range(1, len(scene.labels) + 1))
    assert (counts >= 40).all()
    assert set(scene.labels.values()) <= {"ball", "cup", "box", "table", "floor", "grass"}
    assert scene.ids.min() >= NOTHING


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_same_generator_composes_the_same(composer: Composer, seed: int) -> None:
    first, second = (composer.compose(np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.ids, second.ids)
    assert first.labels == second.labels


def test_every_kind_of_ground_occurs_and_nothing_is_known_on_photographs_alone(
    composer: Composer,
) -> None:
    grounds = set()
    for seed in range(60):
        scene = composer.compose(np.random.default_rng(seed))
        stuff = {"floor", "grass"} & set(scene.labels.values())
        if (scene.ids == NOTHING).any():
            assert not stuff
            grounds.add("photograph")
        else:
            grounds |= stuff
    assert grounds == {"photograph", "floor", "grass"}


def test_a_bank_of_rooms_and_things_alone_composes_rooms(tiny_bank: Path) -> None:
    bank = Bank(tiny_bank)
    bank.photographs = ()
    bank.scenes = tuple(s for s in bank.scenes if not set(s.labels.values()) <= bank.stuff)
    rooms = Composer(bank)
    counts = []
    for seed in range(40):
        scene = rooms.compose(np.random.default_rng(seed))
        assert "floor" in scene.labels.values()
        counts.append(len(scene.labels))
    assert min(counts) == 3  # the room as it is
    assert max(counts) > 3  # with things pasted on it


@pytest.mark.parametrize(("share", "lit"), [(0.0, 0), (1.0, 20)])
def test_the_share_of_drawings_that_are_lit_can_be_chosen(
    tiny_bank: Path, monkeypatch: pytest.MonkeyPatch, share: float, lit: int
) -> None:
    calls = []

    def counted(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        calls.append(pixels)
        return relief(pixels, rng)

    monkeypatch.setattr(composing, "relief", counted)
    composer = Composer(Bank(tiny_bank), relief=share)
    for seed in range(20):
        composer._cut_out("cup", np.random.default_rng(seed))  # there are drawn cups alone
    assert len(calls) == lit


def test_a_thing_pasted_is_where_its_pixels_are(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A white thing on black, blended by its own mask, differs from black where it is labelled."""
    monkeypatch.setattr(Composer, "_exposed", lambda self, image, rng: image)
    black = composing.Composition(
        np.zeros((120, 160, 3), np.uint8), np.full((120, 160), NOTHING, np.int16), {}
    )
    composer._paste_all(black, 3, np.random.default_rng(1))
    assert black.labels
    bright = black.image.max(axis=2) > 20
    labelled = black.ids > 0
    assert (bright & labelled).sum() > 0.95 * labelled.sum()
    assert (bright & ~labelled).sum() < 0.1 * labelled.sum()  # half covered border pixels


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 12))
def test_nothing_is_covered_too_far(composer: Composer, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.full((100, 140), NOTHING, np.int16)
    ids[40:60, 60:90] = 1
    scene = composing.Composition(np.zeros((100, 140, 3), np.uint8), ids, {1: "table"})
    first: dict[int, int] = {1: 600}
    for number in range(2, 2 + count):
        cut_out = composer._varied(composer._cut_out("cup", rng), count, 100, rng)
        canvas = scene.image.astype(np.float32)
        area = composing._paste(canvas, scene.ids, cut_out, number, first, rng)
        if area:
            assert area == np.count_nonzero(scene.ids == number)
            first[number] = area
        for thing, whole in first.items():
            assert np.count_nonzero(scene.ids == thing) >= 0.4 * whole


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_relief_changes_colours_and_keeps_the_outline(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :50]
    drawing = np.full((40, 50, 4), 120, np.uint8)
    drawing[..., 3] = np.where(np.hypot(y - 20, x - 25) < 17, 255, 0)
    lit = relief(drawing, rng)
    assert lit.dtype == np.uint8
    assert np.array_equal(lit[..., 3], drawing[..., 3])
    inside = lit[..., :3][drawing[..., 3] > 0]
    assert inside.std() > 1  # a flat colour is flat no more


def test_an_item_agrees_with_itself(scenes: ComposedScenes) -> None:
    for number in range(25):
        item = scenes.items[number]
        ids = item.load_panoptic()
        assert [s.id for s in item.segments] == sorted(set(ids[ids > 0].tolist()))
        for segment in item.segments:
            assert segment.area == np.count_nonzero(ids == segment.id)
            assert segment.isthing == (segment.label not in {"floor", "grass"})
            assert segment.label in scenes.vocabulary
        known = {segment.id for segment in item.segments}
        assert all(known.issuperset(phrase.ids) for phrase in item.phrases)
        assert item.image == scenes.bank.folder


def test_an_item_is_the_same_whenever_it_is_read_and_another_than_its_neighbour(
    tiny_bank: Path, scenes: ComposedScenes
) -> None:
    one, again, other = scenes.items[7], ComposedScenes(tiny_bank).items[7], scenes.items[8]
    assert np.array_equal(one.load_image(), again.load_image())
    assert (one.segments, one.phrases, one.captions) == (
        again.segments, again.phrases, again.captions,
    )  # fmt: skip
    reseeded = ComposedScenes(tiny_bank, seed=1).items[7]
    for another in (other, reseeded):
        assert one.load_image().shape != another.load_image().shape or not np.array_equal(
            one.load_image(), another.load_image()
        )


def test_things_of_one_name_are_called_the_same_in_a_scene(scenes: ComposedScenes) -> None:
    called: set[str] = set()
    for number in range(60):
        words = {s.label for s in scenes.items[number].segments} & set(synonyms("ball"))
        assert len(words) <= 1
        called |= words
    assert called == {"ball", "sphere"}


def test_items_are_a_sequence(scenes: ComposedScenes) -> None:
    assert len(scenes.items[3:6]) == 3
    assert np.array_equal(scenes.items[-1].load_panoptic(), scenes.items[999_999].load_panoptic())
    with pytest.raises(IndexError):
        scenes.items[1_000_000]


def test_a_training_set_reads_composed_scenes(scenes: ComposedScenes) -> None:
    examples = TrainingSet([scenes], 64, 16, 0)
    drawn = [examples[SampleKey(0, i, i)] for i in range(12)]
    assert all(example.image.shape == (64, 64, 3) for example in drawn)
    assert any(example.targets.labels for example in drawn)
    assert any(example.caption for example in drawn)
    again = examples[SampleKey(0, 5, 5)]
    assert np.array_equal(again.image, drawn[5].image)
    assert np.array_equal(again.targets.ids, drawn[5].targets.ids)


def test_answers_are_counted_on_some_of_the_items(
    scenes: ComposedScenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdecoder_rt.training.answers.COMPOSED_ITEMS", 20)
    answers = frequent_answers([scenes])
    assert {"yes", "no"} <= set(answers)
