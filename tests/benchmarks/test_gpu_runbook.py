"""The GPU runbook, ``benchmarks/gpu.sh``, as far as it goes without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the runbook's clock needs torch")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from gpu.problems import DENSITIES, Shape, blobs
from gpu.report import Report
from gpu.section import INSTALLED, PARTS, SHARES, Result, part_of, read_records, run_limited
from gpu.tests import read_junit
from gpu.timing import Run, Timing, prepare, sample_calls, tensors, time_in_turns

ROOT = Path(__file__).parents[2]


def test_shares_are_parts_of_a_whole() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


@given(
    waiting=st.lists(st.sampled_from(list(SHARES)), min_size=1, unique=True),
    used=st.lists(st.floats(0, 1), min_size=9, max_size=9),
)
def test_sections_never_get_more_than_is_left_and_the_last_gets_it_all(
    waiting: list[str], used: list[float]
) -> None:
    remaining, whole = 187.0, sum(SHARES[name] for name in waiting)
    for place, part in zip(range(len(waiting)), used, strict=False):
        seconds = part_of(remaining, waiting[place:])
        assert 0 < seconds <= remaining * (1 + 1e-9)
        if place == len(waiting) - 1:
            assert seconds == pytest.approx(remaining)
        # At least its share of the whole, since the others leave theirs or take no more.
        assert seconds >= 187 * SHARES[waiting[place]] / whole - 1e-6
        # Sections are ended when their time is over.
        remaining -= seconds * part


def test_two_parts_have_every_section_and_both_say_what_the_device_is() -> None:
    assert {*PARTS["1"], *PARTS["2"]} == set(SHARES)
    assert set(PARTS["1"]) & set(PARTS["2"]) == {"device"}


def test_no_time_is_left_after_the_end() -> None:
    assert part_of(0.0, list(SHARES)) == 0


def test_runs_take_turns_and_each_turn_begins_with_another() -> None:
    order: list[str] = []

    def sample(run: Run) -> list[float]:
        name, taken = run.keep_alive  # type: ignore[misc]
        order.append(name)
        return [taken] * 10

    runs = {
        name: Run(lambda: None, lambda: None, "host", keep_alive=(name, us))
        for name, us in (("a", 1.0), ("b", 2.0))
    }
    timings = time_in_turns(runs, rounds=3, sample=sample)
    assert order == list("ab" + "ba" + "ab")
    assert {name: (t.median, t.calls) for name, t in timings.items()} == {
        "a": (1, 30),
        "b": (2, 30),
    }


def test_without_a_gpu_a_function_is_called_once_to_prepare_it_and_once_a_sample() -> None:
    called: list[int] = []

    def function() -> list[int]:
        called.append(len(called))
        return called

    run = prepare(function, "cpu")
    assert (called, run.how) == ([0], "host")
    (taken,) = sample_calls(run)
    assert taken > 0 and called == [0, 1]
    assert tensors(run.output()) == (0, 1)


@given(taken=st.lists(st.floats(0, 1e6), min_size=1))
def test_timings_are_of_what_was_taken(taken: list[float]) -> None:
    timing = Timing.of(taken)
    assert min(taken) <= timing.low <= timing.median <= timing.high <= max(taken)
    assert timing.calls == len(taken)


def test_what_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(alive)!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert run_limited([sys.executable, "-c", code], 0.5) is None
    assert run_limited([sys.executable, "-c", "raise SystemExit(5)"], 30) == 5
    time.sleep(3)
    assert not alive.exists()


def test_what_is_interrupted_may_say_what_it_knows(tmp_path: Path) -> None:
    known = tmp_path / "known"
    code = (
        "import time, pathlib\n"
        "try: time.sleep(60)\n"
        f"except KeyboardInterrupt: pathlib.Path({str(known)!r}).touch()"
    )
    assert run_limited([sys.executable, "-c", code], 1.0, grace=20) is None
    assert known.exists()


def test_outcomes_of_tests_are_those_that_pytest_writes(tmp_path: Path) -> None:
    (tmp_path / "test_three.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): raise ValueError('no')\n"
        "def test_absent(): pytest.skip('needs more')\n"
    )
    report = tmp_path / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "--rootdir=."]
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert read_junit(report) == [
        ("test_three::test_good", "passed", ""),
        ("test_three::test_bad", "failed", "ValueError: no"),
        ("test_three::test_absent", "skipped", "needs more"),
    ]


def test_a_line_that_was_cut_off_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"kind": "row"}\n{"kind": "r')
    assert read_records(path) == [{"kind": "row"}]


SHAPE = Shape("compact", 3, 64, 65, 65, 32)


@pytest.mark.parametrize("density", DENSITIES)
def test_masks_are_blobs_of_the_density_with_exact_logits(density: float) -> None:
    embedding, features = blobs(SHAPE, density, np.random.default_rng(0))
    for factor in (embedding, features):
        assert np.array_equal(factor.astype(np.float16), np.rint(factor))
    logits = embedding @ features
    assert abs(logits).max() <= 2048
    is_open = logits >= 0
    assert is_open.mean() == pytest.approx(density, abs=0.01)
    # A position mostly is as its neighbour is.
    level = is_open.reshape(-1, SHAPE.side, SHAPE.side)
    same = (level[:, 1:] == level[:, :-1]).mean()
    assert same > 1 - density


def timed(us: float, **fields: Any) -> dict[str, Any]:
    """A way that was timed."""
    timing = {"median": us, "low": us, "high": us, "calls": 50}
    return {"ours": False, "whole": True, "how": "graph", "us": timing, **fields}


def report_of(*results: Result) -> Report:
    started = datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc)
    return Report(started, "cuda", 190, list(results))


DEVICE = Result(
    "device",
    "done",
    records=[
        {"kind": "facts", "name": "GPU X", "driver": "1.2"},
        {"kind": "rates", "copy_gb_s": 1000.0, "fp16_tflop_s": 100.0, "fp32_tflop_s": 10.0},
    ],
)


def attention_of(**ways: dict[str, Any]) -> Result:
    row = {"kind": "row", "shape": SHAPE.as_json(), "density": 0.1, "splits": 1}
    named = {name.replace("_", " "): way for name, way in ways.items()}
    return Result("attention", "done", records=[{**row, "ways": named}])


def test_the_report_gives_times_and_ratios_to_what_ships() -> None:
    rows = attention_of(
        two_kernels=timed(20, ours=True),
        eager=timed(50, how="launches"),
        block_mask_given=timed(10, whole=False),
        broken={"ours": False, "whole": True, "failed": "RuntimeError: no | kernel"},
    )
    text = report_of(DEVICE, rows).markdown()
    assert "# GPU X, 2030-01-02 03:04 UTC" in text
    assert "copies 1000 GB/s" in text
    assert "| two kernels | 20.0 |" in text
    assert "| eager | 50.0† (2.50) |" in text
    assert "| block mask given | 10.0‡ (0.50) |" in text
    assert r"| broken | RuntimeError: no \| kernel |" in text
    floor = SHAPE.least_bytes / 1000 / 1e3
    assert f"{floor:.2f} µs at the measured rate" in text
    assert f"so many times as long: {20 / floor:.1f} at 10%" in text


def test_kernels_of_ours_that_fail_are_failures_and_others_are_not() -> None:
    broken = {"whole": True, "failed": "differs"}
    assert not report_of(attention_of(eager={"ours": False, **broken})).failures()
    found = report_of(attention_of(one_kernel={"ours": True, **broken})).failures()
    assert found == [
        "attention, one kernel, compact, fp16: 3 heads of 64, 65 channels, 65 queries, "
        "1024 keys: differs"
    ]
    assert report_of(Result("tests", "failed", "2 failed")).failures() == ["tests: 2 failed"]
    assert not report_of(Result("sanitizer", "not there", "no tool")).failures()


def test_a_report_of_sections_that_found_nothing_says_why(tmp_path: Path) -> None:
    results = [Result(name, "out of time", "it was ended") for name in SHARES]
    report_of(*results).write(tmp_path, "gpu")
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert [section["status"] for section in written["sections"]] == ["out of time"] * len(results)
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"| {name} | out of time | 0 s | it was ended |" in text for name in SHARES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


def test_every_other_section_has_its_table() -> None:
    step = {"kind": "row", "step": "panoptic_map", "problem": {"name": "compact"}}
    steps = {**step, "ways": {"kernel": timed(5, ours=True), "torch": timed(20)}}
    plan = {"kind": "plan", "model": "starter", "precision": "fp16", "tasks": ["segment"]}
    way = {"ours": True, "whole": True, "wrong": False, "ms": {"p50": 1.5, "p90": 2.0, "calls": 9}}
    asked = {"kind": "row", "way": "kernels", "task": "segment", "ways": {"kernels": way}}
    broken = {**asked, "task": "caption", "ways": {"kernels": {**way, "failed": "another text"}}}
    peak = {"kind": "memory", "way": "kernels", "peak_mib": 80.5}
    late = {"kind": "left out", "way": "kernels", "task": "refer", "reason": "no time was left"}
    case = {"kind": "row", "code": "PTX", "target": "sm_80", "driver": "ctypes"}
    good = {**case, "case": "any", "largest_difference": 0.001, "failed": ""}
    tool = {"kind": "row", "tool": "memcheck", "status": "clean", "found": "0 errors"}
    counts = {"kind": "counts", "passed": 3, "failed": 1, "skipped": 2}
    failure = {"kind": "failure", "test": "test_x", "reason": "AssertionError"}
    text = report_of(
        Result("steps", "done", records=[steps]),
        Result("engine", "done", records=[plan, asked, broken, peak, late]),
        Result("tensorrt", "done", records=[plan, {**asked, "way": "pycuda"}]),
        Result("loader", "done", records=[good]),
        Result("sanitizer", "done", records=[tool]),
        Result("tests", "failed", "1 failed", records=[counts, failure]),
    ).markdown()
    assert "## The plan starter, fp16, by the torch backend" in text
    assert "| kernels | segment | as on the CPU | 1.5 | 2.0 | 80.5 |" in text
    assert "- engine, kernels, caption: another text" in text
    assert "- kernels, refer: no time was left" in text
    assert "fp16, by the TensorRT backend, PyTorch in place of its engines" in text
    assert "| pycuda | segment | as on the CPU | 1.5 | 2.0 |  |" in text
    assert "| panoptic_map, compact | torch | 20.0 (4.00) |" in text
    assert "| PTX | sm_80 | any | largest difference 0.001 |" in text
    assert "| memcheck | clean | 0 errors |" in text
    assert "3 passed, 1 failed, 2 skipped" in text and "- failed: test_x: AssertionError" in text


def command(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, called in a folder."""
    script = ROOT / "benchmarks" / "gpu.sh"
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "TMPDIR": str(folder)}
    return subprocess.run(
        [str(script), *options], capture_output=True, text=True, cwd=folder, env=environment
    )


def test_all_but_the_engine_run_where_nothing_of_ours_is_compiled() -> None:
    program = """
import importlib, sys
from importlib.machinery import ExtensionFileLoader

create = ExtensionFileLoader.create_module
def refuse(self, spec):
    if spec.name.split(".")[0] == "xdecoder_rt":
        raise ModuleNotFoundError("there is no compiled " + spec.name, name=spec.name)
    return create(self, spec)
ExtensionFileLoader.create_module = refuse

for section in sys.argv[1:]:
    importlib.import_module("gpu." + section)
try:
    import xdecoder_rt.pixels.scaling
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            *(section for section in SHARES if section not in INSTALLED),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT / "benchmarks",
    )
    assert done.stderr == ""
    assert done.stdout.startswith("there is no compiled"), "nothing was withheld"


def test_the_command_leaves_the_report_and_nothing_else(tmp_path: Path) -> None:
    done = command(*("--device", "cpu", "--only", "sanitizer", "--output", "out"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (written,) = (tmp_path / "out").glob("*.json")
    statuses = {s["section"]: s["status"] for s in json.loads(written.read_text())["sections"]}
    assert statuses.pop("sanitizer") == "not there"
    assert set(statuses.values()) == {"left out"}


def test_the_command_says_what_had_to_be_brought(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(bytes(3 << 20))
    options = ("--device", "cpu", "--only", "sanitizer", "--plan", "model.plan")
    done = command(*options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wheels 0.0 MiB, plan 3.0 MiB: " in done.stdout
    absent = command("--plan", "none.plan", folder=tmp_path)
    assert absent.returncode == 2 and "there is no none.plan" in absent.stderr


@pytest.mark.slow
def test_a_plan_is_run_end_to_end_in_the_rehearsal(tiny_plan: Path, tmp_path: Path) -> None:
    options = ("--device", "cpu", "--budget", "600", "--part", "2", "--only", *INSTALLED)
    done = command(*options, "--plan", str(tiny_plan), "--output", "out", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = (tmp_path / "out").glob("*.md")
    text = written.read_text()
    for task in ("segment", "refer", "caption", "answer", "embed"):
        assert f"| operators alone | {task} | as on the CPU |" in text
        assert f"| kernels | {task} | as on the CPU |" in text
        assert f"| a driver in Python | {task} | as on the CPU |" in text
    assert "| a driver in Python | four threads | as on the CPU |" in text


@pytest.mark.slow
def test_the_runbook_can_be_rehearsed_without_a_gpu(tmp_path: Path) -> None:
    options = ("--device", "cpu", "--budget", "600", "--only", "device", "attention", "steps")
    done = command(*options, "--output", "out", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = (tmp_path / "out").glob("*.md")
    text = written.read_text()
    assert "### tiny, fp16: 2 heads of 16" in text and "| two kernels |" in text
    assert "| level_features, tiny | kernel |" in text


def test_the_command_refuses_bad_arguments_and_machines_without_a_gpu(tmp_path: Path) -> None:
    bad = command("--budget", "5", folder=tmp_path)
    assert bad.returncode == 2 and "at least 30 seconds" in bad.stderr
    import torch

    if not torch.cuda.is_available():
        none = command("--only", "device", folder=tmp_path)
        assert none.returncode == 3 and "there is no GPU" in none.stderr
    assert not list(tmp_path.iterdir())
