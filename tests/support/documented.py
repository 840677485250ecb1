"""Commands and snippets of the documentation, of ``--help``, and of the heads of scripts."""

from __future__ import annotations

import argparse
import ast
import functools
import glob
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from xdecoder_rt.cli.dispatch import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
WITH_ARGUMENTS = re.compile(
    r"python -m xdecoder_rt|python (benchmarks|tests)/|xdecoder-rt \w+ \S*[-A-Z/.]"
)
STARTER_SCRIPT = "examples/train_starter.sh"


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

    @property
    def program(self) -> tuple[str, ...]:
        """What is run, without its arguments: ``("python", "-m", "xdecoder_rt.scenes")``."""
        if self.words[0] == "torchrun":
            return ("python", *self.words[self.words.index("-m") :][:2])
        count = 1 if self.words[0] == "xdecoder-rt" else 3 if self.words[1] == "-m" else 2
        return self.words[:count]

    @property
    def arguments(self) -> list[str]:
        """Its arguments."""
        last = self.program[-1]
        return list(self.words[self.words.index(last) + 1 :])


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
            if WITH_ARGUMENTS.match(code):
                yield from commands_of(code, page)


def of_help() -> Iterator[Command]:
    """Yield the examples that commands print; a remark stands behind two spaces."""
    modules = {name: f"xdecoder_rt.cli.{name.replace('-', '_')}" for name in COMMANDS}
    texts = {
        f"{name} --help": importlib.import_module(module).EXAMPLES
        for name, module in modules.items()
    }
    for module, name in (
        ("scenes.__main__", "_EXAMPLES"),
        ("parity.__main__", "EXAMPLES"),
        ("training.distillation.__main__", "_EXAMPLES"),
        ("training.region.__main__", "_EXAMPLES"),
    ):
        texts[module] = getattr(importlib.import_module(f"xdecoder_rt.{module}"), name)
    for place, text in texts.items():
        yield from _of_lines(text, place)


def of_scripts() -> Iterator[Command]:
    """Yield the commands at the heads of scripts; those with parts in brackets are a synopsis."""
    for folder in ("examples", "benchmarks", "export", "kernels", "calibration"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            for command in _of_lines(text, str(path.relative_to(ROOT))):
                if not any(word.startswith("[") for word in command.words):
                    yield command


def _of_lines(text: str, place: str) -> Iterator[Command]:
    programs = r"(xdecoder-rt|python|torchrun|ros2|some-program|[a-z]+ .*\| xdecoder-rt) [^ ]"
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(?<=\S) {2,}(?=[-\"'])", " ", line.strip())
        code = re.split(r" {2,}", line)[0]
        if re.match(programs, code):
            yield from commands_of(code, place)


def issued_by(script: str, arguments: list[str], folder: Path) -> list[Command]:
    """Run a script with stand-ins that note what they are called with, and do nothing else."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    for name in ("sudo", "pip", "apt-get", "dpkg-deb", "find", "python", "xdecoder-rt"):
        (programs / name).write_text(
            f'#!/bin/sh\nprintf "%s\\037" {name} "$@" >> "$CALLS"\nprintf "\\n" >> "$CALLS"\n'
        )
        (programs / name).chmod(0o755)
    calls = folder / "calls"
    subprocess.run(
        ["bash", ROOT / script, *arguments],
        check=True,
        capture_output=True,
        cwd=folder,
        env={"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(calls)},
    )
    lines = calls.read_text().splitlines()
    return [Command(script, tuple(line.split("\037")[:-1])) for line in lines]


def written() -> list[Command]:
    """Return all commands in the order of their pages, each once a place."""
    in_blocks = (c for page, block in fenced("bash") for c in commands_of(block, page))
    return list(dict.fromkeys([*in_blocks, *inline(), *of_help(), *of_scripts()]))


class _ReachedParserError(BaseException):
    """Raised where a program would parse its arguments, so that it does nothing else."""

    def __init__(self, parser: argparse.ArgumentParser, first: Sequence[str]) -> None:
        super().__init__()
        self.parser = parser
        self.first = list(first)


@functools.cache
def parser_of(program: tuple[str, ...]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser of a program of ours, from the program itself, run up to there.

    Returns:
        The parser, and the arguments that the program puts before those it is given.

    Raises:
        ModuleNotFoundError: an optional package is not installed.
    """
    if program == ("xdecoder-rt",):
        from xdecoder_rt.cli.dispatch import _build_parser

        return _build_parser(), []

    def stop(parser: argparse.ArgumentParser, args: Sequence[str] | None = None) -> None:
        raise _ReachedParserError(parser, args or [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patch.setattr(sys, "argv", [program[-1]])
        try:
            if program[1] == "-m":
                # A script of the benchmarks puts their folder on the path before such a call.
                patch.syspath_prepend(str(ROOT / "benchmarks"))
                runpy.run_module(program[2], run_name="__main__", alter_sys=True)
            else:
                path = ROOT / program[1]
                patch.syspath_prepend(str(path.parent))
                runpy.run_path(str(path), run_name="__main__")
        except _ReachedParserError as reached:
            return reached.parser, reached.first
    raise AssertionError(f"{program} parses no arguments")


def expanded(words: list[str]) -> list[str]:
    """Return words with the names of files in place of a pattern, as a shell would."""
    return [name for word in words for name in (sorted(glob.glob(word)) or [word])]
