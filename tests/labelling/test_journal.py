"""The journal: a run may end at any byte, and every finished picture is there once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.labelling.journal import JOURNAL, Journal

SETTINGS = {"plan": "0", "task": "panoptic"}


def result(key: str, score: float = 0.5) -> dict[str, Any]:
    segment = {
        "label": "mug",
        "score": score,
        "isthing": True,
        "area": 6,
        "box": [0, 0, 3, 2],
        "mask": {"size": [2, 3], "counts": "06"},
    }
    return {"key": key, "size": [2, 3], "segments": [segment], "phrases": [], "caption": None}


def test_what_was_appended_is_read_in_any_order_by_the_next_run(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        for key in "abc":
            journal.append(result(key))
    with Journal(tmp_path, SETTINGS) as journal:
        assert len(journal) == 3 and "b" in journal and "d" not in journal
        assert [record.key for record in journal.records("ca")] == ["c", "a"]
        (record,) = journal.records("b")
        assert record.segments[0].mask.all() and record.size == (2, 3)


def test_a_picture_is_noted_once(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.append(result("a"))
        journal.append(result("a", 0.9))
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == 2


def test_a_journal_cut_at_any_byte_loses_the_unfinished_line_and_no_other(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        for key in "ab":
            journal.append(result(key))
    whole = (tmp_path / JOURNAL).read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(0, len(whole) + 1, 7):
        (tmp_path / JOURNAL).write_bytes(whole[:length])
        with Journal(tmp_path, SETTINGS) as journal:
            assert len(journal) == max(0, sum(end <= length for end in ends) - 1)
            journal.append(result("a"))
            journal.append(result("b"))
        assert (tmp_path / JOURNAL).read_bytes() == whole


def test_a_damaged_line_costs_its_picture_alone(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        for key in "abc":
            journal.append(result(key))
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    for damage in (b"\0" * 40 + b"\n", b"[]\n", b'{"key": "b"}\n', b"\xff\n"):
        (tmp_path / JOURNAL).write_bytes(b"".join([*lines[:2], damage, lines[3]]))
        with Journal(tmp_path, SETTINGS) as journal:
            assert "a" in journal and "b" not in journal and "c" in journal


def test_other_settings_are_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS):
        pass
    with pytest.raises(ArgumentError, match="begun with another task"):
        Journal(tmp_path, {**SETTINGS, "task": "instance"})


@pytest.mark.parametrize("content", [b"hello\n", b'{"images": []}\n', b"hello", b"[1]\n"])
def test_a_file_of_others_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(DatasetError, match="no journal"):
        Journal(tmp_path, SETTINGS)
    assert (tmp_path / JOURNAL).read_bytes() == content


def test_two_runs_do_not_write_at_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="locks of POSIX")
    with (
        Journal(tmp_path, SETTINGS),
        pytest.raises(ArgumentError, match="Another process labels into"),
    ):
        Journal(tmp_path, SETTINGS)
    with Journal(tmp_path, SETTINGS):
        pass


def full_after(count: int) -> Callable[..., int]:
    """Return a pwrite of a disk that has room for so many bytes."""
    write, room = os.pwrite, [count]

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        part = data[: room[0]]
        room[0] -= len(part)
        return write(descriptor, part, offset)

    return pwrite


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.append(result("a"))
        before = (tmp_path / JOURNAL).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full_after(room))
            with pytest.raises(ArgumentError, match=r"No space left.*Fix: make room"):
                journal.append(result("b"))
        assert (tmp_path / JOURNAL).read_bytes() == before
        journal.append(result("b"))
    lines = (tmp_path / JOURNAL).read_bytes().splitlines()
    assert [json.loads(line)["key"] for line in lines[1:]] == ["a", "b"]


def test_the_most_doubtful_are_those_of_the_lowest_least_score(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        for key, score in (("sure", 0.9), ("unsure", 0.2), ("middling", 0.7)):
            journal.append(result(key, score))
        journal.append({**result("empty"), "segments": []})
        order = journal.most_doubtful(["sure", "unsure", "middling", "empty"], 3)
        assert order == ["unsure", "empty", "middling"]
