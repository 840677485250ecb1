"""Every command and snippet of the documentation and of ``--help`` is one that is taken.

Commands go through the parser of the program that they name, so an option that is not there fails;
what commands do is tested beside each. Python snippets run in a folder where the plan is a tiny
model's and the picture is small; those that cannot stand in `NOT_RUN`, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import save_picture

from xdecoder_rt.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
ARGUMENTS = re.compile(r"python -m xdecoder_rt|python benchmarks|xdecoder-rt \w+ \S*[-A-Z/.]")

# What a page has said by then, for snippets that go on from it. The README's begin from nothing.
KNOWN_NAMES = {
    "docs/presets.md": ("engine", "img"),
    "docs/words.md": ("engine", "img", "plan_of_the_day"),
    "docs/tensorrt.md": ("frame",),
    "docs/kernels.md": ("problem", "operands", "out", "stream"),
}
# Programs of others, which this cannot parse.
FOREIGN = {
    "sudo": "changes the machine",
    "export": "sets a variable of the shell",
    "git": "fetches the repository",
    "cd": "goes on from git",
    "scp": "needs a board",
    "nvcc": "needs CUDA",
    ".": "goes on from venv",
    "trtexec": "needs TensorRT",
    "jq": "reads what comes before the pipe",
    "pytest": "is this",
    "ros2": "needs ROS 2",
}
# Pages whose snippets are compiled and searched for unknown names, and not run.
NOT_RUN = {
    "docs/kernels.md": "needs a GPU",
    "docs/tensorrt.md": "needs a GPU",
    "docs/tensorrt-build.md": "needs TensorRT-RTX, and minutes; tests/export/tensorrt builds",
}
RUN = ("README.md", "docs/words.md")


@dataclass(frozen=True)
class Command:
    """A command as it is written.

    Attributes:
        place: the page or module.
        words: the program and its arguments.
    """

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def commands_of(text: str, place: str) -> Iterator[Command]:
    """Yield the commands of a shell's text, one for each part of a list or a pipe."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                if words:
                    yield Command(place, tuple(words))
                words = []
            else:
                words.append(word)


def fenced(language: str) -> list[tuple[str, str]]:
    """Return the blocks of a language in all pages, with their places."""
    return [
        (page, block)
        for page in PAGES
        for name, block in FENCE.findall((ROOT / page).read_text())
        if name == language
    ]


def inline() -> Iterator[Command]:
    """Yield the commands in the pages' running text that have arguments."""
    for page in PAGES:
        text = FENCE.sub("", (ROOT / page).read_text())
        for code in INLINE.findall(text):
            code = " ".join(code.split())
            if re.match(
                r"(python -m xdecoder_rt|python benchmarks|xdecoder-rt \w+ \S*[-A-Z/.])", code
            ):
                yield from commands_of(code, page)


def of_help() -> Iterator[Command]:
    """Yield the examples that commands print; a remark stands behind two spaces."""
    texts = {f"{name} --help": importlib.import_module(f"xdecoder_rt.cli.{name}").EXAMPLES
             for name in COMMANDS}  # fmt: skip
    for module, name in (
        ("scenes.__main__", "_EXAMPLES"),
        ("parity.__main__", "EXAMPLES"),
        ("training.distillation.__main__", "_EXAMPLES"),
    ):
        texts[module] = getattr(importlib.import_module(f"xdecoder_rt.{module}"), name)
    programs = r"(xdecoder-rt|python|torchrun|some-program|[a-z]+ .*\| xdecoder-rt) "
    for place, text in texts.items():
        for line in text.replace("\\\n", " ").splitlines():
            line = re.sub(r"(?<=\S) {2,}(?=[-\"'])", " ", line.strip())
            code = re.split(r" {2,}", line)[0]
            if re.match(programs, code + " "):
                yield from commands_of(code, place)


WRITTEN = list(
    dict.fromkeys(
        [
            *(c for page, block in fenced("bash") for c in commands_of(block, page)),
            *inline(),
            *of_help(),
        ]
    )
)


class _Parsed(BaseException):
    """Raised where a program has parsed its arguments, so that it does nothing else."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs stop when they have parsed their command line."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *arguments: object) -> None:
        parse(parser, *arguments)  # type: ignore[call-overload]
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)


def call(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> object:
    """Call the program that a command names, in this process."""
    program, *arguments = words
    if program == "xdecoder-rt":
        return main(arguments)
    if program == "torchrun":
        arguments = arguments[arguments.index("-m") :]
    if arguments[0] == "-m":
        monkeypatch.setattr(sys, "argv", arguments[1:])
        return runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.syspath_prepend(str((ROOT / arguments[0]).parent))
    return runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")


def check_foreign(words: tuple[str, ...]) -> bool:
    """Check a command of another program as far as the repository knows it; False for ours."""
    program, *arguments = words
    if program in FOREIGN:
        return True
    if program in ("pip", "python3", "python") and arguments[:1] != ["-m"] and program != "python":
        if program == "pip":
            check_pip(arguments)
        return True
    if program == "python3" or arguments[:1] == ["-c"]:
        return True
    scripts = [word for word in words if word.endswith(".sh")]
    if scripts or program == ".ci/run":
        path = ROOT / (scripts[0] if scripts else program)
        subprocess.run(["bash", "-n", path], check=True)
        return True
    return False


def check_pip(arguments: list[str]) -> None:
    """Check that the extras that are installed exist."""
    project = (ROOT / "pyproject.toml").read_text()
    for argument in arguments:
        if found := re.search(r"(?:^\.|xdecoder_rt)\[(.+)\]$", argument):
            for extra in found[1].split(","):
                assert re.search(rf"^{re.escape(extra)} = \[", project, re.MULTILINE), extra
        if argument.endswith(".txt"):
            assert (ROOT / argument).is_file(), argument


@pytest.mark.parametrize("command", WRITTEN, ids=lambda c: f"{c.place}: {c}"[:120])
@pytest.mark.usefixtures("only_parse")
def test_the_program_takes_the_command(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if check_foreign(command.words):
        return
    assert command.words[0] in ("xdecoder-rt", "python", "torchrun"), f"what is {command}?"
    try:
        code = call(command.words, monkeypatch)
    except _Parsed:
        return
    except SystemExit as end:
        code = end.code
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    pytest.fail(f"{command} was not taken: {code}, {capsys.readouterr().err}")


@pytest.fixture(scope="module")
def desk(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documentation names, small ones."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("model", "robot"):
        shutil.copy(tiny_plan, folder / f"{name}.plan")
    save_picture(folder / "frame.png").rename(folder / "frame.jpg")  # read by what it holds
    words = next(
        block for name, block in FENCE.findall((ROOT / "docs/words.md").read_text())
        if name == "" and "# kitchen.txt" in block
    )  # fmt: skip
    (folder / "kitchen.txt").write_text(words)
    return folder


def test_snippets_of_every_page_run_or_have_a_reason() -> None:
    pages = {page for page, _ in fenced("python")}
    assert pages == {*RUN, *NOT_RUN}


@pytest.mark.parametrize(
    ("page", "code"), fenced("python"), ids=lambda value: " ".join(value.split())[:60]
)
def test_a_snippet_has_no_names_that_its_page_does_not_give(page: str, code: str) -> None:
    given = KNOWN_NAMES.get(page, ())
    earlier = "".join(
        block for other, block in fenced("python") if other == page and page != "README.md"
    ).split(code)[0]
    text = "".join(f"{name} = None\n" for name in given) + earlier + code
    compile(text, page, "exec")
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821", "-"]
    done = subprocess.run(ruff, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("number", range(2))
def test_the_snippets_of_the_first_page_run(
    number: int, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDECODER_RT_CACHE", str(desk / "cache"))
    snippets = [block for page, block in fenced("python") if page == "README.md"]
    assert len(snippets) == 2
    # A tiny model that was never trained has no answers of its own.
    code = (
        snippets[number]
        .replace("engine.answer(state, question)", "engine.answer(state, question, choices=words)")
        .replace("answer=question", "answer=question, choices=words")
    )
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_words_of_the_page_on_words_can_be_asked_for(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt import Engine

    monkeypatch.chdir(desk)
    snippets = [block for page, block in fenced("python") if page == "docs/words.md"]
    with Engine("robot.plan", cache_dir=desk / "cache") as engine:
        names = {"engine": engine, "img": "frame.jpg", "plan_of_the_day": ["mug", "pan"]}
        for code in snippets:
            if "engine.vocabularies" not in code:  # of a plan that carries some
                exec(compile(code, "docs/words.md", "exec"), names)
