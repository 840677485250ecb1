"""Which GPU of a machine engines are built on and for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="building engines needs onnx")

from xdecoder_rt.backends.cuda import context
from xdecoder_rt.backends.cuda.context import find_device
from xdecoder_rt.backends.tensorrt import library
from xdecoder_rt.cli.build import add_arguments
from xdecoder_rt.errors import ArgumentError, BackendError, BuildError, MissingExtraError
from xdecoder_rt.export.tensorrt.options import EngineOptions
from xdecoder_rt.export.tensorrt.toolchain import open_toolchain

if TYPE_CHECKING:
    from fake_tensorrt import Gpu

NAMES = ["NVIDIA GeForce RTX 4090", "NVIDIA RTX A6000", "NVIDIA RTX A6000", "Tesla T4"]


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of four GPUs."""

    class Device:
        def __init__(self, number: int) -> None:
            self.name = lambda: NAMES[number]

        @staticmethod
        def count() -> int:
            return len(NAMES)

    driver = SimpleNamespace(init=lambda: None, Device=Device, Error=RuntimeError)
    monkeypatch.setattr(context.cuda_driver, "choose", lambda extra: driver)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("0", "cuda:0"),
        ("3", "cuda:3"),
        ("cuda", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("4090", "cuda:0"),
        ("nvidia geforce rtx 4090", "cuda:0"),
        ("A6000", "cuda:1"),
        ("tesla", "cuda:3"),
    ],
)
@pytest.mark.usefixtures("several")
def test_a_gpu_is_found_by_number_or_name(wanted: str, found: str) -> None:
    assert find_device(wanted, "tensorrt") == found


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("4", r"no GPU 4\. Expected one of 0 \(NVIDIA GeForce RTX 4090\), 1 \(NVIDIA RTX A6000\)"),
        ("H200", r"'H200' is the name of no GPU here.*3 \(Tesla T4\)"),
        ("RTX", "is the name of several GPUs"),
        ("", "is the name of"),
        ("cuda:x", "is the name of no GPU"),
    ],
)
@pytest.mark.usefixtures("several")
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(wanted: str, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        find_device(wanted, "tensorrt")


@pytest.mark.parametrize("device", [None, "0", "cuda:0", "fake"])
def test_the_build_says_which_gpu_it_is_for(gpu: Gpu, device: str | None) -> None:
    toolchain = open_toolchain("tensorrt", (), device)
    assert toolchain.aims.startswith("GPU 0, Fake")
    assert "compute capability 8.7" in toolchain.aims
    assert (toolchain.targets, toolchain.device) == ((87,), "cuda:0")
    assert gpu.context_state() == (False, 0)


def test_the_library_works_on_the_chosen_gpu_and_nothing_is_left_current(gpu: Gpu) -> None:
    toolchain = open_toolchain("tensorrt", (), "0")
    with toolchain.on_device():
        assert gpu.context_state() == (True, 1)
    assert gpu.context_state() == (False, 0)


def test_another_number_is_refused_before_anything_is_built(gpu: Gpu) -> None:
    with pytest.raises(BackendError, match="There is no GPU 1"):
        open_toolchain("tensorrt", (), "1")


def test_a_gpu_and_targets_exclude_each_other() -> None:
    with pytest.raises(ArgumentError, match="built without a GPU"):
        EngineOptions("tensorrt_rtx", (89,), device="0")


def test_the_command_passes_the_gpu_on() -> None:
    import argparse

    from xdecoder_rt.cli.engine_options import engine_options

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments: Any = ["--plan", "a.plan", "--backend", "tensorrt", "--device", "RTX 4090"]
    args = parser.parse_args([*arguments, "-o", "b.plan"])
    assert engine_options(args).device == "RTX 4090"


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with JetPack."""
    (tmp_path / "nv_tegra_release").touch()
    monkeypatch.setattr(library, "_JETPACK", tmp_path / "nv_tegra_release")


def test_a_build_on_a_jetson_asks_for_jetpacks_tensorrt_and_not_for_pips(
    jetson: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match="python3-libnvinfer") as caught:
        open_toolchain("tensorrt", ())
    assert "pip install" not in str(caught.value)


def test_a_build_on_a_jetson_without_a_driver_s_bindings_names_its_extra(
    jetson: None, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pycuda.driver", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BuildError, match=r'pip install "xdecoder_rt\[jetson\]"'):
        open_toolchain("tensorrt", ())


def test_a_tensorrt_that_is_too_old_is_jetpacks_on_a_jetson_and_pips_elsewhere(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.install("tensorrt", "8.6.1")
    with pytest.raises(BackendError, match=r'pip install --upgrade "xdecoder_rt\[tensorrt\]"'):
        open_toolchain("tensorrt", ())
    (tmp_path / "nv_tegra_release").touch()
    monkeypatch.setattr(library, "_JETPACK", tmp_path / "nv_tegra_release")
    with pytest.raises(BackendError, match="install a newer JetPack"):
        open_toolchain("tensorrt", ())
