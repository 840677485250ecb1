"""Typed lines are read when they are whole, and nothing waits for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from xdecoder_rt.cli.line_input import LineInput


@pytest.fixture
def pipe() -> Iterator[tuple[LineInput, BinaryIO]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0) as keyboard:
        yield LineInput(reading), keyboard


def test_nothing_typed_gives_nothing_at_once(pipe: tuple[LineInput, BinaryIO]) -> None:
    lines, _ = pipe
    assert lines.poll() == []


def test_a_line_comes_when_it_is_whole(pipe: tuple[LineInput, BinaryIO]) -> None:
    lines, keyboard = pipe
    keyboard.write(b"mug, ro")
    assert lines.poll() == []
    keyboard.write("bot arm, Möbel\r\n\nnext".encode())
    assert lines.poll() == ["mug, robot arm, Möbel"]
    keyboard.write(b" one\nand another\n")
    assert lines.poll() == ["next one", "and another"]


def test_the_end_completes_the_last_line(pipe: tuple[LineInput, BinaryIO]) -> None:
    lines, keyboard = pipe
    keyboard.write(b"mug")
    keyboard.close()
    assert lines.poll() == ["mug"]
    assert lines.poll() == []


def test_without_standard_input_there_are_no_lines() -> None:
    assert LineInput(None).poll() == []


def test_a_closed_descriptor_is_an_end() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    assert LineInput(reading).poll() == []


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    reading, writing = os.pipe()
    lines = LineInput(reading)
    try:
        os.set_blocking(writing, False)
        lengths = []
        for _ in range(100):
            try:
                os.write(writing, b"x" * 65536)
            except (BlockingIOError, BrokenPipeError):
                break
            lengths += [len(line) for line in lines.poll()]
        assert lengths and max(lengths) < 4 << 20
    finally:
        os.close(reading)
        os.close(writing)
