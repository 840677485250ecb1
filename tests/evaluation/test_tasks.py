"""An evaluation asks about every text, encodes an image once, and says what it cannot score."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xdecoder_rt.cli import main
from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase
from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.tasks import TASKS

VOCABULARY = ("mug", "table")
MAP = np.array([[0, 1, 1, 3], [0, 1, 2, 2], [2, 2, 2, 2]], dtype=np.uint8)
LABELS = {1: "mug", 2: "table", 3: "mug"}
CAPTIONS = (
    ("A red mug on a table.", "a mug"),
    ("A blue mug left of the bin.", "mugs"),
    ("The table has two mugs on it.", "mugs"),
)
ITEMS = len(CAPTIONS)


@dataclass(frozen=True)
class Result:
    text: str = ""
    mask: Any = None
    segmentation: Any = None
    segments_info: Any = ()


@dataclass
class Engine:
    """Knows all that the folder says, and counts what it is asked.

    The grey level of an image is its number in the folder.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    answers: tuple[str, ...] = ("yes", "no")
    background: str = "background"
    strip_suffixes: tuple[str, ...] = ()
    calls: Counter[str] = field(default_factory=Counter)
    choices: list[Any] = field(default_factory=list)

    @property
    def manifest(self) -> Engine:
        return self

    text = manifest

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def warm(self, vocabulary: Any, /) -> None:
        self.calls["warm"] += 1

    def encode(self, image: np.ndarray, /) -> int:
        self.calls["encode"] += 1
        return int(image[0, 0, 0])

    def segment(
        self,
        state: int,
        vocabulary: Any,
        /,
        *,
        task: str = "panoptic",
        stuff: Any = (),
        object_threshold: float | None = None,
        overlap_threshold: float | None = None,
    ):
        assert object_threshold is None and overlap_threshold is None, "the plan's own"
        self.calls[task] += 1
        if task == "semantic":
            return Result(segmentation=np.array([-1, 0, 1, 0])[MAP])
        info = [{"id": i, "label_id": VOCABULARY.index(label)} for i, label in LABELS.items()]
        return Result(segmentation=MAP.astype(np.int32), segments_info=info)

    def refer(self, state: int, phrases: list[str], /, *, min_score: float) -> list[Result]:
        assert min_score == 0, "the published protocol has no least score"
        self.calls["refer"] += 1
        [phrase] = phrases
        return [Result(mask=np.isin(MAP, [int(i) for i in phrase.split()[1:]]))]

    def caption(self, state: int, /) -> Result:
        self.calls["caption"] += 1
        return Result(CAPTIONS[state][0])

    def answer(self, state: int, question: str, /, *, choices: Any = None) -> Result:
        assert choices or self.answers
        self.calls["answer"] += 1
        self.choices.append(choices)
        return Result(question.split()[-1])

    def embed_image(self, state: int, /) -> np.ndarray:
        self.calls["embed_image"] += 1
        return np.eye(ITEMS, dtype=np.float32)[state]

    def embed_text(self, texts: list[str], /) -> np.ndarray:
        self.calls["embed_text"] += 1
        assert len(set(texts)) == len(texts)
        return np.array([[text in own for own in CAPTIONS] for text in texts], np.float32)


def write(path: Path, ids: np.ndarray = MAP, labels: Any = LABELS, **texts: Any) -> LabelledFolder:
    with LabelledFolderWriter(path, VOCABULARY, ["table"]) as writer:
        for number in range(ITEMS):
            image = np.full((*MAP.shape, 3), number, np.uint8)
            chosen = {name: values[number] for name, values in texts.items()}
            writer.add(image, ids, labels, **chosen)
    return LabelledFolder.open(path)


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    phrases = [Phrase("both 1 3", (1, 3)), Phrase("wrong 2", (3,))]
    questions = [
        AnsweredQuestion("say yes", ("Yes",)),
        AnsweredQuestion("say 3", ("two",), ("two", "three")),
    ]
    return write(
        tmp_path / "folder",
        phrases=[phrases[:1], phrases, []],
        captions=CAPTIONS,
        questions=[questions, [], questions],
    )


@pytest.fixture
def no_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)


@pytest.fixture
def scorers() -> None:
    pytest.importorskip("pycocoevalcap.cider.cider", reason="captions need the extra eval")


@pytest.mark.usefixtures("scorers")
def test_every_task_under_the_agreed_keys(folder: LabelledFolder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate(Engine(), folder, progress=False)
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(document) == {
        "panoptic", "unscored", "absent", "semantic", "referring", "retrieval", "caption", "vqa",
        "time_ms", "task_time_ms", "items",
    }  # fmt: skip
    assert document["panoptic"]["pq"] == document["semantic"]["miou"] == 100
    # Of three phrases one is wrong: intersections 4 + 4 + 0, unions 4 + 4 + 7.
    assert document["referring"] == pytest.approx(
        {"ciou": 100 * 8 / 15, "miou": 200 / 3, "p_at_50": 200 / 3}
    )
    assert document["retrieval"] == {
        "image_r1": 100, "image_r5": 100, "text_r1": 100, "text_r5": 100
    }  # fmt: skip
    assert document["caption"] == pytest.approx(
        {"cider": document["caption"]["cider"], "bleu4": 100}
    )
    assert 0 < document["caption"]["cider"] <= 1000
    assert document["vqa"] == {"accuracy": 50}
    assert set(document["task_time_ms"]) == {"refer", "embed", "caption", "answer"}
    for times in document["task_time_ms"].values():
        assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    table = report.table()
    for text in (
        "phrases: cIoU 53.3, mIoU 66.7, P@0.5 66.7 over 3 phrases",
        "retrieval: image R@1 100.0, R@5 100.0, text R@1 100.0, R@5 100.0 over "
        "3 images and 5 texts",
        "BLEU-4 100.0 over 3 images",
        "answers: accuracy 50.0 over 4 questions (yes/no 100.0 of 2, number 0.0 of 2)",
        "time of one phrase",
        "3 images",
    ):
        assert text in table


def test_open_questions_are_not_asked_of_a_plan_without_answers(
    folder: LabelledFolder, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="2 of 4 questions, which offer no choices") as warned:
        report = evaluate(Engine(answers=()), folder, tasks=["answer", "refer"], progress=False)
    assert len(warned) == 1
    assert report.vqa is not None
    assert (report.vqa.accuracy, report.vqa.questions) == (0, 2)
    opened = write(tmp_path / "open", questions=[[AnsweredQuestion("say yes", ("yes",))]] * ITEMS)
    with pytest.warns(UserWarning, match="3 of 3 questions"):
        report = evaluate(Engine(answers=()), opened, progress=False)
    assert report.to_json()["vqa"] is None
    assert report.to_json()["panoptic"]["pq"] == 100


@pytest.mark.usefixtures("scorers")
def test_an_image_is_encoded_once_for_all_questions(folder: LabelledFolder) -> None:
    engines = []
    for limit in (2, 3):
        engines.append(Engine())
        evaluate(engines[-1], folder, limit=limit, progress=False)
    one_image_more = engines[1].calls - engines[0].calls
    assert one_image_more == {
        "encode": 1, "panoptic": 1, "semantic": 1, "caption": 1, "answer": 2, "embed_image": 1
    }  # fmt: skip
    assert engines[1].calls["embed_text"] == 1
    assert engines[1].choices[-2:] == [None, ("two", "three")]


@pytest.mark.parametrize(
    ("task", "section"),
    [("refer", "referring"), ("embed", "retrieval"), ("caption", "caption"), ("answer", "vqa")],
)
def test_a_task_that_the_plan_lacks_is_null_with_a_note(
    folder: LabelledFolder, task: str, section: str
) -> None:
    plan = tuple(name for name in TASKS if name != task)
    with pytest.warns(UserWarning, match=f"The plan lacks the task '{task}': no {section}"):
        report = evaluate(Engine(plan), folder, progress=False)
    document = report.to_json()
    assert document[section] is None
    assert task not in document["task_time_ms"]
    assert any(task in note for note in document["notes"])


def test_a_plan_without_segmentation(folder: LabelledFolder) -> None:
    engine = Engine(("refer",))
    with pytest.warns(UserWarning, match="no panoptic, unscored, absent, semantic, time_ms"):
        document = evaluate(engine, folder, tasks=["segment", "refer"], progress=False).to_json()
    assert document["panoptic"] is document["semantic"] is document["time_ms"] is None
    assert document["referring"]["miou"] == pytest.approx(200 / 3)
    assert engine.calls["warm"] == engine.calls["panoptic"] == 0
    assert engine.calls["encode"] == 3  # the warm-up, and the two images that have a phrase


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.usefixtures("scorers")
def test_only_the_tasks_asked_for(folder: LabelledFolder, task: str) -> None:
    sections = {
        "segment": {"panoptic", "unscored", "absent", "semantic", "time_ms"},
        "refer": {"referring", "task_time_ms"},
        "embed": {"retrieval", "task_time_ms"},
        "caption": {"caption", "task_time_ms"},
        "answer": {"vqa", "task_time_ms"},
    }
    report = evaluate(Engine(), folder, tasks=[task], progress=False)
    assert set(report.to_json()) == sections[task] | {"items"}
    assert report.table().endswith("\n3 images")


@pytest.mark.usefixtures("scorers")
def test_a_data_set_of_texts_alone_needs_no_map(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    folder = write(path, np.zeros_like(MAP), {}, captions=CAPTIONS)
    for file in (path / "panoptic").iterdir():
        file.unlink()
    document = evaluate(Engine(), folder, progress=False).to_json()
    assert set(document) == {"retrieval", "caption", "task_time_ms", "items"}


@pytest.mark.usefixtures("no_scorers")
def test_without_the_package_captions_are_null_and_the_extra_is_named(
    folder: LabelledFolder,
) -> None:
    engine = Engine()
    with pytest.warns(UserWarning, match=r'pip install "xdecoder_rt\[eval\]"'):
        report = evaluate(engine, folder, progress=False)
    assert report.to_json()["caption"] == {"cider": None, "bleu4": None}
    assert engine.calls["caption"] == 0
    assert "captions: CIDEr -, BLEU-4 -" in report.table()
    assert report.to_json()["vqa"] == {"accuracy": 50}


@pytest.mark.usefixtures("scorers")
def test_a_single_image_has_neither_cider_nor_recall(folder: LabelledFolder) -> None:
    with pytest.warns(UserWarning) as told:
        document = evaluate(
            Engine(), folder, tasks=["caption", "embed"], limit=1, progress=False
        ).to_json()
    assert document["caption"] == {"cider": None, "bleu4": pytest.approx(100)}
    assert set(document["retrieval"].values()) == {None}
    assert len(told) == len(document["notes"]) == 2


def test_a_data_set_with_nothing_for_the_tasks_is_refused(
    folder: LabelledFolder, tmp_path: Path
) -> None:
    empty = write(tmp_path / "empty", np.zeros_like(MAP), {})
    with pytest.raises(
        DatasetError, match="any of: a labelled segment, phrases, captions, questions"
    ):
        evaluate(Engine(), empty)
    plain = write(tmp_path / "plain")
    with pytest.raises(DatasetError, match="None of the 3 images has any of: captions"):
        evaluate(Engine(), plain, tasks=["caption", "embed"])
    for tasks in ([], ["detect"], "refer"):
        with pytest.raises(ArgumentError, match="'tasks' is"):
            evaluate(Engine(), folder, tasks=tasks)


@pytest.mark.usefixtures("no_scorers")
def test_the_command(
    folder: LabelledFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = SimpleNamespace(Engine=lambda *_, **__: Engine(("segment", "answer", "caption")))
    monkeypatch.setitem(sys.modules, "xdecoder_rt.engine", module)
    command = ["eval", "any.plan", str(folder.root), "--no-progress"]
    assert main([*command, "--tasks", "refer,caption, answer", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == {
        "schema", "referring", "caption", "vqa", "task_time_ms", "items", "notes", "complete",
    }  # fmt: skip
    assert document["referring"] is None
    assert document["caption"] == {"cider": None, "bleu4": None}
    assert "warning: The plan lacks the task 'refer': no referring\n" in err
    assert 'pip install "xdecoder_rt[eval]"' in err
    assert "answers: accuracy 50.0" in err


@pytest.mark.parametrize("tasks", ["", "detect", "refer,", "panoptic"])
def test_unknown_tasks_are_a_wrong_command_line(
    tasks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "a.plan", "folder", "--tasks", tasks]) == 2
    assert "there is no task" in capsys.readouterr().err
