"""Runs mujoco_cells.py in a process of its own.

OSMesa brings another LLVM than Triton: a process that has loaded both may crash.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mujoco") is None, reason="the package mujoco is not installed")
def test_cells_of_another_renderer() -> None:
    file = Path(__file__).with_name("mujoco_cells.py")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "LP_NUM_THREADS": "1"},
    )
    if found.returncode == 0 and "SKIPPED" in found.stdout:
        pytest.skip(found.stdout[-400:])
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-1000:]
