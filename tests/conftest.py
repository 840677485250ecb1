"""What several test modules share: a plan of a tiny model with random weights."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_cuda import fake_cuda, fake_driver  # noqa: F401
from fake_tensorrt import gpu  # noqa: F401

if TYPE_CHECKING:
    from xdecoder_rt.models import ModelConfig, XDecoder
    from xdecoder_rt.plan.manifest import Manifest


# Kernels run on the GPU where there is one, and under Triton's interpreter where there is none.
# Read by Triton when a kernel's module is imported, so it is set before any test module is.
if not any(path.exists() for path in map(Path, ("/dev/nvidia0", "/dev/nvgpu", "/dev/dxg"))):
    os.environ.setdefault("TRITON_INTERPRET", "1")

TINY_SIZES = ((64, 64), (32, 96))


def tiny_config() -> ModelConfig:
    """A compact model of a few thousand parameters that keeps every segment it can."""
    from xdecoder_rt.models.config import (
        BackboneConfig,
        DecoderConfig,
        ModelConfig,
        PixelDecoderConfig,
        PostprocessConfig,
        TextConfig,
    )

    return ModelConfig(
        name="tiny",
        family="compact",
        backbone=BackboneConfig(
            kind="focal_dw",
            embed_dim=8,
            depths=(1, 1, 1, 1),
            focal_levels=(1, 1, 1, 1),
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=16,
            mask_level_dim=16,
            mask_dim=16,
            mask_kernel=0,
            norm="batch",
            transformer_layers=1,
            heads=2,
            feedforward_dim=32,
        ),
        decoder=DecoderConfig(
            num_queries=9,
            hidden_dim=16,
            heads=2,
            feedforward_dim=32,
            layers=3,
            class_token_is_mask=False,
        ),
        text=TextConfig(width=16, heads=2, layers=1, context_length=77, token_rank=4),
        # Random weights are sure of nothing: without thresholds there is something to look at.
        postprocess=PostprocessConfig(object_mask_threshold=0.0, overlap_threshold=0.0),
        proj_dim=16,
        templates="compact",
    )


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    """`tiny_config`, for test modules, which cannot import this one."""
    pytest.importorskip("torch", reason="the models need the extra export")
    return tiny_config()


@pytest.fixture
def tiny_model(tiny: ModelConfig) -> XDecoder:
    """A model of `tiny_config` with every value drawn at random, in eval mode."""
    from xdecoder_rt.models import XDecoder

    return redrawn(XDecoder(tiny))


@pytest.fixture(scope="session")
def redraw() -> Callable[[XDecoder], XDecoder]:
    """`redrawn`, for test modules, which cannot import this one."""
    return redrawn


def redrawn(model: XDecoder) -> XDecoder:
    """Draw every value anew, so that no norm, bias, statistic or layer scale is as it begins."""
    import torch

    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            if value.ndim >= 2:
                value.normal_(0, max(0.02, value[0].numel() ** -0.5))
            elif name.endswith("bias") or name.endswith("running_mean"):
                value.normal_(0, 0.2)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_plan(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A portable plan of `tiny_config` for inputs of 64x64 and 32x96, built once; read only."""
    pytest.importorskip("torch", reason="building a plan needs the extra export")
    pytest.importorskip("onnxscript", reason="building a plan needs the extra export")
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":  # workers share the folder above their own
        folder = folder.parent
    plan = folder / "tiny.plan"
    with (folder / "tiny.plan.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not plan.exists():
            _build(plan)
    return plan


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


def _build(plan: Path) -> None:
    import torch

    from xdecoder_rt.export.portable import build_portable
    from xdecoder_rt.models import XDecoder

    torch.manual_seed(0)
    build_portable(XDecoder(tiny_config()), plan, sizes=TINY_SIZES)
