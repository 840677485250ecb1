"""``xdecoder-rt label``: data sets from folders; runs end at any moment and go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, document_of, save_picture, the_error

from xdecoder_rt import Engine
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.labelling import pool
from xdecoder_rt.labelling.asking import EngineOptions, Request
from xdecoder_rt.labelling.journal import JOURNAL
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.pool import label_in_processes
from xdecoder_rt.words.vocabulary import Vocabulary

WORDS = ("mug", "robot arm", "floor")
ASKED = ("--words", *WORDS, "--stuff", "floor")


@pytest.fixture
def label(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("label", "--backend", "onnxruntime")


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    (folder / "sub").mkdir(parents=True)
    for number in range(4):
        save_picture(folder / f"{number}.png", number)
    save_picture(folder / "sub" / "0.png", 4)
    return folder


def results(folder: Path) -> dict[str, Any]:
    """Return the results in a journal by key; each is there once."""
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()[1:]]
    by_key = {line["key"]: line for line in lines}
    assert len(by_key) == len(lines)
    return by_key


def test_a_folder_becomes_a_data_set_of_what_the_engine_finds(
    label: Run, shots: Path, tmp_path: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (*ASKED, "--phrases", "the mug", "--caption", "--max-tokens", "3")
    assert label(shots, *asked, "-o", tmp_path / "out", "--format", "folder,yolo,cvat") == 0
    assert re.match(r"5 pictures: 5 labelled in \d+ s \(.* a second\)\n", capsys.readouterr().out)
    found = results(tmp_path / "out")
    assert list(found) == ["0.png", "1.png", "2.png", "3.png", "sub/0.png"]
    with Engine(tiny_plan, backend="onnxruntime", threads=1) as engine:
        words = Vocabulary.parse(WORDS, ["floor"])
        path = str(shots / "sub" / "0.png")
        output = engine.run(path, segment=words, refer=["the mug"], caption=True, max_tokens=3)
    truth = output.to_dict()
    assert found["sub/0.png"]["segments"] == truth["segment"]["segments"]
    assert found["sub/0.png"]["phrases"] == truth["refer"]
    assert found["sub/0.png"]["caption"] == truth["caption"]["text"]
    folder = LabelledFolder.open(tmp_path / "out" / "folder")
    assert len(folder) == 5 and folder.vocabulary == WORDS
    assert len(list((tmp_path / "out" / "yolo" / "labels").rglob("*.txt"))) == 5
    review = (tmp_path / "out" / "review.html").read_text()
    assert review.count("<figure>") == 5 and "data:image/jpeg;base64," in review


def test_the_review_sheet_begins_with_the_most_doubtful_and_loads_nothing(
    label: Run, shots: Path, tmp_path: Path
) -> None:
    assert label(shots, *ASKED, "-o", tmp_path / "out", "--review", "3") == 0
    review = (tmp_path / "out" / "review.html").read_text()
    doubts = [int(d) for d in re.findall(r'class="doubt">(\d+) %', review)]
    assert len(doubts) == 3 and doubts == sorted(doubts, reverse=True)
    assert "http" not in review and "<script" not in review


def test_what_is_done_is_not_asked_again_and_what_has_come_is_added(
    label: Run, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (shots, *ASKED, "-o", tmp_path / "out", "--json")
    assert label(*command) == 0
    assert document_of(capsys)["labelled"] == 5
    before = (tmp_path / "out" / "folder" / "annotations.json").stat().st_mtime_ns
    assert label(*command) == 0
    document = document_of(capsys)
    assert (document["labelled"], document["earlier"]) == (0, 5)
    assert (tmp_path / "out" / "folder" / "annotations.json").stat().st_mtime_ns == before
    save_picture(shots / "new.png", 9)
    assert label(*command) == 0
    assert (document_of(capsys)["labelled"], len(results(tmp_path / "out"))) == (1, 6)
    assert len(LabelledFolder.open(tmp_path / "out" / "folder")) == 6


def test_a_broken_picture_is_told_and_left_out(
    label: Run, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shots / "broken.png").write_bytes((shots / "0.png").read_bytes()[:300])
    assert label(shots, *ASKED, "-o", tmp_path / "out", "--json") == 1
    out, err = capsys.readouterr()
    assert err.count("error: broken.png: ") == 1
    assert list(json.loads(out)["failed"]) == ["broken.png"]
    assert len(results(tmp_path / "out")) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Nothing is asked of the pictures"),
        ((*ASKED, "--prompt", "a"), "--prompt was given without --caption"),
        (("--words", " "), "empty"),
    ],
)
def test_a_command_that_asks_nothing_is_one_line(
    label: Run,
    shots: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert label(shots, *arguments, "-o", tmp_path / "out") == 1
    assert message in the_error(capsys)
    assert not (tmp_path / "out").exists()


def test_other_words_than_the_run_began_with_are_refused(
    label: Run, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(shots, *ASKED, "-o", tmp_path / "out") == 0
    capsys.readouterr()
    assert label(shots, "--words", "mug", "-o", tmp_path / "out") == 1
    assert "was begun with another words" in the_error(capsys)


def test_a_folder_of_others_is_not_written_over(
    label: Run, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "yolo").mkdir(parents=True)
    (tmp_path / "out" / "yolo" / "mine.txt").write_text("mine")
    assert label(shots, *ASKED, "-o", tmp_path / "out", "--format", "yolo") == 1
    assert "no run has written it" in the_error(capsys)
    assert (tmp_path / "out" / "yolo" / "mine.txt").read_text() == "mine"


def command_of(plan: Path, shots: Path, output: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "xdecoder_rt.cli", "label", str(shots), *ASKED),
        *("--plan", str(plan), "--backend", "onnxruntime", "--threads", "1"),
        *("-o", str(output), "--review", "0", *more),
    ]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_killed_at_any_moment_goes_on_without_losing_or_doubling_a_picture(
    tiny_plan: Path, tmp_path: Path, jobs: str
) -> None:
    shots = tmp_path / "many"
    shots.mkdir()
    for number in range(16):
        save_picture(shots / f"{number}.png", number)
    output = tmp_path / "out"
    command = command_of(tiny_plan, shots, output, "--jobs", jobs)
    done = 0
    for more in (2, 6):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if (output / JOURNAL).exists():
                done = (output / JOURNAL).read_bytes().count(b"\n") - 1
            if done >= more:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
    assert done >= 2
    for _ in range(100):  # workers end by themselves
        finished = subprocess.run(command, capture_output=True, text=True)
        if "Another process" not in finished.stderr:
            break
    assert finished.returncode == 0, finished.stderr
    assert len(results(output)) == 16
    assert len(LabelledFolder.open(output / "folder")) == 16
    whole = tmp_path / "whole"
    subprocess.run(command_of(tiny_plan, shots, whole), check=True, capture_output=True)
    assert results(output) == results(whole)


def test_ctrl_c_ends_in_one_line_and_the_run_goes_on(tiny_plan: Path, tmp_path: Path) -> None:
    shots = tmp_path / "many"
    shots.mkdir()
    for number in range(12):
        save_picture(shots / f"{number}.png", number)
    command = command_of(tiny_plan, shots, tmp_path / "out", "--jobs", "2")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    journal = tmp_path / "out" / JOURNAL
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and err.endswith("interrupted\n") and "Traceback" not in err
    subprocess.run(command, check=True, capture_output=True)
    assert len(results(tmp_path / "out")) == 12


def request_of() -> Request:
    return Request(Vocabulary.parse(WORDS, ["floor"]))


def test_a_worker_that_is_killed_is_replaced_and_no_picture_is_lost(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [Picture(str(n), str(save_picture(tmp_path / f"{n}.png", n))) for n in range(12)]
    give, at_work = pool._Worker.give, []

    def give_and_note(worker: pool._Worker, picture: Picture, tries: Counter[str]) -> None:
        give(worker, picture, tries)
        at_work.append(worker)

    monkeypatch.setattr(pool._Worker, "give", give_and_note)
    options = EngineOptions(str(tiny_plan), "onnxruntime", 1)
    outcomes = []
    for outcome in label_in_processes(options, request_of(), pictures, 2):
        outcomes.append(outcome)
        if len(outcomes) == 2:
            at_work[-1]._process.kill()  # one that still begins would be a refusal
    assert sorted(int(o.picture.key) for o in outcomes) == list(range(12))
    assert all(outcome.values is not None for outcome in outcomes)


def test_a_picture_that_ends_its_process_twice_is_left_out_and_the_others_are_labelled(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [Picture(str(n), str(save_picture(tmp_path / f"{n}.png", n))) for n in range(3)]
    give = pool._Worker.give

    def give_and_kill(worker: pool._Worker, picture: Picture, tries: Counter[str]) -> None:
        give(worker, picture, tries)
        if picture.key == "1":
            worker._process.kill()

    monkeypatch.setattr(pool._Worker, "give", give_and_kill)
    options = EngineOptions(str(tiny_plan), "onnxruntime", 1)
    outcomes = {
        outcome.picture.key: outcome
        for outcome in label_in_processes(options, request_of(), pictures, 1)
    }
    assert outcomes["1"].values is None
    assert outcomes["1"].error == "The process that labelled it ended, 2 times."
    assert all(outcomes[key].values is not None for key in "02")


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_labels_all_though_one_is_killed(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="clusters need the extra ray")
    from xdecoder_rt.labelling.cluster import label_on_cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    pictures = [Picture(str(n), str(save_picture(tmp_path / f"{n}.png", n))) for n in range(60)]
    options = EngineOptions(str(tiny_plan), "onnxruntime", 1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        outcomes = []
        for outcome in label_on_cluster(options, request_of(), pictures, "local", 2):
            outcomes.append(outcome)
            if len(outcomes) == 4:
                os.kill(worker_process(), signal.SIGKILL)
    finally:
        ray.shutdown()
    assert sorted(int(o.picture.key) for o in outcomes) == list(range(60))
    assert all(outcome.values is not None for outcome in outcomes)


def worker_process() -> int:
    """Return the process of one of Ray's actors that label."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True).stdout
    actors = [line.split()[0] for line in listed.splitlines() if "ray::MapWorker" in line]
    assert actors, listed
    return int(actors[0])
