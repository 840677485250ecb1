"""Trains a text encoder on a teacher's words alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import nn

from xdecoder_rt.errors import ArgumentError, CheckpointError, require
from xdecoder_rt.export.sources import load_model
from xdecoder_rt.models import XDecoder, compact_config, save_checkpoint
from xdecoder_rt.models.efficientnet_lite import load_imagenet_weights
from xdecoder_rt.training.distillation.lesson import LessonWriter, distillation_loss
from xdecoder_rt.training.distillation.teacher import Teacher, check_width
from xdecoder_rt.words.tokenizer import ClipTokenizer

_WARM_UP = 50
_RECENT = 0.05


def teach(
    teacher: Path,
    out: Path,
    init: Path | None,
    steps: int,
    lesson_size: int,
    lr: float,
    seed: int,
    progress: bool = True,
) -> float:
    """Teach, and write the checkpoint.

    Args:
        teacher: the file of its words.
        out: the checkpoint to write.
        init: checkpoint to start from, as `train` takes it; None starts with ImageNet's backbone.
        steps: how many.
        lesson_size: words a step.
        lr: peak rate of AdamW, which falls to zero as a cosine.
        seed: decides the words and a new model's start.
        progress: whether to show a progress bar.

    Returns:
        The loss, averaged over the last steps.

    Raises:
        ArgumentError: a number is out of range, or the teacher does not fit the model.
        DatasetError: the teacher's file cannot be read.
        CheckpointError: the checkpoint cannot be read or written.
    """
    if steps < 1 or lesson_size < 2 or not lr > 0:
        raise ArgumentError(
            f"{steps} steps of {lesson_size} words at a rate of {lr}",
            expected="at least one step, two words and a positive rate",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error.strerror or error}") from error
    torch.manual_seed(seed)
    loaded_teacher = Teacher.load(teacher)
    if init is None:
        model = XDecoder(compact_config())
        load_imagenet_weights(model.backbone)
    else:
        model = load_model(init)
    check_width(loaded_teacher, model.config.proj_dim)
    lessons = LessonWriter(
        loaded_teacher, ClipTokenizer.default(model.config.context_length), lesson_size, seed
    )
    model.train()
    parameters = list(model.text_encoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, fused=True)
    recent = math.inf
    bar = require("tqdm", "train").trange(
        steps, unit="step", dynamic_ncols=True, disable=not progress
    )
    for step in bar:
        warm = min(1.0, (step + 1) / _WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = lr * warm * (1 + math.cos(math.pi * step / steps)) / 2
        lesson = lessons.write(step)
        loss = distillation_loss(model.encode_text(lesson.token_ids), lesson.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        value = loss.item()
        recent = value if math.isinf(recent) else recent + _RECENT * (value - recent)
        bar.set_postfix(loss=f"{recent:.3f}")
    card = {
        "teacher": teacher.name,
        "texts": len(loaded_teacher.texts),
        "init": init.name if init else None,
        "steps": steps,
        "lesson_size": lesson_size,
        "lr": lr,
        "seed": seed,
        "loss": recent,
    }
    try:
        save_checkpoint(out, model.eval(), {"teaching": json.dumps(card)})
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error.strerror or error}") from error
    return recent
