"""What a run starts from, and what of it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import original
import pytest
import torch

pytest.importorskip("scipy", reason="training needs scipy")
pytest.importorskip("cv2", reason="training needs opencv-python-headless")

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.export.costs import weights_digest
from xdecoder_rt.export.origin import find_origin
from xdecoder_rt.export.sources import STARTER, load_model
from xdecoder_rt.models import XDecoder, compact_config, save_checkpoint
from xdecoder_rt.models.checkpoint import read_tensors
from xdecoder_rt.models.published import published_name
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.finetuning import build_model, freeze, set_training_mode


def starting_from(path: Path) -> XDecoder:
    return build_model(TrainConfig((SourceSpec(Path("a")),), Path("o"), steps=1, init=path))


def test_a_run_starts_from_a_checkpoint_of_ours(
    tiny_model: Callable[..., XDecoder], tmp_path: Path
) -> None:
    model = tiny_model(answers=("yes", "no"))
    save_checkpoint(tmp_path / "m.safetensors", model)
    started = starting_from(tmp_path / "m.safetensors")
    assert started.config == model.config
    for name, value in model.state_dict().items():
        torch.testing.assert_close(started.state_dict()[name], value, rtol=2e-3, atol=1e-5)


def test_a_run_starts_from_a_published_checkpoint() -> None:
    started = starting_from(original.weights())
    tensors, _ = read_tensors(original.weights())
    for name, value in started.state_dict().items():
        assert torch.equal(value, tensors[published_name(name)].to(value.dtype)), name


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        starting_from(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no checkpoint")
    with pytest.raises(CheckpointError):
        starting_from(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    ("train_only", "beginnings"),
    [
        ("all", ("",)),
        ("decoder", ("decoder.",)),
        ("prompts", ("decoder.query_feat", "decoder.query_embed", "decoder.class_embed")),
        ("class-embedding", ("decoder.class_embed",)),
    ],
)
def test_each_form_trains_its_part(
    tiny_model: Callable[..., XDecoder], train_only: str, beginnings: tuple[str, ...]
) -> None:
    model = tiny_model()
    freeze(model, train_only)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(beginnings)}
    assert trained


@pytest.mark.parametrize("train_only", ["all", "prompts"])
def test_a_frozen_backbone_is_left_out_of_what_is_trained(
    tiny_model: Callable[..., XDecoder], train_only: str
) -> None:
    model = tiny_model()
    freeze(model, train_only)
    without = {name for name, p in model.named_parameters() if p.requires_grad}
    freeze(model, train_only, freeze_backbone=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name in without if not name.startswith("backbone.")}
    assert "backbone_proj" in trained or train_only != "all"


def test_a_frozen_text_encoder_is_left_out_of_what_is_trained_and_is_not_differentiated(
    tiny_model: Callable[..., XDecoder],
) -> None:
    model = tiny_model()
    freeze(model, "all", freeze_backbone=True, freeze_text=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    left_out = {name for name, _ in model.named_parameters()} - trained
    assert {name.partition(".")[0] for name in left_out} == {"backbone", "text_encoder"}
    assert not any(name.startswith("text_encoder.") for name in trained)
    assert not model.encode_text(torch.ones(2, 5, dtype=torch.long)).requires_grad


def test_a_frozen_backbone_keeps_weights_and_statistics_whatever_it_sees() -> None:
    model = XDecoder(compact_config())
    freeze(model, "all", freeze_backbone=True)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    # As if its statistics were to be learnt: frozen parts learn none.
    set_training_mode(model, freeze_norm=False)
    assert model.pixel_decoder.training
    images = 100 + torch.randn(2, 3, 64, 64)
    (maps,) = model.backbone(images)[3:]
    assert not maps.requires_grad
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_frozen_parts_and_batch_statistics_are_in_evaluation_mode() -> None:
    model = XDecoder(compact_config())
    set_training_mode(model, freeze_norm=False)
    assert all(module.training for module in model.modules())
    set_training_mode(model, freeze_norm=True)
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.decoder.training
    freeze(model, "decoder")
    set_training_mode(model, freeze_norm=False)
    assert model.decoder.training
    for part in (model.backbone, model.pixel_decoder, model.text_encoder):
        assert not any(module.training for module in part.modules())


def plan_of(checkpoint: Path, altered: Callable[..., Path], with_regions: bool = True) -> Path:
    """Return a plan that says it was built from a checkpoint."""
    model = load_model(checkpoint)
    if not with_regions:
        model.drop_regions()
    digest = weights_digest(model)
    return altered(lambda m: replace(m, model=replace(m.model, weights_sha256=digest)))


@pytest.mark.parametrize(
    "place", ["mine.safetensors", "mine/model.safetensors", "runs/mine/model.safetensors"]
)
def test_a_run_starts_from_what_a_plan_was_built_from(
    place: str, tiny_model: Callable[..., XDecoder], altered: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = tmp_path / place
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(checkpoint, tiny_model())
    other = tiny_model()
    next(other.parameters()).data += 1
    save_checkpoint(tmp_path / "other.safetensors", other)
    (tmp_path / "broken.safetensors").write_text("no checkpoint")
    plan = plan_of(checkpoint, altered)
    assert plan.parent == tmp_path
    assert find_origin(plan) == checkpoint
    started = starting_from(plan)
    assert weights_digest(started) == weights_digest(load_model(checkpoint))


def test_a_plan_whose_checkpoint_is_not_there_is_refused_with_the_way_out(
    tiny_model: Callable[..., XDecoder], altered: Callable[..., Path], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "model.safetensors", tiny_model())
    plan = plan_of(tmp_path / "model.safetensors", altered)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="that it was built from is not found") as caught:
        starting_from(plan)
    assert "0 files" in str(caught.value.expected)
    assert "xdecoder-rt build" in str(caught.value.fix)


@pytest.mark.parametrize("with_regions", [True, False])
def test_a_plan_of_the_starter_starts_from_the_starter(
    with_regions: bool, altered: Callable[..., Path]
) -> None:
    assert find_origin(plan_of(STARTER, altered, with_regions)) == STARTER
