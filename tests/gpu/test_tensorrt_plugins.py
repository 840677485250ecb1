"""Plans whose engines hold plugins: registered, and given their kernels, before they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.errors import BackendError
from xdecoder_rt.kernels.compiled import KERNELS, CompiledKernels

if TYPE_CHECKING:
    from fake_tensorrt import Gpu

WORDS = ["a cat", "a dog"]
NODES = ("MaskBits", "AttendBits")
PICTURE = np.zeros((48, 80, 3), np.uint8)


@pytest.fixture
def made(gpu: Gpu, tiny_plan: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a plan with plugins in its decoding engines, and kernels for a compute capability."""
    import fake_tensorrt

    def make(
        sm: int = 87,
        plugins: tuple[tuple[str, str], ...] = tuple(("xdecoder_rt", node) for node in NODES),
        number: int | None = None,
        **options: Any,
    ) -> Path:
        files = fake_tensorrt.kernel_files(sm)
        if number is None:
            number = int(CompiledKernels(files.__getitem__).digest[:8], 16) >> 1
        path: Path = fake_tensorrt.tensorrt_plan(
            tiny_plan,
            tmp_path / "made.plan",
            more={KERNELS + name: data for name, data in files.items()},
            plugins=[(space, name, {"kernels": number}) for space, name in plugins],
            **options,
        )
        return path

    return make


def test_the_engines_are_read_and_run(gpu: Gpu, made: Callable[..., Path], tiny_plan: Path) -> None:
    """Twice: what is registered once a process serves later plans."""
    with Engine(tiny_plan) as portable:
        expected = portable.segment(PICTURE, WORDS)
    for _ in range(2):
        with Engine(made()) as engine:
            found = engine.segment(PICTURE, WORDS)
        np.testing.assert_array_equal(found.segmentation, expected.segmentation)
    assert gpu.live() == (0, 0)


def test_no_plugin_is_registered_for_a_plan_without(gpu: Gpu, made: Callable[..., Path]) -> None:
    import tensorrt

    with Engine(made(plugins=())) as engine:
        engine.segment(PICTURE, WORDS)
    assert not tensorrt.get_plugin_registry().creators


def test_kernels_for_another_gpu_are_refused_at_once(gpu: Gpu, made: Callable[..., Path]) -> None:
    with pytest.raises(BackendError) as caught:
        Engine(made(sm=86))
    message = str(caught.value)
    assert "was compiled for sm_86; this device is sm_87" in message
    assert "python -m xdecoder_rt.kernels.aot" in message
    assert gpu.live() == (0, 0)


def test_plugins_of_another_release_are_refused_at_once(
    gpu: Gpu, made: Callable[..., Path]
) -> None:
    with pytest.raises(BackendError, match="hold the plugins xdecoder_rt::Other"):
        Engine(made(plugins=(("xdecoder_rt", "Other"),)))
    assert gpu.live() == (0, 0)


def test_a_library_without_plugins_is_named(gpu: Gpu, made: Callable[..., Path]) -> None:
    gpu.install("tensorrt_rtx")
    with pytest.raises(BackendError, match=r"tensorrt_rtx 1\.7.* takes no plugins"):
        Engine(made(backend="tensorrt_rtx", version="1.7.1.116"))
    assert gpu.live() == (0, 0)


def test_an_engine_that_was_built_with_other_kernels(gpu: Gpu, made: Callable[..., Path]) -> None:
    """TensorRT says no more than that it cannot make the plugin; the reason is ours."""
    with Engine(made(number=1)) as engine, pytest.raises(BackendError) as caught:
        engine.segment(PICTURE, WORDS)
    message = str(caught.value)
    # The first of the two that hold plugins.
    assert "cannot read the frame" in message
    assert "plugin MaskBits was built with other kernels" in message
    assert "Could not create plugin" in message
