"""A file that was trained without captions and retrieval becomes a plan that does the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="building a plan needs the extra export")

from published_layouts import PREDICTOR, published_tensors, save_pt

from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import BuildError, CheckpointError, XDecoderError
from xdecoder_rt.export.options import BuildOptions
from xdecoder_rt.export.pipeline import build
from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.models import load_published

SIZE = (64, 64)
LOST = ("backbone_proj", PREDICTOR + "caping_embed", PREDICTOR + "pos_embed_caping.weight")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = {name: value for name, value in published_tensors().items() if name not in LOST}
    return save_pt(tmp_path_factory.mktemp("checkpoint") / "baseline.pt", {"model": tensors})


@pytest.mark.slow
def test_a_plan_does_what_the_file_is_trained_for_and_refuses_the_rest(
    checkpoint: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "baseline.plan"
    with pytest.warns(RuntimeWarning, match="trained without caption and answer and embed"):
        summary = build(checkpoint, plan, BuildOptions(sizes=[SIZE]))
    assert summary.manifest.tasks == ("segment", "refer")
    assert "token.onnx" not in summary.manifest.members
    frame = np.zeros((*SIZE, 3), np.uint8)
    with Engine(plan, cache_dir=tmp_path / "cache") as engine:
        assert engine.segment(frame, ["mug", "table"]).segmentation.shape == SIZE
        assert len(engine.refer(frame, ["the mug"])) == 1
        with pytest.raises(XDecoderError, match="caption"):
            engine.caption(frame)


def test_a_task_without_weights_is_refused_before_anything_is_exported(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="trained without embed: it lacks backbone_proj"):
        build(checkpoint, tmp_path / "x.plan", BuildOptions(sizes=[SIZE], tasks=["embed"]))
    with pytest.warns(RuntimeWarning):
        model = load_published(checkpoint)
    with pytest.raises(BuildError, match="embed cannot be built.*some of segment, refer"):
        build_portable(model, tmp_path / "x.plan", sizes=[SIZE], tasks=["embed"])
    assert list(tmp_path.iterdir()) == []
