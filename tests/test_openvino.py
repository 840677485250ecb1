"""OpenVINO as a backend: precisions, outputs without a copy, and what it does to the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.plan import Plan

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")

from xdecoder_rt.backends.openvino import OpenVINOBackend  # noqa: E402


@pytest.mark.parametrize("native", [True, False], ids=["native bf16", "no bf16"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_arithmetic_is_what_the_plan_says(
    precision: str, native: bool, tiny_plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[dict[str, object]] = []
    compile_model = openvino.Core.compile_model

    def note(self: object, model: object, device: str, settings: dict[str, object]) -> object:
        compiled.append(settings)
        return compile_model(self, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", note)
    monkeypatch.setattr(
        openvino.Core, "get_property", lambda *_: ["FP32", "INT8", *(["BF16"] if native else [])]
    )
    backend = OpenVINOBackend(1, precision)
    with Plan.open(tiny_plan) as plan:
        backend.load("token", plan.view("token.onnx"))
    wanted = {"fp32": "f32", "bf16": "bf16", "int8": "bf16" if native else "f32"}
    assert compiled[0]["INFERENCE_PRECISION_HINT"] == wanted[precision]


def test_an_image_keeps_its_values_when_another_is_encoded(tiny_plan: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 256, (2, 64, 64, 3), np.uint8)
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path) as engine:
        state = engine.encode(first)
        before = {name: np.copy(value) for name, value in state.values.items()}
        other = engine.encode(second)
        assert not np.array_equal(other.values["mask_map"], before["mask_map"])
        for name, value in state.values.items():
            np.testing.assert_array_equal(value, before[name])


def test_several_beams_are_scored_at_once(tiny_plan: Path) -> None:
    # Of the graphs only vision sees one image at a time.
    backend = OpenVINOBackend(1)
    with Plan.open(tiny_plan) as plan:
        token = backend.load("token.onnx", plan.view("token.onnx"))
    (name,) = token.inputs
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    (together,) = token({name: rows}).values()
    alone = [next(iter(token({name: row[None]}).values()))[0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_signals_are_survived_after_an_engine_ended_in_another_thread(
    tiny_plan: Path, tmp_path: Path
) -> None:
    # In a process of its own: the failure is one of the process, not of Python.
    code = f"""
import gc, os, signal, threading
from xdecoder_rt import Engine
def end():
    held.pop().close()
    gc.collect()
held = [Engine({str(tiny_plan)!r}, backend="openvino", cache_dir={str(tmp_path)!r})]
held[0].embed_text(["mug"])
ending = threading.Thread(target=end)
ending.start()
ending.join()
signal.signal(signal.SIGTERM, lambda number, frame: print("asked to stop"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "asked to stop\n"), done.stderr
