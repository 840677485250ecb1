"""Kernels that several modules look at."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_cuda import fake_cuda, fake_driver  # noqa: F401

if TYPE_CHECKING:
    from xdecoder_rt.kernels.compiled import CompiledKernels

torch = pytest.importorskip("torch")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on a GPU where there is one: what asks for the device."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "device" in item.fixturenames:
            item.add_marker("gpu")


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernels run: ``cuda`` or ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The masked-attention kernels in fp16, compiled for Orin, once for all workers."""
    from xdecoder_rt.kernels import aot
    from xdecoder_rt.kernels.targets import target

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "compiled"
    with open(root / "compiled.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            only = "^(attend|open_bits|combine)_fp16|^pack"
            aot.compile_kernels(folder, [target(87), target(101)], only=only, jobs=2)
    return folder


@pytest.fixture
def compiled(orin: Path) -> CompiledKernels:
    """Those kernels, read back."""
    from xdecoder_rt.kernels.compiled import CompiledKernels

    return CompiledKernels(orin)
