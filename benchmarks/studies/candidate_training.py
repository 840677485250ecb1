"""Short trainings of candidate shapes on the same scenes, from the same trunk and words.

The backbone has ImageNet's weights and the text encoder a checkpoint's, and both stay as they are,
so what they make of a scene is computed once for all candidates. The scenes are the same too, in an
order that the seed decides, as it does the weights that a candidate begins with.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.models import ModelConfig, XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.efficientnet_lite import load_imagenet_weights
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.dataset import Batch, collate
from xdecoder_rt.training.distributed import World
from xdecoder_rt.training.sources import open_dataset
from xdecoder_rt.training.trainer import CHECKPOINT, Trainer
from xdecoder_rt.training.validation import validate
from xdecoder_rt.words.tokenizer import ClipTokenizer

CPU = torch.device("cpu")
BATCH_OF_VALIDATION = 10

Scores = dict[str, dict[str, float]]


class Recall:
    """What a frozen module made of its inputs, found by their bytes."""

    def __init__(self) -> None:
        self._made: dict[bytes, object] = {}

    def of(self, forward: Callable[[Tensor], object]) -> Callable[[Tensor], object]:
        """Return a forward method that computes nothing twice."""

        def recalled(x: Tensor) -> object:
            key = hashlib.sha256(x.contiguous().numpy().tobytes()).digest()
            if key not in self._made:
                with torch.no_grad():
                    self._made[key] = forward(x)
            return self._made[key]

        return recalled


@dataclass
class Course:
    """What all candidates learn from and are measured on.

    Attributes:
        data: the bank of pictures.
        words: checkpoint whose text encoder all of them have.
        validation: labelled folders.
        runs: folder of the runs.
        steps: optimiser steps of each.
        batch_size: images a step.
        size: side of the square images.
        limit: images of each labelled folder.
        lr: peak learning rate.
        tasks: what is trained and measured.
    """

    data: Path
    words: Path
    validation: Sequence[Path]
    runs: Path
    steps: int
    batch_size: int
    size: int
    limit: int
    lr: float
    tasks: Sequence[str]
    _batches: dict[int, tuple[Batch, int]] = field(default_factory=dict)
    _images: Recall = field(default_factory=Recall)
    _texts: Recall = field(default_factory=Recall)

    def model(self, config: ModelConfig, seed: int) -> XDecoder:
        """Return an untrained model on ImageNet's trunk, with the checkpoint's text encoder."""
        torch.manual_seed(seed)
        model = XDecoder(config)
        load_imagenet_weights(model.backbone)
        words = load_checkpoint(self.words).text_encoder.state_dict()
        model.text_encoder.load_state_dict(words)
        model.backbone.forward = self._images.of(model.backbone.forward)
        model.text_encoder.forward = self._texts.of(model.text_encoder.forward)
        return model

    def settings(self, out: Path, seed: int) -> TrainConfig:
        """Return the trainer's settings."""
        return TrainConfig(
            sources=(SourceSpec(self.data),),
            out=out,
            steps=self.steps,
            batch_size=self.batch_size,
            size=self.size,
            lr=self.lr,
            warmup_steps=self.steps // 15,
            ema_decay=0.99,
            vocabulary_size=256,
            tasks=tuple(self.tasks),
            points=320,
            matching_points=512,
            freeze_backbone=True,
            seed=seed,
            workers=0,
            threads=1,
            precision="fp32",
            validate_every=0,
            progress=False,
            resume=True,
        )

    def train(self, config: ModelConfig, name: str, seed: int) -> tuple[Path, Scores, float]:
        """Train a candidate and measure it.

        Returns:
            Its checkpoint, its measures by folder, and the processor's seconds.
        """
        began = time.process_time()
        settings = self.settings(self.runs / name, seed)
        model = self.model(config, seed)
        tokenizer = ClipTokenizer.default(model.config.context_length)
        world = World.from_environment()
        source = open_dataset(self.data)
        trainer = Trainer(settings, model, tokenizer, [source], {}, world, CPU)
        model.text_encoder.requires_grad_(False)
        order = np.random.default_rng(seed).permutation(self.steps)
        for number in order:
            batch, position = self._batch(int(number))
            record = trainer.step(trainer.maker.make(batch, position))
            trainer.progress.advance_to_step_limit(0.0, self.steps)
            trainer.metrics.append({"step": trainer.progress.step, **record})
        average = trainer.average.model
        path = settings.out / CHECKPOINT
        save_checkpoint(path, average)
        return path, self.measure(average, tokenizer), time.process_time() - began

    def measure(self, model: XDecoder, tokenizer: ClipTokenizer) -> Scores:
        """Return the trainer's measures on each labelled folder."""
        return {
            folder.name: validate(
                model,
                tokenizer,
                LabelledFolder.open(folder, verify=False),
                self.limit,
                self.size,
                BATCH_OF_VALIDATION,
                CPU,
                self.tasks,
            )
            for folder in self.validation
        }

    def _batch(self, number: int) -> tuple[Batch, int]:
        """Return the scenes of a step, the same for every candidate, and the place of the first."""
        if not self._batches:
            settings = self.settings(self.runs, 0)
            source = open_dataset(self.data)
            words = load_checkpoint(self.words)
            tokenizer = ClipTokenizer.default(words.config.context_length)
            trainer = Trainer(
                settings, words, tokenizer, [source], {}, World.from_environment(), CPU
            )
            keys = trainer.order.batches(0, self.batch_size, 0, 1)
            for step in range(self.steps):
                chosen = next(keys)
                examples = [trainer.examples[key] for key in chosen]
                self._batches[step] = collate(examples), chosen[0].position
        return self._batches[number]
