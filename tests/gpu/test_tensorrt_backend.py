"""TensorRT plans, run on a fake TensorRT over a fake driver: the same results as portable plans."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plain_pieces
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xdecoder_rt import Engine
from xdecoder_rt.backends.cuda import context
from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.pixels.letterbox import Letterbox

if TYPE_CHECKING:
    from fake_tensorrt import Gpu, Kernels

    from xdecoder_rt.results import Segmentation

WORDS = ["a cat", "a dog", "the sky"]


@pytest.fixture
def plan(gpu: Gpu, tiny_plan: Path, tmp_path: Path) -> Path:
    import fake_tensorrt

    path: Path = fake_tensorrt.tensorrt_plan(tiny_plan, tmp_path / "tensorrt.plan")
    return path


def picture(seed: int = 0, height: int = 48, width: int = 80) -> Any:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def same(found: Any, expected: Any) -> None:
    """Results of two engines, or what they hold: numbers may differ by rounding."""
    if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, atol=1e-5)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-5)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for name, value in expected.items():
            same(found[name], value)
    elif hasattr(expected, "__dataclass_fields__"):
        same(vars(found), vars(expected))
    else:
        assert found == expected


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
    with Engine(plan) as engine:

        def follow(steps: list[tuple[str, int]]) -> None:
            states: list[tuple[int, Any]] = []
            for step, number in steps:
                if step == "encode":
                    states.append((number, engine.encode(picture(number))))
                elif states and step == "drop":
                    states.pop(number % len(states))
                elif states:
                    seed, state = states[number % len(states)]
                    same(QUESTIONS[step](engine, state), expected(step, seed))

        together(*(lambda own=own: follow(own) for own in threads))
    assert gpu.live() == (0, 0)


def together(*calls: Callable[[], None]) -> None:
    """Run calls on threads of their own; what one raises is raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for call in [pool.submit(call) for call in calls]:
            call.result()


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


@pytest.mark.parametrize("closes", ["its maker", "another thread"])
def test_a_closed_engine_leaves_no_context_behind(gpu: Gpu, plan: Path, closes: str) -> None:
    """CUDA's runtime, and so TensorRT's builder and PyTorch, cannot work in a released one."""
    engine = Engine(plan)
    if closes == "its maker":
        engine.close()
    else:
        together(engine.close)
    assert gpu.context_state() == (False, 0)


def test_a_closed_engine_leaves_the_context_of_its_caller(gpu: Gpu, plan: Path) -> None:
    gpu.driver.init()
    own = gpu.driver.Device(0).retain_primary_context()
    own.push()
    Engine(plan).close()
    assert gpu.context_state()[0]
    gpu.driver.Context.pop()
    assert not gpu.context_state()[0]
    own.push()
    context.pop_unknown_to_pycuda()
    own.detach()


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

    def fill(self, value: int) -> None:
        """Queue the writing of grey on the legacy default stream, as other libraries do."""
        self._context.push()
        size = self.shape[0] * self.shape[1] * 3
        self._driver.memset_d8_async(int(self.memory), value, size, None)
        self._driver.Context.pop()

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


FORMS = ["array", "rows apart", "dlpack", "dlpack rows apart", "stream"]


def on_device(gpu: Gpu, image: Any, form: str) -> tuple[OnDevice, Any]:
    """Who holds a picture on the device, and what is given to the engine."""
    held = OnDevice(
        gpu,
        image,
        pitch=3 * image.shape[1] + 7 if "rows" in form else 0,
        **({"stream": 77} if form == "stream" else {}),
    )
    return held, WithDLPack(held) if "dlpack" in form else held


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_on_the_device_is_taken_there(form: str, gpu: Gpu, plan: Path) -> None:
    with Engine(plan) as engine:
        for size in [(64, 64), (64, 40), (32, 96), (20, 96)]:
            image = picture(1, *size)
            expected = engine.segment(image, WORDS)
            held, given = on_device(gpu, image, form)
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


def test_an_array_on_the_device_that_is_no_picture(gpu: Gpu, plan: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"typestr": "<f4"}, "'<f4'"),
        ({"shape": (3, 64, 64)}, r"\[3, 64, 64\]"),
        ({"shape": (64, 64)}, r"\[64, 64\]"),
        ({"strides": (64, 1, 4096)}, "packed RGB"),
        ({"mask": object()}, "without a mask"),
    ]
    with Engine(plan) as engine:
        for interface, sentence in wrong:
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


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of frames and panoptic maps, for Orin."""
    pytest.importorskip("triton", reason="compiling the kernels needs the extra triton")
    from xdecoder_rt.kernels import aot
    from xdecoder_rt.kernels.targets import target

    folder = tmp_path_factory.mktemp("kernels") / "compiled"
    aot.compile_kernels(folder, [target(87)], only="^own_fp32$|^relabel$|^frame_", jobs=1)
    return folder


@pytest.fixture
def kernel_plan(gpu: Gpu, tiny_plan: Path, tmp_path: Path, compiled: Path) -> Path:
    """A plan with compiled kernels."""
    import fake_tensorrt

    files = {
        f"kernels/{path.relative_to(compiled)}": path.read_bytes()
        for path in compiled.rglob("*")
        if path.is_file()
    }
    path: Path = fake_tensorrt.tensorrt_plan(tiny_plan, tmp_path / "kernels.plan", more=files)
    return path


@pytest.fixture
def kernels(gpu: Gpu) -> Kernels:
    """What stands in for them."""
    import fake_tensorrt

    made: Kernels = fake_tensorrt.Kernels(gpu)
    return made


def nearly_same(found: Segmentation, expected: Segmentation) -> None:
    """Panoptic maps of the kernels and of the CPU, which round differently at edges."""
    assert found.segmentation.dtype == np.int32
    assert (found.segmentation == expected.segmentation).mean() > 0.999
    assert [one["label_id"] for one in found.segments_info] == [
        one["label_id"] for one in expected.segments_info
    ]


def test_frames_and_panoptic_maps_are_made_on_the_device_where_the_plan_has_the_kernels(
    gpu: Gpu, tiny_plan: Path, kernel_plan: Path, kernels: Kernels
) -> None:
    with Engine(tiny_plan) as portable, Engine(kernel_plan) as engine:
        frames = [(0, 48, 80), (1, 48, 80), (2, 70, 64), (3, 48, 80)]
        before = 0
        for seed, height, width in frames:
            image = picture(seed, height, width)
            found = engine.segment(image, WORDS, stuff=["the sky"])
            nearly_same(found, portable.segment(image, WORDS, stuff=["the sky"]))
            if seed == 0:
                before = gpu.allocations()
            elif seed == 1:
                assert gpu.allocations() == before
        assert kernels.launched == ["across", "down", "own", "relabel"] * len(frames)
        assert len(portable.segment(picture(0), WORDS).segments_info) > 1
        # One that has its size needs no scaling.
        same(engine.refer(picture(4, 64, 64), WORDS), portable.refer(picture(4, 64, 64), WORDS))
        assert kernels.launched[-4:] == ["across", "down", "own", "relabel"]
    assert gpu.live() == (0, 0)


def test_maps_of_the_device_are_cleaned_as_those_of_the_cpu(
    gpu: Gpu, tiny_plan: Path, kernel_plan: Path, kernels: Kernels
) -> None:
    def cleaning(engine: Engine) -> None:
        manifest = engine._runtime.manifest
        rules = replace(manifest.postprocess, piece_share=1.0)
        engine._runtime.manifest = replace(manifest, postprocess=rules)

    image = picture(0)
    with Engine(tiny_plan) as portable, Engine(kernel_plan) as engine:
        exact = engine.segment(image, WORDS)
        cleaning(portable)
        cleaning(engine)
        found = engine.segment(image, WORDS)
        nearly_same(found, portable.segment(image, WORDS))
        assert kernels.launched.count("own") == 2
    assert (found.segmentation != exact.segmentation).any()
    for info in found.segments_info:
        mask = found.segmentation == info["id"]
        expected = plain_pieces.cleaned(exact.segmentation == info["id"], 1.0)
        np.testing.assert_array_equal(mask, expected)
        assert info["area"] == np.count_nonzero(expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_on_the_device_is_scaled_there(
    form: str, gpu: Gpu, tiny_plan: Path, kernel_plan: Path, kernels: Kernels
) -> None:
    with Engine(tiny_plan) as portable, Engine(kernel_plan) as engine:
        for size in [(48, 80), (70, 64), (10, 200), (64, 64)]:
            image = picture(1, *size)
            expected = portable.refer(image, WORDS)
            held, given = on_device(gpu, image, form)
            for _ in range(3):
                same(engine.refer(given, WORDS), expected)
            held.free()  # nothing reads it any more
        assert kernels.launched == ["across", "down"] * 3 * 3  # the last has its size
    assert gpu.live() == (0, 0)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)], ids=["as it is", "scaled"])
def test_a_picture_on_the_device_is_read_after_its_writing_and_before_the_next(
    size: tuple[int, int], gpu: Gpu, kernel_plan: Path, kernels: Kernels
) -> None:
    """What its owner queued is waited for; what it writes after the call is not seen."""
    images = [np.full((*size, 3), value, np.uint8) for value in (40, 200)]
    with Engine(kernel_plan) as engine:
        dark, bright = (engine.embed_image(image) for image in images)
        assert not np.allclose(dark, bright, atol=1e-3)
        held = OnDevice(gpu, np.zeros((*size, 3), np.uint8))
        states = []
        for value in (40, 200, 40):
            held.fill(value)
            states.append(engine.encode(held))
        held.fill(0)
        for state, expected in zip(states, [dark, bright, dark], strict=True):
            np.testing.assert_allclose(engine.embed_image(state), expected, atol=1e-5)
        held.free()


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    threads=st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=2, max_size=6
        ),
        min_size=1,
        max_size=3,
    )
)
def test_frames_of_any_size_and_place_from_any_thread(
    gpu: Gpu,
    tiny_plan: Path,
    kernel_plan: Path,
    kernels: Kernels,
    threads: list[list[tuple[int, bool, bool]]],
) -> None:
    """Cameras of several sizes; frames of the device are overwritten when a call returns."""
    gpu.contend()
    images = [picture(seed, *size) for seed, size in enumerate([(48, 80), (90, 70), (64, 64)])]
    images.append(picture(3, 12, 99))
    with Engine(tiny_plan) as portable:
        expected = [(portable.refer(one, WORDS), portable.segment(one, WORDS)) for one in images]
    with Engine(kernel_plan) as engine:

        def follow(steps: list[tuple[int, bool, bool]]) -> None:
            for number, is_on_device, is_map in steps:
                image: Any = images[number]
                held = OnDevice(gpu, image) if is_on_device else None
                state = engine.encode(image.copy() if held is None else held)
                if held is not None:
                    held.free()
                if is_map:
                    nearly_same(engine.segment(state, WORDS), expected[number][1])
                else:
                    same(engine.refer(state, WORDS), expected[number][0])

        together(*(lambda own=own: follow(own) for own in threads))
    assert gpu.live() == (0, 0)


def test_letterboxes_of_pictures_taken_as_they_are() -> None:
    from xdecoder_rt.pixels.letterbox import unscaled_letterbox

    sizes = [(64, 64), (32, 96), (96, 96)]
    assert unscaled_letterbox((64, 64), sizes) == Letterbox((64, 64), (64, 64), (64, 64))
    assert unscaled_letterbox((32, 96), sizes).target == (32, 96)
    assert unscaled_letterbox((96, 10), sizes).target == (96, 96)
    with pytest.raises(ImageError, match="64 x 64, 32 x 96, 96 x 96"):
        unscaled_letterbox((65, 64), sizes)
