"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xdecoder_rt import atomic
from xdecoder_rt.atomic import atomic_writer

WRITER = """
import sys, time
from xdecoder_rt.atomic import atomic_writer
with atomic_writer(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_swept", set())


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == ".tmp"]


def write(path: Path) -> None:
    with atomic_writer(path) as file:
        file.write(b"whole")


def age(path: Path) -> None:
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"begun\n"
        (begun,) = temporaries(tmp_path)
        age(begun)
        write(tmp_path / "b.json")
        assert temporaries(tmp_path) == [begun]
        writer.kill()
    age(begun)
    atomic._swept.clear()
    write(tmp_path / "b.json")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_a_file_that_was_just_begun_and_files_of_others_stay(tmp_path: Path) -> None:
    fresh_one = tmp_path / f".xdecoder_rt-{'0' * 16}.tmp"
    foreign = tmp_path / ".other.tmp"
    link = tmp_path / f".xdecoder_rt-{'1' * 16}.tmp"
    for path in (fresh_one, foreign):
        path.write_bytes(b"")
    age(foreign)
    link.symlink_to(foreign)
    write(tmp_path / "a.json")
    assert fresh_one.exists() and foreign.exists() and link.is_symlink()


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("\u6f22" * 85)
    write(path)
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["z" * 300, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_an_os_error_with_a_reason(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(OSError) as refusal:
        write(tmp_path / name)
    assert refusal.value.strerror
