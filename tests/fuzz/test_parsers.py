"""A short run of every target; ``python tests/fuzz`` is the long one."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from random import Random

import campaign
import parsers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers import Target

SLOW = 5  # a share of that and below has runs of many milliseconds
EXAMPLES, SLOW_EXAMPLES = 60, 8

TARGETS = pytest.mark.parametrize("target", parsers.TARGETS, ids=lambda target: target.name)


def prepared(target: Target, folder: Path, monkeypatch: pytest.MonkeyPatch) -> parsers.Read:
    for package in target.needs:
        pytest.importorskip(package)
    for name in ("HOME", "XDG_CACHE_HOME"):  # one target sets them
        monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(folder)
    return target.prepare(folder)


@TARGETS
def test_what_changes_begin_from_is_sound(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = prepared(target, tmp_path, monkeypatch)
    endings = [campaign.run_once(target, read, data) for data in target.seeds()]
    assert not [finding.story for _, finding in endings if finding is not None]
    if target.name != "torch_file":  # its tensors are those of no network
        assert "result" in [ending for ending, _ in endings]


@TARGETS
def test_a_changed_file_gives_a_result_or_an_error_of_ours(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seeds = prepared(target, tmp_path, monkeypatch), target.seeds()

    @settings(max_examples=SLOW_EXAMPLES if target.share <= SLOW else EXAMPLES, deadline=None)
    @given(st.randoms(use_true_random=False))
    def run(rng: Random) -> None:
        data = target.mutate(rng, rng.choice(seeds), rng.choice(seeds))
        _, finding = campaign.run_once(target, read, data)
        assert finding is None, finding.story

    run()


def test_a_batch_tells_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: foreign errors, long messages and used memory are findings."""
    from xdecoder_rt.errors import PlanError

    class LongError(PlanError):
        def __str__(self) -> str:
            return "x" * 5_000

    held = []

    def read(data: bytes) -> object:
        if data == b"foreign":
            raise KeyError("no error of ours")
        if data == b"long":
            raise LongError("it")
        if data == b"large":
            # The process may have held more before, and what counts is the most that it ever held.
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            held.append(bytearray(b"x" * (most - now + (320 << 20))))
        return None

    # Filling memory takes long where the process had much before.
    target = Target(
        "one", "", lambda: [], lambda rng, data, other: data, lambda folder: read, seconds=300.0
    )
    kinds = {}
    for data in (b"fine", b"foreign", b"long", b"large"):
        _, finding = campaign.run_once(target, read, data)
        kinds[data] = finding.kind if finding else None
    assert kinds == {b"fine": None, b"foreign": "exception", b"long": "message", b"large": "memory"}


def test_a_seed_tells_every_change() -> None:
    first, second = (campaign.run_batch("manifest", 3, 40, [], lambda data: None) for _ in "ab")
    assert (first.endings, first.novel) == (second.endings, second.novel)


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent), "--targets", "archive", "pickle"]
    for runs in ("40", "90"):
        options = ["--jobs", "1", "--folder", str(tmp_path), "--runs", runs]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "counts.json").read_bytes())
    assert [entry["batches"] for entry in counts.values()] == [2, 2]
    assert 90 <= sum(entry["runs"] for entry in counts.values()) <= 92
    assert "0 findings" in done.stdout
