"""TensorRT plans, run on a fake TensorRT over a fake driver: the same results as portable plans."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xdecoder_rt import Engine
from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.image import Letterbox

if TYPE_CHECKING:
    from tests.fake_tensorrt import Gpu

WORDS = ["a cat", "a dog", "the sky"]


@pytest.fixture
def plan(gpu: Gpu, tiny_plan: Path, tmp_path: Path) -> Path:
    import fake_tensorrt

    path: Path = fake_tensorrt.tensorrt_plan(tiny_plan, tmp_path / "tensorrt.plan")
    return path


def picture(seed: int = 0, height: int = 48, width: int = 80) -> Any:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def same(found: Any, expected: Any) -> None:
    """Results, or lists of them, of two engines."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    for name, value in vars(expected).items():
        there = getattr(found, name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(there, value, atol=1e-5)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(there, value)
        elif isinstance(value, float):
            assert there == pytest.approx(value, abs=1e-5)
        else:
            assert there == value


@pytest.mark.parametrize("graphs", ["cuda graphs", "no cuda-bindings"])
def test_every_task_says_what_the_portable_plan_says(
    graphs: str, gpu: Gpu, plan: Path, tiny_plan: Path
) -> None:
    """Several frames, of both input sizes, so that captured work takes part."""
    if graphs != "cuda graphs":
        gpu.without_graphs()
    with Engine(tiny_plan) as portable, Engine(plan) as engine:
        for seed, size in enumerate([(48, 80), (64, 64), (20, 90), (48, 80), (48, 80)]):
            image = picture(seed, *size)
            for task in ("panoptic", "semantic", "instance"):
                same(
                    engine.segment(image, WORDS, task=task),
                    portable.segment(image, WORDS, task=task),
                )
        image = picture(7)
        state = engine.encode(image)
        same(engine.refer(state, WORDS), portable.refer(image, WORDS))
        same(engine.caption(state, max_tokens=6), portable.caption(image, max_tokens=6))
        answers = [
            one.answer(image, "what is it?", choices=["a cat", "a dog"])
            for one in (engine, portable)
        ]
        same(*answers)
        np.testing.assert_allclose(
            engine.embed_image(state), portable.embed_image(image), atol=1e-5
        )
        np.testing.assert_allclose(engine.embed_text(WORDS), portable.embed_text(WORDS), atol=1e-5)
    assert gpu.live() == (0, 0)


@pytest.fixture
def expected(tiny_plan: Path) -> Iterator[Callable[[str, int], Any]]:
    """What the portable plan says of a picture, kept."""
    with Engine(tiny_plan) as portable:
        known: dict[tuple[str, int], Any] = {}

        def ask(question: str, seed: int) -> Any:
            if (question, seed) not in known:
                known[question, seed] = QUESTIONS[question](portable, picture(seed))
            return known[question, seed]

        yield ask


QUESTIONS: dict[str, Callable[[Engine, Any], Any]] = {
    "segment": lambda engine, image: engine.segment(image, WORDS),
    "semantic": lambda engine, image: engine.segment(image, WORDS, task="semantic"),
    "refer": lambda engine, image: engine.refer(image, WORDS[:2]),
}


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    threads=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["encode", "drop", *QUESTIONS]), st.integers(0, 3)),
            min_size=4,
            max_size=10,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_states_are_asked_and_dropped_in_any_order_from_any_thread(
    gpu: Gpu, plan: Path, expected: Callable[[str, int], Any], threads: list[list[tuple[str, int]]]
) -> None:
    gpu.contend()
    for question in QUESTIONS:
        for seed in range(4):
            expected(question, seed)
    failed: list[BaseException] = []
    with Engine(plan) as engine:

        def follow(steps: list[tuple[str, int]]) -> None:
            states: list[tuple[int, Any]] = []
            try:
                for step, number in steps:
                    if step == "encode":
                        states.append((number, engine.encode(picture(number))))
                    elif states and step == "drop":
                        states.pop(number % len(states))
                    elif states:
                        seed, state = states[number % len(states)]
                        same(QUESTIONS[step](engine, state), expected(step, seed))
            except BaseException as error:
                failed.append(error)

        running = [threading.Thread(target=follow, args=(steps,)) for steps in threads]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    if failed:
        raise failed[0]
    assert gpu.live() == (0, 0)


def test_a_closed_engine_refuses_and_holds_nothing(gpu: Gpu, plan: Path) -> None:
    engine = Engine(plan)
    state = engine.encode(picture())
    engine.close()
    engine.close()
    assert gpu.live() == (0, 0)
    if not gpu.is_stand_in:
        live = gpu.machine.fake.live()
        assert (live.contexts, live.streams, live.events, live.executables) == (0, 0, 0, 0)
    with pytest.raises(ArgumentError, match="closed"):
        engine.segment(state, WORDS)


# ---- pictures on the device ----


class OnDevice:
    """A picture in device memory, with the interface of Numba and CuPy."""

    def __init__(self, gpu: Gpu, image: Any, pitch: int = 0, **interface: Any) -> None:
        height, width, _ = image.shape
        rows = np.zeros((height, pitch or 3 * width), np.uint8)
        rows[:, : 3 * width] = image.reshape(height, -1)
        driver = self._driver = gpu.driver
        driver.init()
        context = driver.Device(0).retain_primary_context()
        context.push()
        self.memory = driver.mem_alloc(rows.nbytes)
        driver.memcpy_htod(self.memory, rows)
        driver.Context.pop()
        self._context = context
        self.shape = image.shape
        self.strides = (pitch, 3, 1) if pitch else None
        self.__cuda_array_interface__ = {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (int(self.memory), False),
            "strides": self.strides,
            "version": 3,
            **interface,
        }

    def free(self) -> None:
        self._context.push()
        self.memory.free()
        self._driver.Context.pop()
        self._context.detach()


class WithDLPack:
    """The same by DLPack, as PyTorch gives it."""

    def __init__(self, source: OnDevice, bits: int = 8) -> None:
        self._source = source
        shape = (ctypes.c_int64 * 3)(*source.shape)
        strides = (ctypes.c_int64 * 3)(*source.strides) if source.strides else None
        self._held = (shape, strides)
        self._tensor = (ctypes.c_uint64 * 16)()
        struct = ctypes.addressof(self._tensor)
        ctypes.c_void_p.from_address(struct).value = int(source.memory) - 5
        ctypes.c_int32.from_address(struct + 8).value = 2
        ctypes.c_int32.from_address(struct + 16).value = 3
        ctypes.c_uint8.from_address(struct + 20).value = 1
        ctypes.c_uint8.from_address(struct + 21).value = bits
        ctypes.c_uint16.from_address(struct + 22).value = 1
        ctypes.c_void_p.from_address(struct + 24).value = ctypes.addressof(shape)
        ctypes.c_void_p.from_address(struct + 32).value = (
            ctypes.addressof(strides) if strides else 0
        )
        ctypes.c_uint64.from_address(struct + 40).value = 5

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int | None = None) -> Any:
        assert stream == 1
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
        return new(ctypes.addressof(self._tensor), _NAME, None)


_NAME = ctypes.cast(ctypes.c_char_p(b"dltensor"), ctypes.c_void_p)


@pytest.mark.parametrize("size", [(64, 64), (64, 40), (32, 96), (20, 96)])
@pytest.mark.parametrize("form", ["array", "rows apart", "dlpack", "dlpack rows apart", "stream"])
def test_a_picture_on_the_device_is_taken_there(
    size: tuple[int, int], form: str, gpu: Gpu, plan: Path
) -> None:
    image = picture(1, *size)
    with Engine(plan) as engine:
        expected = engine.segment(image, WORDS)
        held = OnDevice(
            gpu,
            image,
            pitch=3 * size[1] + 7 if "rows" in form else 0,
            **({"stream": 77} if form == "stream" else {}),
        )
        given: Any = WithDLPack(held) if "dlpack" in form else held
        for _ in range(3):
            same(engine.segment(given, WORDS), expected)
        held.free()  # nothing reads it any more
    assert gpu.live() == (0, 0)


def test_a_picture_on_the_device_that_would_be_scaled_is_refused(gpu: Gpu, plan: Path) -> None:
    with Engine(plan) as engine:
        held = OnDevice(gpu, picture(0, 48, 80))
        with pytest.raises(ImageError) as caught:
            engine.encode(held)
        message = str(caught.value)
        assert "48 x 80 on the device would have to be scaled" in message
        assert "64 x 64, 32 x 96" in message
        held.free()


@pytest.mark.parametrize(
    ("interface", "sentence"),
    [
        ({"typestr": "<f4"}, "'<f4'"),
        ({"shape": (3, 64, 64)}, r"\[3, 64, 64\]"),
        ({"shape": (64, 64)}, r"\[64, 64\]"),
        ({"strides": (64, 1, 4096)}, "packed RGB"),
        ({"mask": object()}, "without a mask"),
    ],
)
def test_an_array_on_the_device_that_is_no_picture(
    interface: dict[str, Any], sentence: str, gpu: Gpu, plan: Path
) -> None:
    with Engine(plan) as engine:
        held = OnDevice(gpu, picture(0, 64, 64), **interface)
        with pytest.raises(ImageError, match=sentence):
            engine.encode(held)
        held.free()


def test_a_tensor_on_the_device_that_is_no_picture(gpu: Gpu, plan: Path) -> None:
    with Engine(plan) as engine:
        held = OnDevice(gpu, picture(0, 64, 64))
        with pytest.raises(ImageError, match="16 bits"):
            engine.encode(WithDLPack(held, bits=16))
        held.free()


def test_a_plan_without_a_device_says_what_to_do_with_such_a_picture(
    gpu: Gpu, tiny_plan: Path
) -> None:
    held = OnDevice(gpu, picture(0, 64, 64))
    with Engine(tiny_plan) as engine, pytest.raises(ImageError, match="cpu"):
        engine.encode(held)
    held.free()


# ---- panoptic maps on the device ----

OWN = "PPPPPPPPiiiiiiiPP"
RELABEL = "PPiPP"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of panoptic maps for Orin."""
    pytest.importorskip("triton", reason="compiling the kernels needs the extra triton")
    from xdecoder_rt.kernels import aot
    from xdecoder_rt.kernels.targets import target

    folder = tmp_path_factory.mktemp("kernels") / "compiled"
    aot.compile_kernels(folder, [target(87)], only="^own_fp32$|^relabel$", jobs=1)
    return folder


class Kernels:
    """What the two kernels mean, in NumPy."""

    def __init__(self, gpu: Gpu) -> None:
        self._array = gpu.machine.array
        self.launched: list[str] = []
        gpu.on_kernel(self, {"own": OWN, "relabel": RELABEL})

    def __call__(self, name: str, values: list[Any]) -> None:
        self.launched.append(name)
        {"own": self._own, "relabel": self._relabel}[name](*values[:-2])

    def _own(self, *values: Any) -> None:
        pointers, sizes = values[:8], values[8:]
        masks, height, width, row_taps, column_taps, out_height, out_width = sizes
        logits = self._array(pointers[0], (masks, height, width), np.float32).astype(np.float64)
        rows = self._matrix(pointers[1], pointers[2], out_height, row_taps, height)
        columns = self._matrix(pointers[3], pointers[4], out_width, column_taps, width)
        shifts = self._array(pointers[5], (masks,), np.float32).astype(np.float64)
        large = rows @ logits @ columns.T
        owner = (shifts[:, None, None] + np.logaddexp(0, -large)).argmin(axis=0)
        inside = large >= 0
        owned = owner == np.arange(masks)[:, None, None]
        winners = self._array(pointers[6], (out_height, out_width), np.int32)
        winners[:] = np.where((owned & inside).any(axis=0), owner + 1, 0)
        counts = self._array(pointers[7], (3, masks), np.int32)
        counts += np.stack([part.sum(axis=(1, 2)) for part in (owned, inside, owned & inside)])

    def _matrix(self, first: int, weights: int, target: int, taps: int, source: int) -> Any:
        starts = self._array(first, (target,), np.int32)
        matrix = np.zeros((target, source))
        for line, row in enumerate(self._array(weights, (target, taps), np.float32)):
            matrix[line, starts[line] : starts[line] + taps] = row
        return matrix

    def _relabel(self, winners: int, ids: int, pixels: int) -> None:
        owners = self._array(winners, (pixels,), np.int32)
        owners[:] = self._array(ids, (int(owners.max()) + 1,), np.int32)[owners]


def test_panoptic_maps_are_made_on_the_device_where_the_plan_has_the_kernels(
    gpu: Gpu, tiny_plan: Path, tmp_path: Path, compiled: Path
) -> None:
    import fake_tensorrt

    files = {
        f"kernels/{path.relative_to(compiled)}": path.read_bytes()
        for path in compiled.rglob("*")
        if path.is_file()
    }
    plan = fake_tensorrt.tensorrt_plan(tiny_plan, tmp_path / "kernels.plan", more=files)
    kernels = Kernels(gpu)
    with Engine(tiny_plan) as portable, Engine(plan) as engine:
        frames = [(0, 48, 80), (1, 48, 80), (2, 70, 64), (3, 48, 80)]
        before = 0
        for seed, height, width in frames:
            image = picture(seed, height, width)
            found = engine.segment(image, WORDS, stuff=["the sky"])
            expected = portable.segment(image, WORDS, stuff=["the sky"])
            assert found.segmentation.dtype == np.int32
            assert (found.segmentation == expected.segmentation).mean() > 0.999
            assert [one["label_id"] for one in found.segments_info] == [
                one["label_id"] for one in expected.segments_info
            ]
            if seed == 0:
                before = gpu.allocations()
            elif seed == 1:
                assert gpu.allocations() == before
        assert kernels.launched == ["own", "relabel"] * len(frames)
        assert len(portable.segment(picture(0), WORDS).segments_info) > 1
    assert gpu.live() == (0, 0)


def test_letterboxes_of_pictures_taken_as_they_are() -> None:
    from xdecoder_rt.image import unscaled

    sizes = [(64, 64), (32, 96), (96, 96)]
    assert unscaled((64, 64), sizes) == Letterbox((64, 64), (64, 64), (64, 64))
    assert unscaled((32, 96), sizes).target == (32, 96)
    assert unscaled((96, 10), sizes).target == (96, 96)
    with pytest.raises(ImageError, match="64 x 64, 32 x 96, 96 x 96"):
        unscaled((65, 64), sizes)
