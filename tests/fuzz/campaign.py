"""Runs of a target, each within bounds of time and memory, and what is found."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType

import parsers
from parsers import Read, Target

from xdecoder_rt.errors import XDecoderError

MESSAGE_LIMIT = 4_000
_SOUND_SHARE = 0.6
_NOVEL_LIMIT = 256
_NOVEL_BYTES = 1 << 16


@dataclass(frozen=True)
class Finding:
    """Something that is neither a result nor an error of ours.

    Attributes:
        target: what was read.
        kind: "exception", "message", "slow", "memory" or "death".
        place: the innermost line of ours, which tells findings apart.
        story: the traceback or the figure.
        data: what was read then.
    """

    target: str
    kind: str
    place: str
    story: str
    data: bytes

    @property
    def key(self) -> str:
        return f"{self.target} {self.kind} {self.place}"


@dataclass
class Batch:
    """What some runs of a target came to.

    Attributes:
        runs: how many.
        results: how many ended in a result; all others ended in an error of ours, or are findings.
        seconds: CPU time.
        endings: error of ours to count.
        findings: the first of each place.
        novel: inputs that ended as none had before.
    """

    runs: int = 0
    results: int = 0
    seconds: float = 0.0
    endings: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)
    novel: list[bytes] = field(default_factory=list)


def run_once(target: Target, read: Read, data: bytes) -> tuple[str, Finding | None]:
    """Read some bytes; return how that ended, and what was found if anything was."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    ending, finding = "result", None
    try:
        read(data)
    except XDecoderError as error:
        ending, message = _shape_of(error), str(error)
        if "\n" in message or len(message) > MESSAGE_LIMIT:
            finding = Finding(target.name, "message", _place(error.__traceback__), message, data)
    except Exception as error:
        place = f"{type(error).__name__} {_place(error.__traceback__)}"
        ending = f"finding {place}"
        finding = Finding(target.name, "exception", place, traceback.format_exc(), data)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    grown = (after.ru_maxrss - before.ru_maxrss) * 1024
    if finding is None and seconds > target.seconds:
        finding = Finding(target.name, "slow", ending[:60], f"{seconds:.1f} s", data)
    if finding is None and grown > target.memory:
        finding = Finding(target.name, "memory", ending[:60], f"{grown >> 20} MiB", data)
    return ending, finding


def run_batch(
    name: str, seed: int, runs: int, corpus: list[bytes], black_box: Callable[[bytes], None]
) -> Batch:
    """Change and read files of a target.

    Args:
        name: the target's.
        seed: tells, with the corpus, every change.
        runs: how many.
        corpus: files beside the seeds.
        black_box: told each file before it is read, for the case that this process ends by it.
    """
    target = next(each for each in parsers.TARGETS if each.name == name)
    rng = Random(f"{name} {seed}")
    batch, seen = Batch(), set[str]()
    before, home = time.process_time(), os.getcwd()
    with (
        tempfile.TemporaryDirectory(dir=parsers.fast_folder()) as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        read = target.prepare(Path(folder))
        sound = target.seeds()
        for data in sound:
            seen.add(run_once(target, read, data)[0])
        pool = [*sound, *corpus]
        for _ in range(runs):
            # Most novel files end in an error, and few errors lead to a result.
            source = rng.choice(sound if rng.random() < _SOUND_SHARE else pool)
            data = target.mutate(rng, source, rng.choice(pool))
            black_box(data)
            ending, finding = run_once(target, read, data)
            batch.runs += 1
            batch.results += ending == "result"
            batch.endings[ending.partition(":")[0]] += 1
            if finding is not None:
                batch.findings.setdefault(finding.key, finding)
            elif ending not in seen and len(data) <= _NOVEL_BYTES and len(pool) < _NOVEL_LIMIT:
                pool.append(data)
                batch.novel.append(data)
            seen.add(ending)
        os.chdir(home)
    batch.seconds = time.process_time() - before
    return batch


def _shape_of(error: XDecoderError) -> str:
    """The kind and wording of an error, without what it quotes and counts."""
    words = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|-?\d[\d,.e+]*", "_", error.what)
    return f"{type(error).__name__}: {words[:160]}"


def _place(trace: TracebackType | None) -> str:
    """The innermost line of ours."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "xdecoder_rt" in frame.filename]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.name}"


def name_of(data: bytes) -> str:
    """A short name for a file, by its contents."""
    return hashlib.sha256(data).hexdigest()[:16]
