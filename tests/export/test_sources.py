"""Where the weights of a build or a training come from, and what is said of other files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.export.sources import STARTER, load_model
from xdecoder_rt.training.arguments import add_arguments, config_from_args

pytest.importorskip("torch", reason="weights need the extra export")


def test_the_starter_is_named_by_its_name_in_training_as_in_a_build(tmp_path: Path) -> None:
    import argparse

    from xdecoder_rt.training.finetuning import build_model

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["kitchen", "--init", "starter", "--steps", "1", "-o", str(tmp_path)])
    model = build_model(config_from_args(args))
    assert model.config == load_model().config == load_model(Path("starter")).config
    assert STARTER.is_file()


@pytest.mark.parametrize("name", ["model.plan", "model.safetensors", "model.pt"])
def test_a_plan_is_no_start_of_training_whatever_it_is_called(
    tiny_plan: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(tiny_plan, tmp_path / name)
    with pytest.raises(CheckpointError, match="is a plan, not a checkpoint") as caught:
        load_model(tmp_path / name)
    assert "starter" in str(caught.value) and "ownload" not in str(caught.value)


def test_a_folder_a_missing_file_and_a_graph_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder.*model.safetensors"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="There is no checkpoint at .*starter"):
        load_model(tmp_path / "none.safetensors")
    (tmp_path / "vision.onnx").write_bytes(b"\x08\x0a")
    with pytest.raises(CheckpointError, match="weights alone"):
        load_model(tmp_path / "vision.onnx")
