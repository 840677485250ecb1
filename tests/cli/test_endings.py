"""How commands end: signals, streams that are closed or full, what is kept of work begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, document_of, save_labelled_folder, save_picture

from xdecoder_rt.cli import demo, main

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
COMMANDS = {
    "segment": ["--words", "mug"],
    "refer": ["--phrases", "the mug"],
    "caption": ["--max-tokens", "2"],
    "answer": ["--question", "is it?", "--choices", "yes,no"],
    "rank": ["--texts", "a mug", "a table"],
    "run": ["--embed"],
}


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in range(3):
        save_picture(folder / f"{number}.png", number)
    return folder


@pytest.fixture
def at_second_image(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Does something when the second image is about to be read."""
    from xdecoder_rt import image

    load = image.load_image

    def install(action: Callable[[], None]) -> None:
        reads = []

        def loading(source: Any, *arguments: Any, **keywords: Any) -> Any:
            if isinstance(source, str):
                reads.append(source)
                if len(reads) == 2:
                    action()
            return load(source, *arguments, **keywords)

        monkeypatch.setattr(image, "load_image", loading)

    return install


def send(*numbers: int) -> Callable[[], None]:
    def kill() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    return kill


def at_opening(action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something when a plan is opened: before the first image, round or graph."""
    from xdecoder_rt.plan.file import Plan

    open_plan = Plan.open

    def opening(*arguments: Any, **keywords: Any) -> Any:
        action()
        return open_plan(*arguments, **keywords)

    monkeypatch.setattr(Plan, "open", opening)


class TestStopped:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_json_of_what_was_done_is_written(
        self,
        command: str,
        on_tiny_plan: Callable[..., Run],
        shots: Path,
        at_second_image: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        at_second_image(send(signal.SIGHUP))
        assert on_tiny_plan(command)(shots, *COMMANDS[command], "--json") == 130
        document = document_of(capsys)
        assert document["complete"] is False
        assert [Path(entry["image"]).name for entry in document["images"]] == ["0.png"]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_before_the_first_image_the_json_says_that_nothing_was_done(
        self,
        command: str,
        on_tiny_plan: Callable[..., Run],
        shots: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        at_opening(send(signal.SIGTERM), monkeypatch)
        assert on_tiny_plan(command)(shots, *COMMANDS[command], "--json") == 130
        assert document_of(capsys) == {"schema": f"{command}/1", "complete": False}

    @pytest.mark.parametrize(
        "arguments",
        [
            ["info", "PLAN"],
            ["check", "PLAN", "--against", "PLAN"],
            ["bench", "PLAN"],
            ["build", "--plan", "PLAN", "--size", "32x96"],
            ["extract", "PLAN"],
            ["eval", "PLAN", "FOLDER"],
            ["vocab", "list", "--plan", "PLAN"],
            ["demo", "FOLDER", "--plan", "PLAN", "--words", "mug", "--no-window"],
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_every_command_that_writes_json_says_that_it_was_stopped(
        self,
        arguments: list[str],
        tiny_plan: Path,
        shots: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        at_opening(send(signal.SIGHUP), monkeypatch)
        places = {"PLAN": str(tiny_plan), "FOLDER": str(shots)}
        assert main([places.get(word, word) for word in arguments] + ["--json"]) == 130
        assert document_of(capsys)["complete"] is False

    def test_the_scores_of_the_images_done_are_written(
        self,
        tiny_plan: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from xdecoder_rt.datasets.labelled_item import Item

        save_labelled_folder(tmp_path / "held_out", images=4)
        load, reads = Item.load_image, []

        def loading(item: Item) -> Any:
            if item.image.name == "000002.png" and len(reads) > 4:  # not when all are checked
                send(signal.SIGINT)()
            reads.append(item.image.name)
            return load(item)

        monkeypatch.setattr(Item, "load_image", loading)
        arguments = ["eval", str(tiny_plan), str(tmp_path / "held_out"), "--no-progress"]
        assert main([*arguments, "--json"]) == 130
        out, err = capsys.readouterr()
        scores = json.loads(out)
        assert (scores["items"], scores["complete"]) == (2, False)
        assert {"panoptic", "semantic", "referring", "vqa", "time_ms"} <= set(scores)
        assert "retrieval" not in scores
        assert "mIoU" in err and err.endswith("interrupted\n")

        monkeypatch.setattr(Item, "load_image", load)
        assert main([*arguments, "--json", "--limit", "2"]) == 0
        of_two = document_of(capsys)
        assert {key: scores[key] for key in ("panoptic", "semantic", "referring", "vqa")} == {
            key: of_two[key] for key in ("panoptic", "semantic", "referring", "vqa")
        }

    @pytest.mark.parametrize("number", SIGNALS)
    def test_every_signal_ends_a_command_alike(
        self,
        number: int,
        on_tiny_plan: Callable[..., Run],
        shots: Path,
        tmp_path: Path,
        at_second_image: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        before = [signal.getsignal(number) for number in SIGNALS]
        at_second_image(send(number, number))  # a closing terminal sends two
        arguments = (*COMMANDS["segment"], "--json", tmp_path / "found.json")
        assert on_tiny_plan("segment")(shots, *arguments) == 130
        assert capsys.readouterr().err == "interrupted\n"
        assert json.loads((tmp_path / "found.json").read_text())["complete"] is False
        assert [signal.getsignal(number) for number in SIGNALS] == before

    def test_a_whole_document_says_so(
        self, on_tiny_plan: Callable[..., Run], shots: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert on_tiny_plan("segment")(shots, *COMMANDS["segment"], "--json") == 0
        assert document_of(capsys)["complete"] is True

    def test_an_error_leaves_the_json_of_what_was_done(
        self,
        on_tiny_plan: Callable[..., Run],
        shots: Path,
        at_second_image: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail() -> None:
            raise MemoryError

        at_second_image(fail)
        assert on_tiny_plan("segment")(shots, *COMMANDS["segment"], "--json") == 1
        document = document_of(capsys)
        assert (document["complete"], len(document["images"])) == (False, 1)

    def test_a_signal_that_is_ignored_stays_so(
        self,
        on_tiny_plan: Callable[..., Run],
        shots: Path,
        at_second_image: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
        try:
            at_second_image(send(signal.SIGHUP))
            assert on_tiny_plan("segment")(shots, *COMMANDS["segment"]) == 0
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_a_demo_that_is_hung_up_writes_video_and_json(
        self,
        on_tiny_plan: Callable[..., Run],
        shots: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        av = pytest.importorskip("av")
        answer = demo.Player._answer

        def hung_up(self: demo.Player, frame: Any) -> Any:
            if self.answered == 2:
                send(signal.SIGHUP)()
            return answer(self, frame)

        monkeypatch.setattr(demo.Player, "_answer", hung_up)
        found = tmp_path / "found.mp4"
        arguments = ("--words", "mug", "--every-frame", "--no-window", "-o", found, "--json")
        assert on_tiny_plan("demo")(shots, *arguments) == 130
        document = document_of(capsys)
        assert (document["stopped"], document["answered"]) == ("interrupted", 2)
        with av.open(str(found)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 2


class TestImports:
    def test_ctrl_c_while_modules_are_imported_is_no_traceback(self) -> None:
        code = (
            "import os, signal, sys\n"
            "class Finder:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'xdecoder_rt.cli.dispatch':\n"
            "            os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Finder())\n"
            "from xdecoder_rt.cli import main\n"
            "sys.argv = ['xdecoder-rt', '--help']\n"
            "sys.exit(main())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (130, "")
        assert "Traceback" not in done.stderr

    def test_the_package_of_the_command_imports_nothing_but_itself(self) -> None:
        code = (
            "import xdecoder_rt, sys\n"
            "before = set(sys.modules)\n"
            "import xdecoder_rt.cli\n"
            "print(sorted(set(sys.modules) - before))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "['xdecoder_rt.cli']"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
class TestStreams:
    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        script = f"set -o pipefail; '{sys.executable}' -m xdecoder_rt.cli {command}"
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True)

    @pytest.mark.parametrize("place", [">/dev/full", ">&-"])
    def test_a_stdout_that_takes_nothing_is_an_error_in_one_line(self, place: str) -> None:
        done = self.shell(f"segment --help {place}")
        assert done.returncode == 1
        assert done.stderr.startswith("error: Standard output cannot be written: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("place", ["2>/dev/full", "2>&-"])
    def test_a_stderr_that_takes_nothing_changes_no_result(self, place: str) -> None:
        done = self.shell(f"info /nowhere.plan --json {place}")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")

    def test_a_reader_that_has_gone_is_no_error_in_words(self) -> None:
        done = self.shell("segment --help | true")
        assert done.returncode in (0, 1)
        assert done.stderr == ""


@pytest.mark.parametrize(
    "name", ["z" * 300, "a\0b", "\ud800", "d/" * 3000 + "x"], ids=["long", "nul", "half", "deep"]
)
class TestImpossibleNames:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["info", "NAME"],
            ["extract", "NAME"],
            ["segment", "NAME", "--words", "mug"],
            ["segment", "PHOTO", "--words", "mug", "-o", "NAME.png"],
            ["segment", "PHOTO", "--words", "mug", "-o", "NAME/"],
            ["segment", "PHOTO", "--words", "mug", "--labels-png", "NAME.png"],
            ["segment", "PHOTO", "--words", "mug", "--json", "NAME"],
            ["segment", "PHOTO", "--words-file", "NAME"],
            ["demo", "NAME", "--words", "mug", "--no-window"],
            ["demo", "SHOTS", "--words", "mug", "--no-window", "-o", "NAME"],
            ["demo", "SHOTS", "--words", "mug", "--no-window", "-o", "NAME.avi"],
            ["eval", "PLAN", "NAME"],
        ],
        ids=" ".join,
    )
    def test_are_told_in_our_words(
        self,
        name: str,
        arguments: list[str],
        tiny_plan: Path,
        photo: Path,
        shots: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        texts = [
            text.replace("NAME", name)
            .replace("PHOTO", str(photo))
            .replace("SHOTS", str(shots))
            .replace("PLAN", str(tiny_plan))
            for text in arguments
        ]
        plan = ["--plan", str(tiny_plan)] if arguments[0] in ("segment", "demo") else []
        assert main([*texts, *plan]) == 1
        error = capsys.readouterr().err
        (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
        assert "Run again with --debug" not in line and len(line) < 1500


def test_a_message_is_never_longer_than_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "a.png", "--words", "mug", "--task", "x" * 10_000]) == 2
    assert len(capsys.readouterr().err) < 4000
