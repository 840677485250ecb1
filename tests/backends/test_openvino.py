"""OpenVINO as a backend: precisions, outputs without a copy, and what it does to the process."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.plan.file import Plan

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")

from xdecoder_rt.backends.openvino import OpenVINOBackend  # noqa: E402


@pytest.mark.parametrize("native", [True, False], ids=["native bf16", "no bf16"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_arithmetic_is_what_the_plan_says(
    precision: str, native: bool, tiny_plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compilations(monkeypatch)
    monkeypatch.setattr(
        openvino.Core, "get_property", lambda *_: ["FP32", "INT8", *(["BF16"] if native else [])]
    )
    backend = OpenVINOBackend(1, precision)
    with Plan.open(tiny_plan) as plan:
        backend.load("token", partial(plan.graph, "token.onnx"))
    wanted = {"fp32": "f32", "bf16": "bf16", "int8": "bf16" if native else "f32"}
    assert compiled[0].settings["INFERENCE_PRECISION_HINT"] == wanted[precision]


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
    # Its shapes change from call to call, so they stay open.
    backend = OpenVINOBackend(1)
    with Plan.open(tiny_plan) as plan:
        token = backend.load("token.onnx", partial(plan.graph, "token.onnx"))
    (name,) = token.inputs
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    (together,) = token({name: rows}).values()
    alone = [next(iter(token({name: row[None]}).values()))[0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_a_steady_graph_is_compiled_for_its_first_shapes_and_for_others_when_they_come(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    words, phrases = ["mug", "table"], ["the mug"]
    with Engine(tiny_plan, backend="onnxruntime", threads=1, cache_dir=tmp_path) as engine:
        segmentation = engine.segment(image, words).segmentation
        (mask,) = (reference.mask for reference in engine.refer(image, phrases))
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path) as engine:
        compiled = compilations(monkeypatch)
        for _ in range(2):
            assert (engine.segment(image, words).segmentation == segmentation).mean() > 0.99
        # Vision, decode, and the masks, whose number changes from image to image.
        assert [one.shapes for one in compiled] == ["fixed", "fixed", "open"]
        for _ in range(2):
            assert (engine.refer(image, phrases)[0].mask == mask).mean() > 0.99
        assert [one.shapes for one in compiled] == ["fixed", "fixed", "open", "open"]


@pytest.mark.parametrize(
    ("threads", "cores", "is_fused"), [(2, 2, True), (1, 2, False), (2, 1, False), (None, 1, False)]
)
def test_attention_of_fixed_shapes_is_not_fused_for_one_thread(
    threads: int | None,
    cores: int,
    is_fused: bool,
    tiny_plan: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of a larger decoder that ends the process (OpenVINO 2026.4).
    monkeypatch.setattr("xdecoder_rt.backends.openvino.usable_cores", lambda: cores)
    compiled = compilations(monkeypatch)
    backend = OpenVINOBackend(threads)
    with Plan.open(tiny_plan) as plan:
        token = backend.load("token.onnx", partial(plan.graph, "token.onnx"), is_steady=True)
        width = plan.manifest.text.width
    (name,) = token.inputs
    token({name: np.zeros((1, width), np.float32)})
    assert [one.settings.get("SNIPPETS_MODE") for one in compiled] == [
        None if is_fused else "DISABLE"
    ]


def test_shapes_that_openvino_takes_only_open_stay_open(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path) as engine:
        wanted = engine.segment(image, ["mug", "table"]).segmentation
    compiled = compilations(monkeypatch)

    def refuse(self: object, shapes: object) -> None:
        raise RuntimeError("abacus")

    monkeypatch.setattr(openvino.Model, "reshape", refuse)
    other = tmp_path / "other"  # where nothing was compiled before
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=other) as engine:
        for _ in range(2):
            found = engine.segment(image, ["mug", "table"]).segmentation
            assert (found == wanted).mean() > 0.99
    assert {one.shapes for one in compiled} == {"open"}


class Compilation(NamedTuple):
    """How a model was compiled: with ``fixed`` or ``open`` shapes, and with which settings."""

    shapes: str
    settings: dict[str, object]


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Compilation]:
    """Every model that is compiled from now on."""
    found: list[Compilation] = []
    compile_model = openvino.Core.compile_model

    def note(self: object, model: Any, device: str, settings: dict[str, object]) -> object:
        is_open = any(port.partial_shape.is_dynamic for port in model.inputs)
        found.append(Compilation("open" if is_open else "fixed", settings))
        return compile_model(self, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", note)
    return found


def test_the_graph_of_words_makes_room_for_a_frames_and_is_brought_back_for_new_words(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path / "one") as engine:
        loaded, text = engine._runtime._graphs, engine.manifest.graphs.text
        engine.warm(["mug"])
        assert text in loaded
        engine.segment(image, ["mug"])
        assert text not in loaded
        compiled = compilations(monkeypatch)
        engine.warm(["table"])
        assert compiled == []
        assert text in loaded
        engine.segment(image, ["mug", "table"])
        assert text in loaded
        again = engine.embed_text(["the mug"])
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path / "two") as other:
        np.testing.assert_allclose(again, other.embed_text(["the mug"]), rtol=1e-5, atol=1e-6)


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
