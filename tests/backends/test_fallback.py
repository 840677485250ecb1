"""OpenVINO where it compiles, ONNX Runtime where it refuses, with a word; one plan on both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.errors import BackendError
from xdecoder_rt.plan.manifest import Manifest

pytest.importorskip("openvino", reason="the fallback needs the extra openvino")

from xdecoder_rt.backends.fallback import OpenVINOFirst, _Guarded  # noqa: E402
from xdecoder_rt.backends.openvino import OpenVINOBackend, OpenVINOGraph  # noqa: E402

WORDS = ["mug", "table", "floor"]
Altered = Callable[[Callable[[Manifest], Manifest]], Path]


@pytest.fixture
def int8_plan(altered: Altered) -> Path:
    """A plan that says it is INT8, over fp32 graphs: what is chosen goes by the manifest."""
    return altered(lambda manifest: replace(manifest, precision="int8", profile="cpu"))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def segmented(plan: Path, tmp_path: Path, image: np.ndarray, backend: str | None) -> np.ndarray:
    with Engine(plan, backend=backend, threads=1, cache_dir=tmp_path / "cache") as engine:
        return engine.segment(image, WORDS).segmentation


@pytest.mark.parametrize(
    ("machine", "fp32"), [("x86_64", "openvino"), ("AMD64", "openvino"), ("aarch64", "onnxruntime")]
)
def test_openvino_comes_first_where_it_is_faster(
    machine: str,
    fp32: str,
    int8_plan: Path,
    tiny_plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    with Engine(int8_plan, cache_dir=tmp_path) as engine:
        assert isinstance(engine.backend, OpenVINOFirst)
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        assert engine.backend.name == fp32


def test_a_graph_that_is_refused_runs_on_onnxruntime(
    int8_plan: Path, tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = segmented(int8_plan, tmp_path, image, "onnxruntime")
    load = OpenVINOBackend.load

    def refuse(
        self: OpenVINOBackend, name: str, model: memoryview, is_steady: bool = False
    ) -> object:
        if name.startswith("decode"):
            raise BackendError("OpenVINO cannot compile the decode graph (abacus)")
        return load(self, name, model, is_steady)

    monkeypatch.setattr(OpenVINOBackend, "load", refuse)
    with pytest.warns(UserWarning, match=r"abacus.*ONNX Runtime runs this graph instead"):
        found = segmented(int8_plan, tmp_path, image, None)
    assert (found == wanted).mean() > 0.99


def test_a_graph_that_fails_when_it_runs_does_too(
    int8_plan: Path, tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = segmented(int8_plan, tmp_path, image, "onnxruntime")
    call = OpenVINOGraph.__call__

    def refuse(self: OpenVINOGraph, feeds: dict[str, object]) -> object:
        if "mask_map" in feeds:
            raise BackendError("OpenVINO cannot run the mask graph (abacus)")
        return call(self, feeds)

    monkeypatch.setattr(OpenVINOGraph, "__call__", refuse)
    with pytest.warns(UserWarning, match="abacus") as caught:
        found = segmented(int8_plan, tmp_path, image, None)
    assert len([one for one in caught if "abacus" in str(one.message)]) == 1
    assert (found == wanted).mean() > 0.99


def test_calls_that_fail_together_are_all_answered() -> None:
    both = threading.Barrier(2, timeout=10)

    class Failing:
        inputs = ()

        def __call__(self, feeds: object) -> dict[str, object]:
            both.wait()
            raise BackendError("OpenVINO cannot run the graph")

    class Working:
        inputs = ()

        def __call__(self, feeds: object) -> dict[str, object]:
            return {"answer": 42}

    def second(error: BackendError) -> Working:
        time.sleep(0.05)  # compiling takes a while, in which the other call fails, too
        loaded.append(error)
        return Working()

    loaded: list[BackendError] = []
    graph = _Guarded(Failing(), second)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(graph, [{}, {}]))
    assert answers == [{"answer": 42}] * 2 and len(loaded) == 1


def test_what_was_asked_for_by_name_is_not_replaced(
    int8_plan: Path, tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(
        self: OpenVINOBackend, name: str, model: memoryview, is_steady: bool = False
    ) -> object:
        raise BackendError("OpenVINO cannot compile it")

    monkeypatch.setattr(OpenVINOBackend, "load", refuse)
    with pytest.raises(BackendError, match="cannot compile"):
        segmented(int8_plan, tmp_path, image, "openvino")


def test_a_model_that_openvino_cannot_read_is_refused_with_a_word(tmp_path: Path) -> None:
    backend = OpenVINOFirst(1, "int8", None)
    with (
        pytest.warns(UserWarning, match="ONNX Runtime runs this graph instead"),
        pytest.raises(BackendError, match="ONNX Runtime .* cannot load"),
    ):
        backend.load("vision", lambda: b"no graph")
    assert backend.refused == ["vision"]


def test_without_openvino_everything_runs_on_onnxruntime(
    int8_plan: Path, tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdecoder_rt.backends._is_installed", lambda package: False)
    with Engine(int8_plan, cache_dir=tmp_path) as engine:
        assert engine.backend.name == "onnxruntime"
        assert engine.segment(image, WORDS).segmentation.shape == (64, 64)
