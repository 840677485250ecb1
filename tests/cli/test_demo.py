"""``xdecoder-rt demo``: a folder as a stream; what was drawn, dropped and counted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, document_of, the_error
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.cli import demo, main

FRAMES = 4


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(FRAMES):
        pixels = generator.integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def play(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("demo", "--no-window")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where to write what is typed while the demo runs."""
    reading, writing = os.pipe()
    monkeypatch.setattr(demo, "_standard_input", lambda: reading)
    yield writing
    os.close(reading)
    os.close(writing)


def test_every_frame_is_drawn_when_asked_for(
    play: Run, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = frames / "drawn"
    (frames / "notes.txt").write_text("")
    (frames / "more").mkdir()
    assert play(frames, "--words", "mug", "--every-frame", "-o", drawn, "--json") == 0
    document = document_of(capsys)
    assert document["left_out"] == {".txt": 1, "sub-folders": 1}
    assert document["stopped"] == "end of stream"
    counts = [document[name] for name in ("frames", "answered", "dropped", "unreadable")]
    assert counts == [FRAMES, FRAMES, 0, 0]
    assert document["latency_ms"]["p50"] > 0 and document["fps"] > 0
    assert (document["words"], document["output"]) == (["mug"], str(drawn))
    assert len(list(drawn.iterdir())) == FRAMES
    with Image.open(drawn / "frame_000000.jpg") as picture:
        assert picture.size == (60, 40)


def test_frames_faster_than_answers_are_dropped_and_counted(
    play: Run, frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import time

    answer = Engine.segment

    def slow(self: Engine, *arguments: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return answer(self, *arguments, **options)

    monkeypatch.setattr(Engine, "segment", slow)
    assert play(frames, "--words", "mug", "--fps", "1000", "--json") == 0
    document = document_of(capsys)
    assert document["frames"] == FRAMES
    assert document["dropped"] >= 1
    assert document["answered"] + document["dropped"] == FRAMES


def test_it_ends_after_enough_frames(
    play: Run, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(frames, "--words", "mug", "--every-frame", "--frames", "2") == 0
    assert "enough frames" in capsys.readouterr().out


@pytest.mark.parametrize(("how", "code"), [("Ctrl-C", 0), ("SIGTERM", 130)])
def test_interruption_is_the_way_out(
    play: Run,
    frames: Path,
    how: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = demo.Player._answer

    def interrupted(self: demo.Player, frame: Any) -> Any:
        if self.answered == 1:
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return answer(self, frame)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo.Player, "_answer", interrupted)
    assert play(frames, "--words", "mug", "--every-frame", "--json") == code
    document = document_of(capsys)
    assert (document["stopped"], document["answered"]) == ("interrupted", 1)
    assert signal.getsignal(signal.SIGTERM) == before


def test_words_can_be_changed_while_it_runs(
    play: Run, frames: Path, typed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(typed, b"cup, sofa|couch , wall\n")
    arguments = ("--words", "mug", "--stuff", "wall", "--every-frame", "--json")
    assert play(frames, *arguments) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["words"] == ["cup", ["sofa", "couch"], "wall"]
    assert "looking for cup, sofa, wall" in err


def test_wrong_words_change_nothing(
    play: Run, frames: Path, typed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(typed, b"cup, cup\n,,,\n")
    assert play(frames, "--words", "mug", "--every-frame", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["words"] == ["mug"]
    assert "Still looking for mug" in err


def test_an_unreadable_frame_is_skipped_and_makes_the_code_1(
    play: Run, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert play(frames, "--words", "mug", "--every-frame", "--json") == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["answered"], document["unreadable"]) == (FRAMES - 1, 1)
    assert "2.png" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/clip.mp4", "--words", "mug"], "no video or folder"),
        (["FRAMES"], "no words"),
        (["FRAMES", "--words", "mug", "-o", "found.png"], "neither a folder nor a video"),
        (["FRAMES", "--words", "mug", "--json", "/nowhere/a.json"], "no folder"),
        (["FRAMES", "--words", "mug", "-o", "FRAMES"], "is the source itself"),
    ],
)
def test_what_is_refused(
    play: Run,
    frames: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert play(*(str(frames) if one == "FRAMES" else one for one in arguments)) == 1
    assert message in the_error(capsys, after_progress=True)


def test_an_absent_plan_tells_how_to_build_one(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "no.plan")
    assert main(["demo", str(frames), "--words", "mug", "--plan", absent]) == 1
    assert "xdecoder-rt build" in the_error(capsys, after_progress=True)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "fast"])
def test_a_wrong_rate(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "frames", "--words", "mug", "--fps", rate]) == 2
    assert "rate from 0.01 to 1000" in capsys.readouterr().err


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    folder = tmp_path / "depth"
    folder.mkdir()
    for number in range(FRAMES):
        Image.fromarray(np.full((40, 60), 1500, np.uint16)).save(folder / f"{number}.png")
    return folder


INTRINSICS = ("--intrinsics", "60", "60", "29.5", "19.5")


def test_ids_and_distances_are_drawn(play: Run, frames: Path, depth: Path, tmp_path: Path) -> None:
    told = ("--words", "mug", "--task", "instance", "--min-score", "0", "--every-frame")
    assert play(frames, *told, "-o", tmp_path / "plain") == 0
    assert play(frames, *told, "--track", "-o", tmp_path / "tracked") == 0
    assert play(frames, *told, "--depth", depth, *INTRINSICS, "-o", tmp_path / "far") == 0
    pictures = [
        np.asarray(Image.open(tmp_path / name / "frame_000000.jpg"), int)
        for name in ("plain", "tracked", "far")
    ]
    assert all(picture.shape == (40, 60, 3) for picture in pictures)
    assert np.abs(pictures[0] - pictures[1]).max() > 60
    assert np.abs(pictures[0] - pictures[2]).max() > 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depth", "DEPTH"], "both --depth and --intrinsics"),
        ([*INTRINSICS], "both --depth and --intrinsics"),
        (["--depth", "FRAMES", *INTRINSICS, "-o", "OUT"], "one channel of 16 bits"),
        (["--depth", "DEPTH", "--intrinsics", "60", "60", "900", "20", "-o", "OUT"], "outside"),
        (["--depth", "/nowhere", *INTRINSICS], "cannot be read"),
        (["--track", "--task", "semantic"], "no things to track"),
    ],
)
def test_ids_and_distances_that_cannot_be_had(
    play: Run,
    frames: Path,
    depth: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"DEPTH": depth, "FRAMES": frames, "OUT": tmp_path / "out"}
    told = [str(named.get(option, option)) for option in options]
    assert play(frames, "--words", "mug", "--every-frame", *told) == 1
    assert message in the_error(capsys, after_progress=True)
