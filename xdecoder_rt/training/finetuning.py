"""The start of a run and the part that is trained: all, or cheap forms (section 4)."""

from __future__ import annotations

from torch import nn

from xdecoder_rt.export.origin import find_origin
from xdecoder_rt.export.sources import is_plan, load_model
from xdecoder_rt.models import XDecoder, compact_config
from xdecoder_rt.models.efficientnet_lite import load_imagenet_weights
from xdecoder_rt.training.config import TrainConfig

# Beginnings of the names of what each form trains.
_TRAINED: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "decoder": ("decoder.",),
    "prompts": ("decoder.query_feat", "decoder.query_embed", "decoder.class_embed"),
    "class-embedding": ("decoder.class_embed",),
}


def build_model(config: TrainConfig) -> XDecoder:
    """Build the model to train: a checkpoint, or a compact one on ImageNet's backbone.

    Of a plan it is the checkpoint that the plan was built from.

    Raises:
        PlanError: the plan to start from is not sound.
        CheckpointError: the checkpoint is missing or broken, or neither ours nor a published one,
            or that of a plan is not found.
    """
    if config.init is not None:
        return load_model(find_origin(config.init) if is_plan(config.init) else config.init)
    model = XDecoder(compact_config())
    load_imagenet_weights(model.backbone)
    return model


def freeze(
    model: XDecoder, train_only: str, freeze_backbone: bool = False, freeze_text: bool = False
) -> None:
    """Take all but one part of a model out of training.

    Args:
        model: what to fine-tune.
        train_only: one of :data:`~xdecoder_rt.training.config.TRAIN_ONLY`.
        freeze_backbone: whether the backbone is left out of that part.
        freeze_text: whether the text encoder is.
    """
    # The classifier of regions is made of the frozen trunk's, not trained.
    left_out: tuple[str, ...] = ("region.",)
    left_out += ("backbone.",) if freeze_backbone else ()
    left_out += ("text_encoder.",) if freeze_text else ()
    for name, parameter in model.named_parameters():
        is_trained = name.startswith(_TRAINED[train_only]) and not name.startswith(left_out)
        parameter.requires_grad_(is_trained)


def set_training_mode(model: XDecoder, freeze_norm: bool) -> None:
    """Training mode, but evaluation mode for what is frozen.

    Statistics of a few images are worse than those the backbone was trained with, and normalising
    with fixed ones is faster.

    Args:
        model: the model in training.
        freeze_norm: whether the backbone's batch statistics are left alone.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
    if freeze_norm:
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
