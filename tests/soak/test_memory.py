"""A hundred thousand calls with a thousand vocabularies leave memory where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
@pytest.mark.timeout(14400)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_memory_does_not_grow_with_calls(tiny_plan: Path, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend)
    command = [sys.executable, SOAK, "--plan", tiny_plan, "--backend", backend]
    subprocess.run([*command, "-o", tmp_path / "soak.json"], check=True)
    figures = json.loads((tmp_path / "soak.json").read_text())
    assert (figures["calls"], figures["vocabularies"]) == (100_000, 1_000)
    # The text cache takes 0.7 of it, up to its bound; one map that stayed of each result, over 130.
    assert figures["mib_per_10000_calls"] < 1.5, figures["readings"]
