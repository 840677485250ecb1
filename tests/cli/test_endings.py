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
from command_line import Run, document_of, save_picture

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

        def loading(source: Any) -> Any:
            if isinstance(source, str):
                reads.append(source)
                if len(reads) == 2:
                    action()
            return load(source)

        monkeypatch.setattr(image, "load_image", loading)

    return install


def send(*numbers: int) -> Callable[[], None]:
    def kill() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    return kill


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
