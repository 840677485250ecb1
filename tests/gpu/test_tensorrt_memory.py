"""Memory and order of the TensorRT backend, over random calls from one thread and from several.

Two small graphs take the place of a plan's: one makes values that stay on the device, in fp16, the
other reads them again and again. The drivers under them check every address, size, alignment and
lifetime; they work as late as they may, so that what is not waited for is wrong; the stand-in also
finds accesses that nothing orders.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xdecoder_rt.backends.cuda.values import ELEMENT_BY_TYPE
from xdecoder_rt.errors import BackendError, PlanError

onnx = pytest.importorskip("onnx", reason="the fake engines are ONNX models")

if TYPE_CHECKING:
    from fake_tensorrt import Gpu

    from xdecoder_rt.backends.tensorrt.backend import TensorRTBackend

SIZE = (1, 4, 6, 3)
WIDE = 8


def maker() -> bytes:
    """``frame`` uint8, ``offset`` -> ``map`` fp16 = frame + offset, ``mean`` fp32 of it."""
    from onnx import TensorProto as T
    from onnx import helper as h

    nodes = [
        h.make_node("Cast", ["frame"], ["pixels"], to=T.FLOAT),
        h.make_node("Add", ["pixels", "offset"], ["sum"]),
        h.make_node("Cast", ["sum"], ["map"], to=T.FLOAT16),
        h.make_node("ReduceMean", ["sum"], ["mean"], keepdims=0),
    ]
    return serialized(
        nodes,
        [("frame", T.UINT8, SIZE), ("offset", T.FLOAT, (1,))],
        [("map", T.FLOAT16, SIZE), ("mean", T.FLOAT, ())],
    )


def reader() -> bytes:
    """``map``, ``rows`` ``[n, 2]`` -> ``out`` = rows + mean of map, ``again`` = 2 rows."""
    from onnx import TensorProto as T
    from onnx import helper as h

    nodes = [
        h.make_node("Cast", ["map"], ["values"], to=T.FLOAT),
        h.make_node("ReduceMean", ["values"], ["mean"], keepdims=0),
        h.make_node("Add", ["rows", "mean"], ["out"]),
        h.make_node("Add", ["rows", "rows"], ["again"]),
    ]
    return serialized(
        nodes,
        [("map", T.FLOAT16, SIZE), ("rows", T.FLOAT, ("n", 2))],
        [("out", T.FLOAT, ("n", 2)), ("again", T.FLOAT, ("n", 2))],
    )


def serialized(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> bytes:
    from onnx import helper as h

    ports = [[h.make_tensor_value_info(*port) for port in side] for side in (inputs, outputs)]
    graph = h.make_graph(nodes, "graph", *ports)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def engines() -> tuple[bytes, bytes]:
    import fake_tensorrt

    frame = {"frame": (SIZE, SIZE), "offset": ((1,), (1,))}
    fixed = {"map": (SIZE, SIZE), "rows": ((3, 2), (3, 2))}
    free = {"map": (SIZE, SIZE), "rows": ((0, 2), (WIDE, 2))}
    return (
        fake_tensorrt.engine(maker(), [frame]),
        fake_tensorrt.engine(reader(), [fixed, free]),
    )


class Session:
    """A backend with both graphs, and what they should say."""

    def __init__(self, backend: TensorRTBackend, engines: tuple[bytes, bytes]) -> None:
        self.backend = backend
        self.make, self.read = (
            backend.load(name, lambda engine=engine: engine)
            for name, engine in zip(("maker", "reader"), engines, strict=True)
        )

    def encode(self, seed: int) -> State:
        frame = np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8)
        offset = np.full(1, seed % 7, np.float32)
        values = self.make({"frame": frame, "offset": offset})
        frame[:], offset[:] = 0, np.nan  # the caller's own again
        expected = np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8) + np.float32(
            seed % 7
        )
        return State(self, values, expected.astype(np.float16))


class State:
    """Values on the device, and what they must be."""

    def __init__(self, session: Session, values: dict[str, Any], expected: Any) -> None:
        self._session = session
        self.values = values
        self._expected = expected

    def ask(self, rows: int, seed: int) -> Answer:
        given = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
        outputs = self._session.read({"map": self.values["map"], "rows": given})
        expected = given + self._expected.astype(np.float32).mean()
        return Answer(self._session, outputs, {"out": expected, "again": 2 * given})

    def check(self) -> None:
        found = self._session.backend.to_numpy(self.values["map"])
        np.testing.assert_array_equal(found, self._expected)
        mean = self._session.backend.to_numpy(self.values["mean"])
        np.testing.assert_allclose(mean, self._expected.astype(np.float64).mean(), rtol=1e-3)


class Answer:
    """Outputs on the device, and what they must be."""

    def __init__(self, session: Session, outputs: dict[str, Any], expected: Any) -> None:
        self._session = session
        self._outputs = outputs
        self._expected = expected

    def check(self) -> None:
        for name, expected in self._expected.items():
            found = self._session.backend.to_numpy(self._outputs[name])
            np.testing.assert_allclose(found, expected, rtol=1e-4)


@contextmanager
def opened(engines: tuple[bytes, bytes]) -> Iterator[Session]:
    """A backend, which leaves nothing behind."""
    from xdecoder_rt.backends.tensorrt.backend import TensorRTBackend

    backend = TensorRTBackend(PLAN)
    try:
        yield Session(backend, engines)
    finally:
        backend.close()


class PlanFacts:
    """Of a manifest, what the backend reads."""

    backend = "tensorrt"
    backend_version = "10.3.0"
    targets = ("8.7",)
    plugins: tuple[str, ...] = ()


PLAN: Any = PlanFacts()
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("encode"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("ask"), st.integers(0, 99), st.sampled_from([0, 1, 3, 3, 3, WIDE])),
        st.tuples(st.just("check state"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("check answer"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("drop state"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("drop answer"), st.integers(0, 99), st.just(0)),
    ),
    min_size=8,
    max_size=30,
)


def random_calls(examples: int) -> Any:
    """Settings of tests that use one driver over many examples."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def follow(session: Session, steps: list[tuple[str, int, int]]) -> None:
    """Do the steps, then check all that is left."""
    states: list[State] = []
    answers: list[Answer] = []
    for step, number, rows in steps:
        if step == "encode":
            states.append(session.encode(number))
        elif step == "ask" and states:
            answers.append(states[number % len(states)].ask(rows, number))
        elif step == "check state" and states:
            states[number % len(states)].check()
        elif step == "check answer" and answers:
            answers[number % len(answers)].check()
        elif step == "drop state" and states:
            states.pop(number % len(states))
        elif step == "drop answer" and answers:
            answers.pop(number % len(answers))
    for held in (*answers, *states):
        held.check()


@random_calls(40)
@given(steps=STEPS, is_late=st.booleans())
def test_values_are_right_and_ordered_whatever_is_called(
    gpu: Gpu, engines: tuple[bytes, bytes], steps: list[tuple[str, int, int]], is_late: bool
) -> None:
    gpu.late(is_late)
    with opened(engines) as session:
        follow(session, steps)
    assert gpu.live() == (0, 0)


@random_calls(15)
@given(threads=st.lists(STEPS, min_size=2, max_size=4), is_late=st.booleans())
def test_values_are_right_and_ordered_from_several_threads(
    gpu: Gpu,
    engines: tuple[bytes, bytes],
    threads: list[list[tuple[str, int, int]]],
    is_late: bool,
) -> None:
    gpu.late(is_late)
    gpu.contend()
    with opened(engines) as session:
        together(*(lambda own=own: follow(session, own) for own in threads))
    assert gpu.live() == (0, 0)


def test_one_state_is_asked_from_several_threads(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    with opened(engines) as session:
        state = session.encode(1)

        def ask(seed: int) -> None:
            for rows in (3, 5, 3, 3):
                state.ask(rows, seed).check()

        together(*(lambda seed=seed: ask(seed) for seed in range(4)))
        state.check()


def test_memory_that_is_still_read_is_not_written(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    """A state is dropped while its last reader is queued; its block is the next but one's."""
    with opened(engines) as session:
        state = session.encode(1)
        answers = [state.ask(rows, 7) for rows in (3, 5)]
        del state
        later = [session.encode(seed) for seed in (2, 3, 4)]
        for held in (*later, *answers):
            held.check()


def test_memory_written_on_one_stream_is_written_on_another_afterwards(
    gpu: Gpu, engines: tuple[bytes, bytes]
) -> None:
    """Nobody read what was there, so nothing but the writing itself can be waited for."""
    gpu.contend()
    with opened(engines) as session:

        def encode() -> None:
            for seed in range(20):
                session.encode(seed)

        together(*[encode] * 4)
        session.encode(3).check()


def together(*calls: Any) -> None:
    """Run calls on threads of their own; what one raises is raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for call in [pool.submit(call) for call in calls]:
            call.result()


def test_a_steady_stream_of_frames_allocates_nothing(
    gpu: Gpu, engines: tuple[bytes, bytes]
) -> None:
    with opened(engines) as session:

        def frame(seed: int) -> None:
            state = session.encode(seed)
            for rows in (3, 5):
                state.ask(rows, seed).check()

        frame(0)
        before = gpu.allocations()
        for seed in range(20):
            frame(seed)
        assert gpu.allocations() == before


def test_states_that_live_keep_their_memory(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    """More states than blocks at the start: more blocks, which are used again."""
    with opened(engines) as session:
        states = [session.encode(seed) for seed in range(6)]
        assert len({state.values["map"].address for state in states}) == 6
        for state in states:
            state.check()
        kept = {state.values["map"].address for state in states}
        before = gpu.allocations()
        del states, state
        again = [session.encode(seed) for seed in range(6)]
        assert {state.values["map"].address for state in again} == kept
        assert gpu.allocations() == before


def test_values_do_not_visit_the_host_between_graphs(
    gpu: Gpu, engines: tuple[bytes, bytes]
) -> None:
    with opened(engines) as session:
        state = session.encode(0)
        state.ask(3, 0)
        if gpu.is_stand_in:
            assert [kind for kind, _ in gpu.driver.copies] == ["htod", "htod"]
        else:
            fake = gpu.machine.fake
            assert len(fake.log("cuMemcpyHtoDAsync")) == 2
            assert not fake.log("cuMemcpyDtoHAsync")
            assert not any(call.arguments.get("pageable") for call in fake.log())


def test_repeated_frames_are_cuda_graphs(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    """Once the same addresses come again; free shapes are queued call by call."""
    with opened(engines) as session:
        for seed in range(12):
            state = session.encode(seed)
            state.ask(3, seed).check()
            state.ask(5, seed).check()
            state.check()
        launched = graphs_launched(gpu)
        # Two blocks of the first graph take turns, each seen once before; so it is with the second.
        assert launched >= 12
    assert gpu.live() == (0, 0)


def graphs_launched(gpu: Gpu) -> int:
    import sys

    if gpu.is_stand_in:
        return int(sys.modules["cuda.bindings.driver"].state.launches)
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    return len(gpu.machine.fake.log("cuGraphLaunch"))


def test_without_cuda_bindings_frames_are_queued_plainly(
    gpu: Gpu, engines: tuple[bytes, bytes]
) -> None:
    gpu.without_graphs()
    with opened(engines) as session:
        for seed in range(4):
            session.encode(seed).ask(3, seed).check()
    if not gpu.is_stand_in:
        assert not gpu.machine.fake.log("cuGraphLaunch")


def test_where_capturing_fails_frames_are_queued_plainly(
    gpu: Gpu, engines: tuple[bytes, bytes]
) -> None:
    import sys

    if gpu.is_stand_in:
        sys.modules["cuda.bindings.driver"].state.refusing = True
    else:
        pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
        gpu.machine.fake.fail("cuStreamBeginCapture", 900)
    with opened(engines) as session:
        for seed in range(6):
            session.encode(seed).ask(3, seed).check()
    if gpu.is_stand_in:
        assert graphs_launched(gpu) == 0


def test_no_room_is_said_and_leaves_nothing(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    if gpu.is_stand_in:
        gpu.driver.total = 4000
    else:
        package = type(gpu.machine.fake).__module__
        import sys

        gpu.machine.fake.configure(sys.modules[package].Device(memory=4000))
    with pytest.raises(BackendError, match="device memory could not be had"), opened(engines) as _:
        pass
    assert gpu.live() == (0, 0)


def test_shapes_that_no_profile_takes_are_refused(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    with opened(engines) as session:
        state = session.encode(0)
        with pytest.raises(BackendError, match=r"rows is \[9, 2\], \[0, 2\] to \[8, 2\] fit"):
            state.ask(9, 0)
        state.ask(8, 0).check()
        with pytest.raises(
            PlanError, match="takes map, rows; this version of xdecoder_rt gives map"
        ):
            session.read({"map": state.values["map"]})
        as_fp32 = replace(state.values["map"], element=ELEMENT_BY_TYPE["FLOAT"])
        with pytest.raises(BackendError, match="takes 'map' as fp16, and gets fp32"):
            session.read({"map": as_fp32, "rows": np.zeros((3, 2), np.float32)})


def test_the_program_may_end_without_closing(gpu: Gpu, engines: tuple[bytes, bytes]) -> None:
    from xdecoder_rt.backends.tensorrt.backend import TensorRTBackend

    session = Session(TensorRTBackend(PLAN), engines)
    session.encode(0).check()
    del session
    gc.collect()
    assert gpu.live() == (0, 0)


def test_bfloat16_is_rounded_to_the_nearest_and_read_as_float32() -> None:
    bf16 = ELEMENT_BY_TYPE["BF16"]
    given = np.float32([0, 1, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 3e38, np.inf, np.nan])
    stored = np.empty(len(given), np.uint16)
    bf16.write(given, stored)
    expected = np.float32([0, 1, -2.5, 1, 1 + 2**-6, 3.00406e38, np.inf, np.nan])
    np.testing.assert_allclose(bf16.to_host(stored), expected, rtol=1e-4)


@given(st.floats(-(2.0**120), 2.0**120, width=32))
def test_bfloat16_is_within_half_a_step(value: float) -> None:
    stored = np.empty(1, np.uint16)
    ELEMENT_BY_TYPE["BF16"].write(np.float32([value]), stored)
    (found,) = ELEMENT_BY_TYPE["BF16"].to_host(stored)
    assert abs(float(found) - value) <= abs(value) * 2**-8 + 1e-40
