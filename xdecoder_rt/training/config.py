"""Settings of a training run; imports no framework, so that ``--help`` needs none."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdecoder_rt.errors import ArgumentError, shown
from xdecoder_rt.tasks import TASKS

PRECISIONS = ("auto", "fp32", "bf16")
SCHEDULES = ("cosine", "poly")
TRAIN_ONLY = ("all", "decoder", "prompts", "class-embedding")
MIN_SIZE = 64


@dataclass(frozen=True)
class SourceSpec:
    """One data set and its share of the samples.

    Attributes:
        path: what :func:`~xdecoder_rt.training.sources.open_source` opens: a labelled folder, a
            file of COCO, VQA or RefCOCO, or several with commas between.
        weight: relative share of the samples; two sources of weight 1 give half each, whatever
            their sizes.
    """

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> SourceSpec:
        """Read ``PATH`` or ``PATH=WEIGHT``.

        Raises:
            ArgumentError: the path is empty, or the weight is not a positive number.
        """
        path, separator, weight_text = text.rpartition("=")
        if not separator or "/" in weight_text:  # "=" inside a folder's name is no weight
            path, weight_text = text, "1"
        try:
            weight = float(weight_text)
        except ValueError:
            weight = math.nan
        if not path or not (math.isfinite(weight) and weight > 0):
            raise ArgumentError(
                f"The training source {shown(text)} cannot be read",
                expected="PATH or PATH=WEIGHT with a positive weight, for example scenes/train=2",
            )
        return cls(Path(path), weight)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the training losses; mask, dice and class as in Mask2Former and X-Decoder.

    Attributes:
        classification: cross-entropy over the batch's vocabulary and void.
        mask: binary cross-entropy on points.
        dice: dice loss on points.
        image: the class token against the names present (ours).
        grounding: phrases against the queries that find them; their masks count as others do.
        retrieval: images against captions.
        caption: cross-entropy of the next token.
        answer: cross-entropy over candidate answers.
        distillation: words against where the teacher puts them.
        void: weight of the void class inside the classification and grounding losses.
    """

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    image: float = 0.5
    grounding: float = 1.0
    retrieval: float = 0.5
    caption: float = 0.5
    answer: float = 0.5
    distillation: float = 2.0
    void: float = 0.1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run.

    Attributes:
        sources: training data sets.
        out: folder of the run: state, metrics, curves and the finished ``model.safetensors``.
        validation: held-out data sets, measured every ``validate_every`` steps.
        steps: optimiser steps; exactly one of ``steps`` and ``minutes`` is given.
        minutes: wall-clock budget, interruptions not counted; the schedule ends when it is used up.
        batch_size: images a step (a process, under torchrun).
        size: side of the square training images in pixels, a multiple of 32.
        lr: peak learning rate of AdamW.
        backbone_lr_scale: factor on it for the backbone.
        weight_decay: decoupled weight decay.
        warmup_steps: steps of linear warm-up.
        schedule: ``cosine`` or ``poly`` (power 0.9) decay to zero.
        clip_norm: largest norm of the whole gradient; 0 for none.
        ema_decay: decay of the exponential moving average of the weights.
        vocabulary_size: names a step is classified against, without void; more when the batch
            itself has more.
        tasks: names of :data:`~xdecoder_rt.tasks.TASKS` to train, where the data have them.
        train_only: the part of the model that is trained; one of `TRAIN_ONLY`.
        caption_tokens: tokens of a caption that are learnt; what follows is left out.
        answers_per_step: answers that a step's questions choose from; more when the questions
            themselves have more.
        retrieval_ensemble: whether retrieval reads the backbone too, as the original does; None
            leaves it as the model has it.
        points: points a target's mask losses are taken on.
        matching_points: points that the matching looks at.
        losses: weights of the losses.
        teacher: a teacher's words, learnt beside the tasks; None for none.
        lesson_size: words of the teacher a step.
        freeze_norm: keep the backbone's batch normalisation statistics as they were loaded.
        seed: decides data order, augmentation, vocabulary and initialisation.
        workers: data loading processes; 0 loads in the training process.
        threads: threads of the training process; 0 leaves PyTorch's choice.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` (autocast) or ``auto``.
        init: checkpoint to start from; None starts with ImageNet's backbone.
        resume: continue the run in ``out`` if it has one.
        checkpoint_minutes: minutes between saved states.
        validate_every: steps between validations; 0 for only one, at the end.
        validation_items: images of each validation set, spread over it; 0 for all.
        log_every: steps between lines of metrics.
        progress: whether to show a progress bar.
    """

    sources: tuple[SourceSpec, ...]
    out: Path
    validation: tuple[Path, ...] = ()
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    size: int = 320
    lr: float = 3e-4
    backbone_lr_scale: float = 0.1
    weight_decay: float = 0.05
    warmup_steps: int = 100
    schedule: str = "cosine"
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    vocabulary_size: int = 128
    tasks: tuple[str, ...] = tuple(TASKS)
    train_only: str = "all"
    caption_tokens: int = 28
    answers_per_step: int = 64
    retrieval_ensemble: bool | None = None
    points: int = 768
    matching_points: int = 1024
    losses: LossWeights = LossWeights()
    teacher: Path | None = None
    lesson_size: int = 256
    freeze_norm: bool = True
    seed: int = 0
    workers: int = 1
    threads: int = 0
    device: str = "auto"
    precision: str = "auto"
    init: Path | None = None
    resume: bool = False
    checkpoint_minutes: float = 10.0
    validate_every: int = 500
    validation_items: int = 64
    log_every: int = 10
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ArgumentError: naming the first wrong setting.
        """
        if not self.sources:
            raise ArgumentError("There is no training data", fix="name at least one source")
        self.held_out()
        if (self.steps is None) == (self.minutes is None):
            raise ArgumentError(
                "The length of the run is unclear", expected="exactly one of steps and minutes"
            )
        positive = {
            "batch_size": self.batch_size,
            "vocabulary_size": self.vocabulary_size,
            "caption_tokens": self.caption_tokens,
            "answers_per_step": self.answers_per_step,
            "lesson_size": self.lesson_size,
            "points": self.points,
            "matching_points": self.matching_points,
            "lr": self.lr,
            "log_every": self.log_every,
            "checkpoint_minutes": self.checkpoint_minutes,
            "steps": 1 if self.steps is None else self.steps,
            "minutes": 1.0 if self.minutes is None else self.minutes,
        }
        not_negative = {
            "backbone_lr_scale": self.backbone_lr_scale,
            "weight_decay": self.weight_decay,
            "warmup_steps": self.warmup_steps,
            "clip_norm": self.clip_norm,
            "workers": self.workers,
            "threads": self.threads,
            "validate_every": self.validate_every,
            "validation_items": self.validation_items,
            "seed": self.seed,
            **{f"losses.{k}": v for k, v in dataclasses.asdict(self.losses).items()},
        }
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise ArgumentError(f"{name} is {value}", expected="a positive number")
        for name, value in not_negative.items():
            if not (math.isfinite(value) and value >= 0):
                raise ArgumentError(f"{name} is {value}", expected="zero or more")
        if self.size < MIN_SIZE or self.size % 32:
            raise ArgumentError(
                f"The training size is {self.size}",
                expected=f"a multiple of 32, at least {MIN_SIZE}",
            )
        if not 0 <= self.ema_decay < 1:
            raise ArgumentError(f"ema_decay is {self.ema_decay}", expected="0 or more, below 1")
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise ArgumentError(
                f"tasks is {shown(list(self.tasks))}", expected=f"some of {', '.join(TASKS)}"
            )
        if self.train_only == "class-embedding" and set(self.tasks) == {"caption"}:
            raise ArgumentError(
                "Captions do not depend on the class embedding, so nothing would be trained",
                fix="train more, for example with --train-only prompts",
            )
        for name, choice, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("schedule", self.schedule, SCHEDULES),
            ("train_only", self.train_only, TRAIN_ONLY),
        ):
            if choice not in allowed:
                raise ArgumentError(
                    f"{name} is {shown(choice)}", expected=f"one of {', '.join(allowed)}"
                )

    def held_out(self) -> dict[str, Path]:
        """The validation data by the names under which they are measured.

        A name is the last part of the path, with as many parts before it as tell it from the
        others': ``refcoco/refs(unc).p#val`` beside ``refcoco+/refs(unc).p#val``.

        Raises:
            ArgumentError: one is given twice.
        """
        names = {}
        for path in self.validation:
            if self.validation.count(path) > 1:
                raise ArgumentError(f"The validation data {shown(str(path))} are named twice")
            ending = path.parts
            for count in range(1, len(path.parts)):
                same = [p for p in self.validation if p.parts[-count:] == path.parts[-count:]]
                if len(same) == 1:
                    ending = path.parts[-count:]
                    break
            names[str(Path(*ending))] = path
        return names

    def to_json(self) -> str:
        """The settings as one JSON object, paths as texts."""
        return json.dumps(dataclasses.asdict(self), default=str)

    def recipe(self) -> dict[str, Any]:
        """The settings that say how the weights were made: no paths, nothing of the machine."""
        recipe = dataclasses.asdict(self)
        for name in ("sources", "validation", "out", "resume", "workers", "threads", "progress"):
            del recipe[name]
        recipe["init"] = self.init.name if self.init else None
        recipe["teacher"] = self.teacher.name if self.teacher else None
        return recipe
