"""Benchmarks that work long name what is wrong with their arguments in one line, at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import save_labelled_folder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def refusal(program: str, *arguments: object, path: Path | None = None) -> str:
    """Return the line that a program ends with; modules are looked for in `path` first."""
    command = [sys.executable, str(BENCHMARKS / program), *map(str, arguments)]
    environment = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1] if "Traceback" not in done.stderr else done.stderr


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("accuracy.py", ["no.plan", "folder", "-o", "missing/accuracy.md"]),
        ("accuracy.py", ["no.plan", "folder", "-o", "here.md", "--json", "missing/accuracy.json"]),
        ("studies/presence.py", ["no.plan", "--folders", "folder", "-o", "missing/presence.json"]),
        ("studies/photographs.py", ["measure", "no.plan", "folder", "-o", "missing/figures.json"]),
        ("studies/photograph_sheet.py", ["no.plan", "-o", "missing/sheet.webp"]),
    ],
)
def test_a_result_that_cannot_be_written_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, arguments: list[str]
) -> None:
    pytest.importorskip("tqdm", reason="benchmarks show their progress")
    monkeypatch.chdir(tmp_path)
    said = refusal(program, *arguments)
    assert said.startswith("error: ") and "there is no folder" in said


@pytest.mark.parametrize("program", ["mask_cleaning.py", "studies/thresholds.py"])
def test_a_plan_that_is_not_there_is_named(tmp_path: Path, program: str) -> None:
    pytest.importorskip("scipy", reason="pieces are found by scipy")
    assert refusal(program, tmp_path / "no.plan", tmp_path).startswith("error: There is no file")


def test_examples_need_a_thing_on_several_images(tiny_plan: Path, tmp_path: Path) -> None:
    save_labelled_folder(tmp_path / "few")
    said = refusal("studies/examples.py", tiny_plan, tmp_path / "few", "--marks", 90)
    assert said.startswith("error: No thing of") and "92 images" in said


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pybullet", reason="the program renders with pybullet")
    pytest.importorskip("supervision", reason="the extra supervision is missing")
    (tmp_path / "trackers.py").write_text("raise ModuleNotFoundError(name=__name__)\n")
    said = refusal("tracking.py", "--frames", 1, path=tmp_path)
    assert said == "error: The package trackers is not installed. Fix: pip install trackers."
