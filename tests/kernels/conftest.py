"""Kernels that several modules look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from artifact_cache import ArtifactCache
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
def orin(artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The masked-attention kernels in fp16, compiled for Orin."""
    folder = tmp_path_factory.mktemp("orin") / "compiled"
    return artifacts.provide("compiled_kernels.compile_for_orin", folder)


@pytest.fixture
def compiled(orin: Path) -> CompiledKernels:
    """Those kernels, read back."""
    from xdecoder_rt.kernels.compiled import CompiledKernels

    return CompiledKernels(orin)
