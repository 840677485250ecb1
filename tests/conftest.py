"""What several test modules share: a plan of a tiny model with random weights."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdecoder_rt.models import ModelConfig

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


@pytest.fixture(scope="session")
def worker_id() -> str:
    """The pytest-xdist worker, or "master"; xdist's own fixture needs the plugin."""
    return os.environ.get("PYTEST_XDIST_WORKER", "master")


def _build(plan: Path) -> None:
    import torch

    from xdecoder_rt.export.build import build_portable
    from xdecoder_rt.models import XDecoder

    torch.manual_seed(0)
    build_portable(XDecoder(tiny_config()), plan, sizes=TINY_SIZES)
