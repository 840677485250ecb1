"""Mutated plans in processes that may die, with the walk and without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="graphs are changed with the package onnx")
pytest.importorskip("onnxscript", reason="building a plan needs the extra export")

from pool import DeathError, Worker  # noqa: E402

RUN = "graph_runs:run_plan"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(seconds=6, memory=12 << 30, patience=300)
    yield worker
    worker.close()


def found(worker: Worker, change: str, backend: str, graph: str, *, walked: bool) -> set[str]:
    """Return the kinds of findings of twenty plans that are changed in one way."""
    kinds: set[str] = set()
    for seed in range(20):
        try:
            outcome = worker.do(RUN, seed, [backend], False, walked, [change], [graph])
            kinds |= {kind for kind, _, _ in outcome.findings}
        except DeathError as death:
            kinds.add(death.reason)
        if kinds:
            break
    return kinds


PLANTED = pytest.mark.parametrize(
    ("change", "backend", "graph", "kind"),
    [
        ("external data", "onnxruntime", "text", "file"),
        ("external data", "openvino", "text", "file"),
        ("opset", "openvino", "token", "SIGXCPU"),
        ("loop", "onnxruntime", "mask", "SIGXCPU"),
        ("huge constant", "onnxruntime", "mask", "memory"),
    ],
)


@pytest.mark.slow
@PLANTED
def test_without_the_walk_planted_faults_are_found(
    worker: Worker, change: str, backend: str, graph: str, kind: str, tiny_plan: Path
) -> None:
    pytest.importorskip(backend)
    assert kind in found(worker, change, backend, graph, walked=False)


@pytest.mark.slow
@PLANTED
def test_with_the_walk_they_are_not(
    worker: Worker, change: str, backend: str, graph: str, kind: str, tiny_plan: Path
) -> None:
    pytest.importorskip(backend)
    assert found(worker, change, backend, graph, walked=True) == set()


def test_changed_graphs_that_pass_the_walk_run_or_are_refused(
    worker: Worker, tiny_plan: Path
) -> None:
    passed = 0
    for seed in range(12):
        outcome = worker.do(RUN, seed, ["onnxruntime"], False, True, [], [])
        assert outcome.findings == ()
        passed += outcome.passed
    assert passed


def test_a_process_that_dies_is_replaced_and_what_it_was_at_is_known() -> None:
    worker = Worker(seconds=1, memory=None, patience=60)
    try:
        assert worker.do("pool_tasks:double", 4) == 8
        for task, reason, data in (("abort", "SIGABRT", b"aborts"), ("spin", "SIGXCPU", b"spins")):
            with pytest.raises(DeathError) as caught:
                worker.do(f"pool_tasks:{task}", *([data] if task == "abort" else []))
            assert (caught.value.reason, caught.value.data) == (reason, data)
        assert worker.do("pool_tasks:double", 5) == 10
    finally:
        worker.close()
