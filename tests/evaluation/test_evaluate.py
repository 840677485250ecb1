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

VOCABULARY = ("mug", "table", "wall", "robot arm")
STUFF = ("table", "wall")
MAP = np.array([[0, 1, 1, 3], [0, 1, 2, 2], [2, 2, 2, 2]], dtype=np.uint8)
LABELS = {1: "mug", 2: "table", 3: "mug"}


@dataclass(frozen=True)
class Answer:
    segmentation: np.ndarray
    segments_info: list[dict[str, Any]]


@dataclass
class Manifest:
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
        self, state: Any, vocabulary: Any, /, *, task: str = "panoptic", stuff: Any = ()
    ) -> Answer:
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
    assert document.keys() == {"panoptic", "absent", "semantic", "time_ms", "items"}
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
