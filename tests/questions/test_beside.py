"""Captions are written beside the other answers where there are cores for both."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.backends.base import Backend, CoreSharingBackend, Graph
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.errors import ArgumentError

ASKED: dict[str, Any] = {
    "segment": ["mug", "floor"], "refer": ["the red mug", "the floor"], "embed": True,
    "answer": "is there a mug?", "choices": ["yes", "no"], "max_tokens": 4,
}  # fmt: skip


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8)


class WatchedBackend:
    """ONNX Runtime, noting which threads run the decode graph."""

    name, device, version = "onnxruntime", "cpu", "0"

    def __init__(self, threads: int, shares_cores: bool | None) -> None:
        self._inner = OnnxRuntimeBackend(threads)
        self.decoding_threads: set[int] = set()
        if shares_cores is not None:
            self.shares_cores = shares_cores

    def load(self, name: str, model: Any, is_steady: bool = False) -> Graph:
        graph = self._inner.load(name, model, is_steady)
        return Watched(graph, self.decoding_threads) if name.startswith("decode") else graph

    def to_numpy(self, value: Any) -> Any:
        return self._inner.to_numpy(value)

    def to_numpy_all(self, values: Mapping[str, Any]) -> Any:
        return self._inner.to_numpy_all(values)

    def close(self) -> None:
        pass


class Watched:
    def __init__(self, graph: Graph, threads: set[int]) -> None:
        self._graph, self._threads, self.inputs = graph, threads, graph.inputs

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self._threads.add(threading.get_ident())
        return self._graph(feeds)


def decoding_threads(
    plan: Path, folder: Path, threads: int, shares_cores: bool | None, **asked: Any
) -> set[int]:
    """The threads that a call decodes in, this one first of all."""
    backend = WatchedBackend(threads, shares_cores)
    with Engine(plan, backend=backend, threads=threads, cache_dir=folder) as engine:
        engine.run(picture(), **asked)
    return backend.decoding_threads


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_beside_a_caption_are_those_of_each_task_alone(
    backend: str, beams: int, tiny_plan: Path, tmp_path: Path
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="this is of OpenVINO")
    with Engine(tiny_plan, backend, threads=2, cache_dir=tmp_path) as engine:
        for seed in range(3):
            image = picture(seed)
            output = engine.run(image, caption=True, beams=beams, **ASKED)
            alone = engine.segment(image, ASKED["segment"])
            caption = engine.caption(image, beams=beams, max_tokens=4)
            answer = engine.answer(image, ASKED["answer"], ASKED["choices"])
            assert output.segment is not None and output.refer is not None
            assert output.caption is not None and output.answer is not None
            assert (output.segment.segmentation != alone.segmentation).mean() < 0.01
            assert output.caption.text == caption.text
            assert output.caption.score == pytest.approx(caption.score, rel=1e-4)
            assert output.answer.scores == pytest.approx(answer.scores, rel=1e-4)
            np.testing.assert_allclose(output.embed, engine.embed_image(image), atol=1e-5)
            for reference, expected in zip(
                output.refer, engine.refer(image, ASKED["refer"]), strict=True
            ):
                assert reference.phrase == expected.phrase
                assert (reference.mask != expected.mask).mean() < 0.01


def test_two_threads_decode_where_a_caption_is_asked_with_phrases(
    tiny_plan: Path, tmp_path: Path
) -> None:
    assert isinstance(WatchedBackend(2, True), CoreSharingBackend)
    assert len(decoding_threads(tiny_plan, tmp_path, 2, True, caption=True, **ASKED)) == 2


@pytest.mark.parametrize(
    ("threads", "shares_cores", "is_captioned"),
    [(1, True, True), (2, False, True), (2, None, True), (2, True, False)],
    ids=["one core", "no sharing", "a backend of one's own", "no caption"],
)
def test_everything_else_is_answered_in_the_thread_that_asks(
    threads: int, shares_cores: bool | None, is_captioned: bool, tiny_plan: Path, tmp_path: Path
) -> None:
    asked = {**ASKED, "caption": is_captioned, "max_tokens": 4}
    assert decoding_threads(tiny_plan, tmp_path, threads, shares_cores, **asked) == {
        threading.get_ident()
    }


def test_a_caption_alone_needs_no_second_thread(tiny_plan: Path, tmp_path: Path) -> None:
    found = decoding_threads(tiny_plan, tmp_path, 2, True, caption=True, max_tokens=4)
    assert found == {threading.get_ident()}


def test_an_error_of_either_thread_reaches_the_caller_and_leaves_the_engine_at_work(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(tiny_plan, "onnxruntime", threads=2, cache_dir=tmp_path) as engine:
        with pytest.raises(ArgumentError, match="beams is 0"):
            engine.run(picture(), caption=True, beams=0, **ASKED)
        with monkeypatch.context() as patched:
            patched.setattr(engine._runtime, "masks", None)
            with pytest.raises(TypeError):
                engine.run(picture(), caption=True, min_score=0, **ASKED)
        assert engine.run(picture(), caption=True, **ASKED).caption is not None


def test_a_backend_of_a_library_says_where_it_shares_cores() -> None:
    backend: Backend = OnnxRuntimeBackend(2)
    assert isinstance(backend, CoreSharingBackend) and backend.shares_cores
