"""Settings of a training run; imports no framework, so that ``--help`` needs none."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.json_reader import Rule, check_fields
from xdecoder_rt.tasks import TASKS

TRAINING_PRECISIONS = ("auto", "fp32", "bf16")
SCHEDULES = ("cosine", "poly")
TRAIN_ONLY = ("all", "decoder", "prompts", "class-embedding")
MIN_SIZE = 64

PositiveCount: TypeAlias = Annotated[int, Rule(low=1)]
CountOrZero: TypeAlias = Annotated[int, Rule(low=0)]
Positive: TypeAlias = Annotated[float, Rule(above=0)]
NotNegative: TypeAlias = Annotated[float, Rule(low=0)]


@dataclass(frozen=True)
class SourceSpec:
    """One data set and its share of the samples.

    Attributes:
        path: what :func:`~xdecoder_rt.training.sources.open_dataset` opens: a labelled folder, a
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
                f"The training source {quoted(text)} cannot be read",
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

    classification: NotNegative = 2.0
    mask: NotNegative = 5.0
    dice: NotNegative = 5.0
    image: NotNegative = 0.5
    grounding: NotNegative = 1.0
    retrieval: NotNegative = 0.5
    caption: NotNegative = 0.5
    answer: NotNegative = 0.5
    distillation: NotNegative = 2.0
    void: NotNegative = 0.1


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
        warmup_steps: steps of linear warm-up; a tenth of the run where that is less.
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
        freeze_backbone: keep all of the backbone as it was loaded, its statistics too; nothing is
            differentiated there, so that a step costs less.
        freeze_text: keep the text encoder as it was loaded: images are taught where words lie, and
            words stay where a sentence encoder put them. A step costs half as much.
        seed: decides data order, augmentation, vocabulary and initialisation.
        workers: data loading processes; 0 loads in the training process.
        threads: threads of the training process; 0 leaves PyTorch's choice, within
            affinity and quota.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` (autocast) or ``auto``.
        init: checkpoint to start from, ``starter`` for the one that comes with this package, or a
            plan, for the one that it was built from; None starts with ImageNet's backbone.
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
    steps: PositiveCount | None = None
    minutes: Positive | None = None
    batch_size: PositiveCount = 8
    size: Annotated[int, Rule(low=MIN_SIZE)] = 320
    lr: Positive = 3e-4
    backbone_lr_scale: NotNegative = 0.1
    weight_decay: NotNegative = 0.05
    warmup_steps: CountOrZero = 100
    schedule: Annotated[str, Rule(one_of=SCHEDULES)] = "cosine"
    clip_norm: NotNegative = 1.0
    ema_decay: Annotated[float, Rule(low=0, below=1)] = 0.999
    vocabulary_size: PositiveCount = 128
    tasks: tuple[str, ...] = tuple(TASKS)
    train_only: Annotated[str, Rule(one_of=TRAIN_ONLY)] = "all"
    caption_tokens: PositiveCount = 28
    answers_per_step: PositiveCount = 64
    retrieval_ensemble: bool | None = None
    points: PositiveCount = 768
    matching_points: PositiveCount = 1024
    losses: LossWeights = LossWeights()
    teacher: Path | None = None
    lesson_size: PositiveCount = 256
    freeze_norm: bool = True
    freeze_backbone: bool = False
    freeze_text: bool = False
    seed: CountOrZero = 0
    workers: CountOrZero = 1
    threads: CountOrZero = 0
    device: str = "auto"
    precision: Annotated[str, Rule(one_of=TRAINING_PRECISIONS)] = "auto"
    init: Path | None = None
    resume: bool = False
    checkpoint_minutes: Positive = 10.0
    validate_every: CountOrZero = 500
    validation_items: CountOrZero = 64
    log_every: PositiveCount = 10
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
        check_fields(self, ArgumentError)
        check_fields(self.losses, ArgumentError, "losses.")
        if self.size % 32:
            raise ArgumentError(
                f"The training size is {self.size}",
                expected=f"a multiple of 32, at least {MIN_SIZE}",
            )
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise ArgumentError(
                f"tasks is {quoted(list(self.tasks))}", expected=f"some of {', '.join(TASKS)}"
            )
        if self.freeze_text and self.teacher is not None:
            raise ArgumentError(
                "A teacher of words was given for a text encoder that is frozen",
                expected="one of teacher and freeze_text",
            )
        if self.train_only == "class-embedding" and set(self.tasks) == {"caption"}:
            raise ArgumentError(
                "Captions do not depend on the class embedding, so nothing would be trained",
                fix="train more, for example with --train-only prompts",
            )

    def held_out(self) -> dict[str, Path]:
        """Return the validation data by the names under which they are measured.

        A name is the last part of the path, with as many parts before it as tell it from the
        others': ``refcoco/refs(unc).p#val`` beside ``refcoco+/refs(unc).p#val``.

        Raises:
            ArgumentError: one is given twice.
        """
        names = {}
        for path in self.validation:
            if self.validation.count(path) > 1:
                raise ArgumentError(f"The validation data {quoted(str(path))} are named twice")
            ending = path.parts
            for count in range(1, len(path.parts)):
                namesakes = [p for p in self.validation if p.parts[-count:] == path.parts[-count:]]
                if len(namesakes) == 1:
                    ending = path.parts[-count:]
                    break
            names[str(Path(*ending))] = path
        return names

    def to_json(self) -> str:
        """Return the settings as one JSON object, paths as texts."""
        return json.dumps(dataclasses.asdict(self), default=str)

    def recipe(self) -> dict[str, Any]:
        """Return the settings that the weights depend on: no paths, nothing of the machine."""
        recipe = dataclasses.asdict(self)
        for name in ("sources", "validation", "out", "resume", "workers", "threads", "progress"):
            del recipe[name]
        recipe["init"] = self.init.name if self.init else None
        recipe["teacher"] = self.teacher.name if self.teacher else None
        return recipe
