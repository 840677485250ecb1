"""``xdecoder-rt eval``: the table, the agreed JSON, and folders that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import public_folders
import pytest
from command_line import document_of, the_error

from xdecoder_rt.cli import main
from xdecoder_rt.datasets.class_lists import class_list
from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase
from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter
from xdecoder_rt.engine import Engine
from xdecoder_rt.evaluation.published import vocabulary_of
from xdecoder_rt.plan.file import Plan

VOCABULARY = ("mug", "robot arm", "floor")
ITEMS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled")
    generator = np.random.default_rng(0)
    ids = np.full((40, 60), 2, np.uint8)
    ids[:3] = 0
    ids[10:30, 20:50] = 1
    with LabelledFolderWriter(path, VOCABULARY, ("floor",)) as writer:
        for _ in range(ITEMS):
            pixels = generator.integers(0, 256, (40, 60, 3), np.uint8)
            writer.add(pixels, ids, {1: "mug", 2: "floor"})
    return path


def test_json_alone_is_all_that_stdout_holds(
    tiny_plan: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tiny_plan), str(folder), "--json", "--no-progress"]) == 0
    out, err = capsys.readouterr()
    scores = json.loads(out)
    assert set(scores) == {
        "schema", "panoptic", "unscored", "absent", "semantic", "time_ms", "items", "complete",
    }  # fmt: skip
    assert scores["complete"] is True
    assert set(scores["panoptic"]) == {"pq", "sq", "rq", "per_class"}
    for values in (scores["panoptic"], *scores["panoptic"]["per_class"].values()):
        assert all(0 <= values[name] <= 100 for name in ("pq", "sq", "rq"))
    assert {"mug", "floor"} <= set(scores["panoptic"]["per_class"]) <= set(VOCABULARY)
    assert 0 <= scores["semantic"]["miou"] <= 100
    assert 0 < scores["time_ms"]["p50"] <= scores["time_ms"]["p90"] <= scores["time_ms"]["p99"]
    assert scores["items"] == ITEMS
    assert "mIoU" in err, "the table goes to stderr"


def test_json_in_a_file_leaves_the_table_on_stdout(
    tiny_plan: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "scores.json"
    arguments = ["--limit", "1", "--threads", "1", "--json", str(target)]
    assert main(["eval", str(tiny_plan), str(folder), *arguments]) == 0
    out = capsys.readouterr().out
    assert "mIoU" in out and "\nall " in out
    assert json.loads(target.read_text())["items"] == 1


def test_every_task_that_the_plan_has_is_scored(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.full((40, 60), 2, np.uint8)
    ids[10:30, 20:50] = 1
    with LabelledFolderWriter(tmp_path / "folder", VOCABULARY, ("floor",)) as writer:
        for number in range(ITEMS):
            writer.add(
                np.full((40, 60, 3), 80 * number, np.uint8),
                ids,
                {1: "mug", 2: "floor"},
                phrases=[Phrase("the mug", (1,)), Phrase("everything", (1, 2))],
                captions=[f"a mug, number {number}", "a mug on the floor"],
                questions=[AnsweredQuestion("what is it?", ("mug",), ("mug", "robot arm"))],
            )
    assert main(["eval", str(tiny_plan), str(writer.root), "--json", "--no-progress"]) == 0
    scores = document_of(capsys)
    with Plan.open(tiny_plan) as plan:
        tasks = plan.manifest.tasks
    for task, section in {
        "segment": "semantic",
        "refer": "referring",
        "embed": "retrieval",
        "caption": "caption",
        "answer": "vqa",
    }.items():
        assert (scores[section] is not None) == (task in tasks)
        for score in (scores[section] or {}).values():
            assert score is None or 0 <= score <= (1000 if task == "caption" else 100)


def test_progress_leaves_stdout_to_the_json(
    tiny_plan: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tiny_plan), str(folder), "--limit", "2", "--json"]) == 0
    assert document_of(capsys)["items"] == 2


def test_a_folder_that_is_none_is_refused(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tiny_plan), str(tmp_path / "none")]) == 1
    assert "none" in the_error(capsys)
    assert main(["eval", str(tiny_plan), str(tmp_path)]) == 1
    assert "annotations.json" in the_error(capsys)


def test_annotations_that_are_no_json_are_refused(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "annotations.json").write_text("{")
    assert main(["eval", str(tiny_plan), str(tmp_path)]) == 1
    assert "annotations.json" in the_error(capsys)


def test_an_absent_plan_tells_how_to_build_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "scores.json"
    assert main(["eval", str(tmp_path / "no.plan"), str(folder), "--json", str(target)]) == 1
    assert "xdecoder-rt build" in the_error(capsys)
    assert not target.exists()


def test_json_that_cannot_be_written_is_told_before_the_work(
    tiny_plan: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "no" / "scores.json"
    assert main(["eval", str(tiny_plan), str(folder), "--json", str(target)]) == 1
    assert "no folder" in the_error(capsys)


@pytest.mark.parametrize("arguments", [[], ["a.plan"], ["a.plan", "b", "--limit", "-1"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *arguments]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cityscapes", "ade20k-847", "refcocog", "retrieval"])
def test_a_protocol_measures_its_figures_and_tells_what_the_plan_does_otherwise(
    name: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools", reason="needs pycocotools")
    root = public_folders.FOLDERS[name](tmp_path / "data")
    arguments = ["eval", str(tiny_plan), str(root), "--protocol", name, "--json", "--no-progress"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    scores = json.loads(out)
    assert "scaled otherwise than by the protocol" in err
    assert any("scaled otherwise" in note for note in scores["notes"])
    assert scores["protocol"] == name and str(root) in scores["source"]
    section, figure = {
        "cityscapes": ("panoptic", "pq"),
        "ade20k-847": ("semantic", "miou"),
        "refcocog": ("referring", "ciou"),
        "retrieval": ("retrieval", "image_r1"),
    }[name]
    assert 0 <= scores[section][figure] <= 100


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--protocol", "bdd", "--tasks", "segment"], "--tasks is given with --protocol"),
        (["--split", "val"], "--split is given without --protocol"),
        (["--protocol", "bdd", "--split", "../../etc"], "'split' is '../../etc'"),
        (["--protocol", "bdd"], "is not a folder"),
    ],
)
def test_arguments_of_protocols_that_are_wrong_end_in_one_line(
    arguments: list[str],
    expected: str,
    tiny_plan: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["eval", str(tiny_plan), str(folder), *arguments]) == 1
    assert expected in the_error(capsys)


def test_the_protocols_threshold_gives_the_map_of_a_plan_that_has_it(tiny_plan: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (48, 64, 3), np.uint8)
    listed = class_list("cityscapes-19")
    with Engine(tiny_plan) as engine:
        own = engine.manifest.postprocess.object_mask_threshold
        state = engine.encode(image)
        by_plan = engine.segment(state, vocabulary_of(listed), min_score=0)
        by_word = engine.segment(state, vocabulary_of(listed, own), min_score=0)
        none = engine.segment(state, vocabulary_of(listed, 1.0), min_score=0)
    assert (by_plan.segmentation == by_word.segmentation).all()
    assert by_plan.segments_info == by_word.segments_info
    assert not none.segments_info
