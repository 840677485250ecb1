"""What several test modules share: a plan of a tiny model with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from artifact_cache import ArtifactCache, kept_folder

if TYPE_CHECKING:
    from xdecoder_rt.models import ModelConfig, XDecoder
    from xdecoder_rt.plan.manifest import Manifest


# Kernels run on the GPU where there is one, and under Triton's interpreter where there is none.
# Read by Triton when a kernel's module is imported, so it is set before any test module is.
if not any(path.exists() for path in map(Path, ("/dev/nvidia0", "/dev/nvgpu", "/dev/dxg"))):
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Networks this small lose more to threads that wait for each other than they gain, above all where
# pytest's workers share the cores. Read when PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> ArtifactCache:
    """Where what takes long to make is kept, between runs or at least for all workers of one."""
    run = tmp_path_factory.getbasetemp()
    if worker_id != "master":  # workers share the folder above their own
        run = run.parent
    return ArtifactCache(kept_folder() or run / "artifacts")


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    """The configuration of the tiny model."""
    pytest.importorskip("torch", reason="the models need the extra export")
    import tiny_model

    return tiny_model.tiny_config()


@pytest.fixture
def tiny_model(tiny: ModelConfig, redraw: Callable[[XDecoder], XDecoder]) -> XDecoder:
    """The tiny model with every value drawn at random, in eval mode."""
    from xdecoder_rt.models import XDecoder

    return redraw(XDecoder(tiny))


@pytest.fixture(scope="session")
def redraw() -> Callable[[XDecoder], XDecoder]:
    """Draws every value of a model anew."""
    from tiny_model import redrawn

    return redrawn


@pytest.fixture(scope="session")
def tiny_plan(artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portable plan of the tiny model for inputs of 64x64 and 32x96; read only."""
    for package in ("torch", "onnxscript"):  # looked for: importing them takes seconds
        if find_spec(package) is None:
            pytest.skip("building a plan needs the extra export")
    folder = tmp_path_factory.mktemp("tiny") / "plan"
    return artifacts.provide("tiny_model.build_plan", folder) / "tiny.plan"


@pytest.fixture(scope="session")
def naming_plan(artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portable plan of the tiny model with a classifier of regions, for 64x64; read only."""
    for package in ("torch", "onnxscript"):
        if find_spec(package) is None:
            pytest.skip("building a plan needs the extra export")
    folder = tmp_path_factory.mktemp("naming") / "plan"
    return artifacts.provide("tiny_model.build_naming_plan", folder) / "naming.plan"


@pytest.fixture
def altered(tiny_plan: Path, tmp_path: Path) -> Callable[[Callable[[Manifest], Manifest]], Path]:
    """Writes `tiny_plan` anew with another manifest over the same graphs."""
    from xdecoder_rt.plan.file import Plan, write_plan

    def write(change: Callable[[Manifest], Manifest]) -> Path:
        with Plan.open(tiny_plan) as plan:
            members = {name: plan.read(name) for name in plan.names}
            write_plan(tmp_path / "altered.plan", change(plan.manifest), members)
        return tmp_path / "altered.plan"

    return write


@pytest.fixture(scope="session")
def worker_id() -> str:
    """The pytest-xdist worker, or "master"; xdist's own fixture needs the plugin."""
    return os.environ.get("PYTEST_XDIST_WORKER", "master")
