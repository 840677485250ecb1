"""An evaluation asks the engine for the whole vocabulary and reports the agreed keys."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.evaluation.panoptic_quality import PanopticQuality

VOCABULARY = ("mug", "table", "wall", "robot arm")
STUFF = ("table", "wall")
MAP = np.array([[0, 1, 1, 3], [0, 1, 2, 2], [2, 2, 2, 2]], dtype=np.uint8)
LABELS = {1: "mug", 2: "table", 3: "mug"}


@dataclass(frozen=True)
class Answer:
    segmentation: np.ndarray
    segments_info: list[dict[str, Any]]


@dataclass
class Text:
    background: str = "background"
    strip_suffixes: tuple[str, ...] = ("-merged",)


@dataclass
class Manifest:
    text: Text = field(default_factory=Text)
    tasks: tuple[str, ...] = ("segment", "refer", "caption", "answer", "embed")


@dataclass
class Oracle:
    """Answers with the map that it is given, and notes what it was asked."""

    ids: np.ndarray
    classes: dict[int, int]
    manifest: Manifest = field(default_factory=Manifest)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def warm(self, vocabulary: Any, /) -> None:
        self.calls.append(("warm", tuple(vocabulary)))

    def encode(self, image: np.ndarray, /) -> int:
        self.calls.append(("encode", image.shape))
        return len(self.calls)

    def segment(
        self,
        state: Any,
        vocabulary: Any,
        /,
        *,
        task: str = "panoptic",
        stuff: Any = (),
        object_threshold: float | None = None,
        overlap_threshold: float | None = None,
    ) -> Answer:
        assert object_threshold is None and overlap_threshold is None, "the plan's own"
        self.calls.append((task, state, tuple(vocabulary), tuple(stuff)))
        if task == "semantic":
            return Answer(np.vectorize(lambda i: self.classes.get(i, -1))(self.ids), [])
        info = [{"id": i, "label_id": c} for i, c in self.classes.items()]
        return Answer(self.ids.astype(np.int32), info)


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    with LabelledFolderWriter(tmp_path, VOCABULARY, STUFF) as writer:
        for _ in range(3):
            writer.add(np.zeros((*MAP.shape, 3), np.uint8), MAP, LABELS)
    return LabelledFolder.open(tmp_path)


def test_a_perfect_answer_scores_100(folder: LabelledFolder) -> None:
    report = evaluate(Oracle(MAP, {1: 0, 2: 1, 3: 0}), folder, progress=False)
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    perfect = {"pq": 100, "sq": 100, "rq": 100}
    assert document["panoptic"] == {**perfect, "per_class": {"mug": perfect, "table": perfect}}
    assert document["semantic"] == {"miou": 100}
    assert document["items"] == 3
    assert document["absent"] == {"area": 0, "words": 0}
    assert document["unscored"] == {"segments": 0, "pixels": pytest.approx(200 / 12)}
    assert document.keys() == {"panoptic", "unscored", "absent", "semantic", "time_ms", "items"}
    times = document["time_ms"]
    assert list(times) == ["p50", "p90", "p99"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"]


def test_errors_cost_points(folder: LabelledFolder) -> None:
    # The second mug is called a robot arm: one mug of two is missed, and a class is invented.
    report = evaluate(Oracle(MAP, {1: 0, 2: 1, 3: 3}), folder, progress=False)
    document = report.to_json()
    assert document["panoptic"]["per_class"]["mug"] == pytest.approx(
        {"pq": 200 / 3, "sq": 100, "rq": 200 / 3}
    )
    assert document["panoptic"]["per_class"]["robot arm"] == {"pq": 0, "sq": 0, "rq": 0}
    assert document["panoptic"]["pq"] == pytest.approx((200 / 3 + 100 + 0) / 3)
    assert document["semantic"]["miou"] == pytest.approx((75 + 100 + 0) / 3)
    # One pixel of twelve is called what no image shows.
    assert document["absent"] == pytest.approx({"area": 100 / 12, "words": 1})
    table = report.table()
    for text in (
        "absent words: 8.33 %",
        "mug",
        "robot arm",
        "things",
        "stuff",
        "55.6",
        "mIoU 58.3 over 3 classes",
    ):
        assert text in table
    assert table.index("robot arm") > table.index("mug")


def test_an_image_is_encoded_once_for_both_tasks(folder: LabelledFolder) -> None:
    engine = Oracle(MAP, {1: 0, 2: 1, 3: 0})
    evaluate(engine, folder, limit=2, progress=False)
    assert engine.calls[0] == ("warm", VOCABULARY)
    measured = engine.calls[-6:]
    assert [call[0] for call in measured] == ["encode", "panoptic", "semantic"] * 2
    for panoptic, semantic in (measured[1:3], measured[4:6]):
        assert panoptic[1] == semantic[1]
        assert panoptic[2:] == (VOCABULARY, STUFF)
        assert semantic[2] == VOCABULARY


def test_a_label_cannot_disturb_the_terminal(tmp_path: Path) -> None:
    vocabulary = ("\x1b[31mred\n", "x" * 10_000)
    with LabelledFolderWriter(tmp_path, vocabulary) as writer:
        writer.add(
            np.zeros((1, 2, 3), np.uint8), np.array([[1, 2]]), dict(enumerate(vocabulary, 1))
        )
    report = evaluate(
        Oracle(np.array([[1, 2]]), {1: 0, 2: 1}), LabelledFolder.open(tmp_path), progress=False
    )
    assert "\x1b" not in report.table()
    assert max(map(len, report.table().splitlines())) < 100
    assert report.to_json()["panoptic"]["per_class"].keys() == set(vocabulary)


def test_bad_arguments_are_refused(folder: LabelledFolder, tmp_path: Path) -> None:
    engine = Oracle(MAP, {1: 0, 2: 1, 3: 0})
    with pytest.raises(ArgumentError, match="'limit' is 0"):
        evaluate(engine, folder, limit=0)
    with LabelledFolderWriter(tmp_path / "unlabelled", VOCABULARY) as writer:
        writer.add(np.zeros((*MAP.shape, 3), np.uint8), np.zeros_like(MAP), {})
    with pytest.raises(DatasetError, match="None of the 1 images has any of: a labelled segment"):
        evaluate(engine, LabelledFolder.open(tmp_path / "unlabelled"))
    with pytest.raises(ArgumentError, match="true map is"):
        evaluate(Oracle(MAP[:2], {1: 0, 2: 1, 3: 0}), folder)


# Beside the labels of MAP, a mug where nothing is labelled, and a wall on half a mug and nothing.
FOUND = np.array([[5, 1, 1, 3], [5, 1, 2, 2], [2, 2, 2, 2]], dtype=np.uint8)
FOUND_CLASSES = {1: 0, 2: 1, 3: 0, 5: 0}


def test_what_lies_where_nothing_is_labelled_is_not_scored_and_that_is_said(
    folder: LabelledFolder,
) -> None:
    report = evaluate(Oracle(FOUND, FOUND_CLASSES), folder, progress=False)
    document = report.to_json()
    assert document["panoptic"]["pq"] == document["semantic"]["miou"] == 100
    assert document["unscored"] == {"segments": 25, "pixels": pytest.approx(200 / 12)}
    assert "not scored: 3 of 12 predicted segments (25.0 %)" in report.table()
    assert "16.7 % of the pixels" in report.table()


def test_where_unlabelled_is_declared_to_mean_nothing_it_is_scored(tmp_path: Path) -> None:
    with LabelledFolderWriter(tmp_path, VOCABULARY, STUFF, unlabelled="nothing") as writer:
        writer.add(np.zeros((*MAP.shape, 3), np.uint8), MAP, LABELS)
    folder = LabelledFolder.open(tmp_path)
    perfect = evaluate(Oracle(MAP, {1: 0, 2: 1, 3: 0}), folder, progress=False)
    assert perfect.to_json()["panoptic"]["pq"] == perfect.to_json()["semantic"]["miou"] == 100
    report = evaluate(Oracle(FOUND, FOUND_CLASSES), folder, progress=False)
    document = report.to_json()
    mug = document["panoptic"]["per_class"]["mug"]
    assert mug == {"pq": pytest.approx(80), "sq": 100, "rq": pytest.approx(80)}  # 2 right, 1 wrong
    assert report.semantic is not None
    assert report.semantic.per_class["mug"] == pytest.approx(100 * 4 / 6)
    assert document["unscored"] == {"segments": 0, "pixels": 0}
    assert "not scored" not in report.table()


@pytest.mark.parametrize("name", ["background", "Background", "background-merged"])
def test_a_class_called_background_means_that_nothing_of_the_words_is_there(
    tmp_path: Path, name: str
) -> None:
    with LabelledFolderWriter(tmp_path, (name, *VOCABULARY), STUFF) as writer:
        ids = np.where(MAP == 0, 4, MAP)
        writer.add(np.zeros((*MAP.shape, 3), np.uint8), ids, {**LABELS, 4: name})
    oracle = Oracle(FOUND, FOUND_CLASSES)
    with pytest.warns(UserWarning, match="name of what is none of the words"):
        report = evaluate(oracle, LabelledFolder.open(tmp_path), progress=False)
    assert {call[2] for call in oracle.calls if call[0] == "panoptic"} == {VOCABULARY}
    document = report.to_json()
    assert document["panoptic"]["per_class"].keys() == {"mug", "table"}
    assert document["panoptic"]["per_class"]["mug"]["pq"] == pytest.approx(80)
    assert document["absent"]["words"] == 0
    assert any("name of what is none" in note for note in document["notes"])


def test_a_data_set_of_nothing_but_background_is_refused(tmp_path: Path) -> None:
    with LabelledFolderWriter(tmp_path, ["background"]) as writer:
        writer.add(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8), {1: "background"})
    with pytest.raises(DatasetError, match="no class but 'background'"):
        evaluate(Oracle(MAP, {}), LabelledFolder.open(tmp_path), progress=False)


def test_each_image_gives_its_own_counts_which_add_up(folder: LabelledFolder) -> None:
    counts: list[PanopticQuality] = []
    classes = {id_: VOCABULARY.index(label) for id_, label in LABELS.items()}
    report = evaluate(Oracle(MAP, classes), folder, tasks=["segment"], when_segmented=counts.append)
    assert len(counts) == report.items == 3
    together = PanopticQuality(VOCABULARY, STUFF)
    for image in counts:
        assert image.counts[1].sum() == 3
        together.merge(image)
    assert together.compute() == report.panoptic
