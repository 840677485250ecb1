"""Words that nobody asked for and that compete all the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt import Engine, Vocabulary
from xdecoder_rt.errors import PlanError
from xdecoder_rt.masks.classification import class_probabilities, join_regions, with_distractors
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.manifest import DistractorInfo, RegionInfo
from xdecoder_rt.words.distractors import Distractors, distractors_of
from xdecoder_rt.words.region_names import RegionNames

WORDS = ["mug", "table", "robot arm"]
Rewrite = Callable[..., Path]


def info(likeness: float = 0.5, count: int = 3, for_regions: float = 0.5) -> DistractorInfo:
    return DistractorInfo(count, "distractors.f32", likeness, for_regions)


def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def rewritten(naming_plan: Path, tmp_path: Path) -> Rewrite:
    """Writes the plan with a classifier of regions anew, with distractors or without."""

    def write(
        name: str, vectors: np.ndarray | None, likeness: float = 0.5, **region: float
    ) -> Path:
        with Plan.open(naming_plan) as plan:
            members = {member: plan.read(member) for member in plan.names}
            manifest = plan.manifest
        assert manifest.region is not None
        manifest = dataclasses.replace(
            manifest, region=dataclasses.replace(manifest.region, **region)
        )
        if vectors is not None:
            members["distractors.f32"] = vectors.astype("<f4").tobytes()
            manifest = dataclasses.replace(manifest, distractors=info(count=len(vectors)))
        write_plan(tmp_path / name, manifest, members)
        return tmp_path / name

    return write


def test_a_word_keeps_out_what_is_like_it_and_void_keeps_out_nothing() -> None:
    vectors = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 0, 1]], np.float32)
    table = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    beside = {at: Distractors(info(at), vectors).beside(table) for at in (0.5, 0.7, 1.0)}
    np.testing.assert_array_equal(beside[0.5], vectors[2:])
    np.testing.assert_array_equal(beside[0.7], vectors[1:])
    np.testing.assert_array_equal(beside[1.0], vectors[1:])  # the word itself never competes


def test_what_competes_with_a_table_is_kept_for_its_next_call() -> None:
    distractors = Distractors(info(), np.eye(3, 4, dtype=np.float32))
    table = np.eye(3, 4, dtype=np.float32)[1:]
    assert distractors.beside(table) is distractors.beside(table)


def test_for_regions_another_likeness_keeps_out() -> None:
    vectors = np.array([[0.6, 0.8, 0, 0], [0, 0, 0, 1]], np.float32)
    distractors = Distractors(info(0.7, 2, for_regions=0.5), vectors)
    table = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    np.testing.assert_array_equal(distractors.beside(table), vectors)
    np.testing.assert_array_equal(distractors.beside_for_regions(table), vectors[1:])


def test_void_has_the_probability_of_all_that_competes() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32) * 30
    joined, part = with_distractors(logits[:, :4], logits[:, 4:])
    joined, every = class_probabilities(joined), class_probabilities(logits)
    np.testing.assert_allclose(joined[:, :3], every[:, :3], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(joined[:, 3], every[:, 3:].sum(axis=1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        joined[:, 3] * part[:, 0], every[:, 4:].sum(axis=1), rtol=1e-3, atol=1e-6
    )


def test_a_sure_classifier_says_what_a_distractor_is_and_leaves_void_alone() -> None:
    logits = np.array([[0.0, -1.0, 9.0]], np.float32)  # void has nearly all
    sure = np.array([[0.0, 1.0, 0.0]], np.float32)
    unsure = np.array([[0.05, 0.1, 0.85]], np.float32)

    def chosen(part: float, region: np.ndarray) -> int:
        joined = join_regions(logits, region, 0.2, 0.0, np.array([[part]], np.float32))
        np.testing.assert_allclose(np.exp(joined).sum(axis=1), 1, rtol=1e-5)
        return int(joined.argmax())

    assert chosen(0.9, sure) == 1
    assert chosen(0.1, sure) == 2
    assert chosen(0.9, unsure) == 2


def test_names_of_regions_that_mean_a_distractor_speak_for_void() -> None:
    table = np.eye(3, 4, dtype=np.float32)  # two words and void
    region = RegionInfo(width=4, names=2, vectors="v", weight=0.5, scale=20.0, void=0.0)
    vectors = np.array([[0.3, 0, 0, 0.9], [0.9, 0, 0, 0.3]], np.float32)
    rival = np.array([[0, 0, 0, 1]], np.float32)
    names = RegionNames(region, vectors, Distractors(info(count=1), rival))
    alone, contested = names.relation(table), names.relation(table, is_contested=True)
    np.testing.assert_allclose(contested.sum(axis=0), 1, rtol=1e-5)
    assert alone[0, 0] > 0.9 and contested[2, 0] > 0.9
    assert contested[0, 1] > 0.9  # what means the word still does
    assert names.relation(table) is alone and names.relation(table, True) is contested


def test_what_a_distractor_wins_is_nobodys(rewritten: Rewrite, naming_plan: Path) -> None:
    """The class embedding of the surest query, as a word that nobody asked for."""
    with Engine(rewritten("plain.plan", None, weight=0.0), backend="onnxruntime") as engine:
        before = engine.segment(frame(), WORDS)
        instances = engine.segment(frame(), WORDS, task="instance")
        state = engine.decode(frame())
        assert before.segments_info and len(instances.scores)
        assert state.latents is not None
        rows, _ = state.latents.answer("segment")
        words = engine.class_table(WORDS)[:-1]
        # As the queries see them, less what they have in common with the words.
        rows -= (rows @ words.T) @ np.linalg.pinv(words).T
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rivals = rewritten("rivals.plan", rows, weight=0.0)
    with Engine(rivals, backend="onnxruntime") as engine:
        assert not engine.segment(frame(), WORDS).segments_info
        semantic = engine.segment(frame(), WORDS, task="semantic")
        assert (semantic.segmentation >= 0).all()  # every pixel is one of the words
        weaker = engine.segment(frame(), WORDS, task="instance")
        assert weaker.scores.max(initial=0) < instances.scores.max()
        others = Vocabulary.parse(WORDS, other="thing")
        contested = engine.segment(frame(), others)
    with Engine(naming_plan, backend="onnxruntime") as engine:
        engine._runtime.regions = None
        # The other class has what is none of the words, so it is asked as ever.
        np.testing.assert_array_equal(
            engine.segment(frame(), others).segmentation, contested.segmentation
        )
    with Engine(rewritten("same.plan", words, weight=0.0), backend="onnxruntime") as engine:
        # The words themselves do not compete with themselves.
        np.testing.assert_array_equal(
            engine.segment(frame(), WORDS).segmentation, before.segmentation
        )


@pytest.mark.parametrize("data", [b"", b"\x00" * 5, b"\xff" * (2 * 16 * 4)])
def test_a_member_that_is_damaged_is_refused(
    rewritten: Rewrite, tmp_path: Path, data: bytes
) -> None:
    path = rewritten("whole.plan", np.eye(2, 16))
    with Plan.open(path) as plan:
        members = {name: plan.read(name) for name in plan.names} | {"distractors.f32": data}
        write_plan(tmp_path / "broken.plan", plan.manifest, members)
    with (
        Plan.open(tmp_path / "broken.plan") as broken,
        pytest.raises(PlanError, match="distractors of the plan"),
    ):
        distractors_of(broken)


def test_a_phrase_whose_noun_is_a_distractors_is_not_found(rewritten: Rewrite) -> None:
    phrase = "the mug on the left"
    with Engine(rewritten("plain.plan", np.eye(1, 16), weight=0.0)) as engine:
        (before,) = engine.refer(frame(), [phrase], min_score=0)
        state = engine.decode(frame())
        assert before.found and before.score > 0.05
        assert state.latents is not None
        rows, _ = state.latents.answer("segment")
        word = engine.class_table(["mug"])[:1]
        rows -= (rows @ word.T) * word
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rivals = np.tile(rows, (400, 1))  # as many as outbid any word
    with Engine(rewritten("rivals.plan", rivals, weight=0.0)) as engine:
        (after,) = engine.refer(frame(), [phrase])
        assert after.score < 0.05 and not after.found
        (asked,) = engine.refer(frame(), [phrase], min_score=0)
        assert asked.found


@pytest.mark.parametrize("phrase", ["[?]", "|", "...", "background", "the [red] mug", "mug" * 200])
def test_any_phrase_has_a_noun_that_can_be_asked_for(rewritten: Rewrite, phrase: str) -> None:
    with Engine(rewritten("any.plan", np.eye(2, 16)), backend="onnxruntime") as engine:
        (reference,) = engine.refer(frame(), [phrase], min_score=0)
        assert 0 <= reference.score <= 1
