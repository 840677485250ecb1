"""The training loop: from a :class:`~xdecoder_rt.training.config.TrainConfig` to a checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from xdecoder_rt.atomic import make_folder
from xdecoder_rt.cores import cores_if_limited
from xdecoder_rt.datasets.items import PanopticDataset
from xdecoder_rt.errors import ArgumentError, CheckpointError, XDecoderError
from xdecoder_rt.json_reader import Rule, read_object
from xdecoder_rt.models import XDecoder, save_checkpoint
from xdecoder_rt.training.allocator import keep_freed_memory
from xdecoder_rt.training.answers import AnswerSampler, frequent_answers
from xdecoder_rt.training.config import TrainConfig
from xdecoder_rt.training.curves import draw_curves
from xdecoder_rt.training.dataset import TrainingSet
from xdecoder_rt.training.distillation.lesson import LessonWriter
from xdecoder_rt.training.distillation.teacher import Teacher, check_width
from xdecoder_rt.training.distributed import World, any_process, from_main_process
from xdecoder_rt.training.ema import WeightAverage
from xdecoder_rt.training.finetuning import build_model, freeze, set_training_mode
from xdecoder_rt.training.interruption import StopSignals
from xdecoder_rt.training.loader import load_steps
from xdecoder_rt.training.losses import candidate_points
from xdecoder_rt.training.metrics import VALIDATION, MetricsLog, Record, is_validation
from xdecoder_rt.training.objective import Objective, ObjectiveSettings
from xdecoder_rt.training.sampler import SampleOrder
from xdecoder_rt.training.schedule import TrainingProgress, rate_factor
from xdecoder_rt.training.sources import open_dataset
from xdecoder_rt.training.state import load_state, save_state
from xdecoder_rt.training.step import Step, StepMaker
from xdecoder_rt.training.step_text import StepWriter
from xdecoder_rt.training.validation import validate
from xdecoder_rt.training.vocabulary import Tokenizer, VocabularySampler, trained_distractors
from xdecoder_rt.words.templates import TEMPLATES
from xdecoder_rt.words.tokenizer import ClipTokenizer

STATE = "state.safetensors"
CHECKPOINT = "model.safetensors"
METRICS = "metrics.jsonl"
CURVES = "curves.png"


@dataclass(frozen=True)
class _Run:
    """What is saved of a run beside its tensors."""

    progress: TrainingProgress
    position: Annotated[int, Rule(low=0)]
    config: Mapping[str, Annotated[Any, Rule(unread=True)]]


def train(config: TrainConfig) -> Path:
    """Train a model.

    Under ``torchrun`` every process calls this; the first writes. SIGTERM and SIGINT end the run
    after the current step, with its state saved.

    Args:
        config: settings.

    Returns:
        The checkpoint of the averaged weights, ``model.safetensors`` in ``config.out``.

    Raises:
        ArgumentError: the settings do not fit together, or ``out`` holds a run and ``resume`` is
            not set.
        CheckpointError: the checkpoint to start from, or the state to resume, is unusable.
        DatasetError: a data set is missing or broken.
        XDecoderError: the loss is no longer finite.
    """
    _check_folder(config)
    keep_freed_memory()
    threads = config.threads or cores_if_limited()
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    world = World.from_environment()
    device = world.device(config.device)
    sources = [open_dataset(source.path) for source in config.sources]
    held_out = {name: open_dataset(path) for name, path in config.held_out().items()}
    model = build_model(config)
    world.join(device)
    try:
        tokenizer = ClipTokenizer.default(model.config.context_length)
        return Trainer(config, model, tokenizer, sources, held_out, world, device).run()
    finally:
        world.leave()


def _check_folder(config: TrainConfig) -> None:
    """Refuse a folder with a run that is not to be resumed, before data and weights are read."""
    if (config.out / STATE).exists() and not config.resume:
        raise ArgumentError(
            f"{config.out} already holds a run",
            fix="resume it with --resume, or choose another folder",
        )


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether the network runs in bfloat16; ``auto`` does on GPUs that know it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


class Trainer:
    """One run.

    Args:
        config: settings.
        model: the network to train.
        tokenizer: texts to token ids of the model's context length.
        sources: training data, in the order of ``config.sources``.
        held_out: validation data by name.
        world: the processes of the run.
        device: where to train.

    Attributes:
        progress: how far the run has come.
        position: samples used so far, by all processes.

    Raises:
        ArgumentError: ``config.out`` holds a run and ``config.resume`` is not set, or it cannot
            be written.
        CheckpointError: the state to resume is unusable.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: XDecoder,
        tokenizer: Tokenizer,
        sources: Sequence[PanopticDataset],
        held_out: Mapping[str, PanopticDataset],
        world: World,
        device: torch.device,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.held_out = held_out
        self.world = world
        self.device = device
        self.model = model.to(device)
        freeze(model, config.train_only, config.freeze_backbone, config.freeze_text)
        model.drop_curves()
        answers = frequent_answers(sources) if "answer" in config.tasks else ()
        model.config = replace(
            model.config,
            answers=answers or model.config.answers,
            distractors=trained_distractors(
                model.config, [source.vocabulary for source in sources], config.tasks
            ),
            retrieval_ensemble=(
                model.config.retrieval_ensemble
                if config.retrieval_ensemble is None
                else config.retrieval_ensemble
            ),
        )
        if device.type == "cuda":
            # Images are channels-last everywhere; weights pay for it on a CPU (measured, 5 %).
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.model, config.ema_decay)
        settings = ObjectiveSettings(
            losses=config.losses,
            points=config.points,
            matching_points=config.matching_points,
            bf16=uses_bf16(config.precision, device),
        )
        self.objective: nn.Module = Objective(self.model, settings)
        if world.size > 1:
            # A batch without targets, or a task not in it, leaves parameters unused.
            self.objective = DistributedDataParallel(self.objective, find_unused_parameters=True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameter_groups(config.lr, config.backbone_lr_scale, config.weight_decay),
            lr=config.lr,
            fused=True,
        )
        self._peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.order = SampleOrder(
            [len(source.items) for source in sources],
            [spec.weight for spec in config.sources],
            config.seed,
        )
        self.examples = TrainingSet(
            sources, config.size, candidate_points(config.points), config.seed, config.tasks
        )
        vocabulary = VocabularySampler(
            [source.vocabulary for source in sources],
            config.vocabulary_size,
            config.seed,
            TEMPLATES[model.config.templates],
        )
        candidates = AnswerSampler(model.config.answers, config.answers_per_step, config.seed)
        writer = StepWriter(
            tokenizer, model.config.num_queries, config.tasks, config.caption_tokens
        )
        lessons = None
        if config.teacher is not None:
            teacher = Teacher.load(config.teacher)
            check_width(teacher, model.config.proj_dim)
            lessons = LessonWriter(teacher, tokenizer, config.lesson_size, config.seed)
        self.maker = StepMaker(vocabulary, candidates, writer, lessons)
        self.progress = TrainingProgress()
        self.position = 0
        self._prepare_folder()
        self.metrics = MetricsLog(config.out / METRICS, self.progress.step, world.is_main)
        self._recent: list[dict[str, float]] = []
        self._validation_seconds = 0.0

    def run(self) -> Path:
        """Train to the end of the schedule, or until asked to stop; see :func:`train`."""
        config, progress = self.config, self.progress
        keys = self.order.batches(
            self.position, config.batch_size, self.world.rank, self.world.size
        )
        pin = self.device.type == "cuda"
        steps = load_steps(self.examples, self.maker, keys, config.workers, pin)
        stopped, clock = False, time.monotonic()
        last_saved = clock
        with StopSignals() as signals, closing(steps), self._bar() as bar:
            while not (progress.finished or stopped):
                step = next(steps)
                waited = time.monotonic() - clock
                record = self.step(step)
                if config.validate_every and (progress.step + 1) % config.validate_every == 0:
                    self._validate(progress.step + 1)
                    self._draw()
                now = time.monotonic()
                seconds = from_main_process(now - clock, self.device)
                clock = now
                self._advance(seconds)
                self._log({**record, "step_seconds": seconds, "data_seconds": waited}, bar)
                stopped = any_process(signals.received is not None, self.device)
                if now - last_saved > 60 * config.checkpoint_minutes:
                    self._save()
                    last_saved = now
            # First, so that held-out data that cannot be read cost no steps.
            self._save()
            if not stopped:
                self._validate(progress.step)
                self._draw()
        if stopped and self.world.is_main:
            tqdm.write(f"Stopped after step {progress.step}; --resume goes on from there.")
        return self._export()

    def step(self, step: Step) -> dict[str, float]:
        """Take one optimiser step.

        Args:
            step: its data, on the CPU.

        Returns:
            The losses, each its layers' mean, the gradient's norm before clipping, and the rate.

        Raises:
            XDecoderError: the loss or its gradient is not finite; the weights are unchanged.
        """
        number = self.progress.step
        factor = rate_factor(self.progress, self.config.warmup_steps, self.config.schedule)
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * factor
        set_training_mode(self.model, self.config.freeze_norm)
        losses: dict[str, Tensor] = self.objective(step.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.clip_norm or float("inf")
        )
        # One copy to the CPU for all of them.
        values = torch.stack([*(value.detach() for value in losses.values()), norm]).tolist()
        record = dict(zip([*losses, "gradient_norm"], values, strict=True))
        if not all(map(math.isfinite, values)):
            raise XDecoderError(
                f"Training diverged at step {number}: {record}",
                expected="finite losses and gradients",
                fix="resume with a lower learning rate",
            )
        self.optimizer.step()
        self.average.update(self.model, number + 1)
        self.position += self.config.batch_size * self.world.size
        return {**record, "lr": self.config.lr * factor}

    def _advance(self, seconds: float) -> None:
        if self.config.minutes is not None:
            budget = 60 * self.config.minutes
            reserve = from_main_process(self._validation_seconds, self.device)
            self.progress.advance_to_time_limit(seconds, budget, reserve)
        elif self.config.steps is not None:
            self.progress.advance_to_step_limit(seconds, self.config.steps)

    def _prepare_folder(self) -> None:
        """Make the run's folder, or restore the run that is in it."""
        _check_folder(self.config)
        try:
            make_folder(self.config.out)
        except OSError as error:
            raise ArgumentError(
                f"{self.config.out} cannot be made ({error.strerror})",
                fix="choose a folder that can be written",
            ) from error
        state = self.config.out / STATE
        if state.exists():
            self._restore(state)

    def _restore(self, path: Path) -> None:
        saved = load_state(path, self.model, self.average.model, self.optimizer)
        run = read_object(saved, _Run, f"The header of {path}", CheckpointError)
        self.progress, self.position, before = run.progress, run.position, run.config
        now = json.loads(self.config.to_json())
        # Another length stretches or shrinks the schedule around where the run is.
        if self.config.steps is not None:
            self.progress.fraction = min(1.0, self.progress.step / self.config.steps)
        elif self.config.minutes is not None and before.get("minutes") != self.config.minutes:
            self.progress.fraction = min(1.0, self.progress.seconds / (60 * self.config.minutes))
        if self.world.is_main and self.config.progress:
            for name in sorted(now.keys() - {"resume"}):
                if before.get(name) != now[name]:
                    tqdm.write(
                        f"Changed since the run began: {name} is {now[name]}, "
                        f"was {before.get(name)}"
                    )

    def _bar(self) -> tqdm[Any]:
        return tqdm(
            initial=self.progress.step,
            total=self.config.steps,
            unit="step",
            disable=not (self.config.progress and self.world.is_main),
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def _log(self, record: dict[str, float], bar: tqdm[Any]) -> None:
        """Show a step, and write the mean of the last few."""
        self._recent.append(record)
        if self.config.minutes is not None:
            bar.total = self.progress.step + self.progress.steps_left(60 * self.config.minutes)
        bar.update()
        step = self.progress.step
        if step % self.config.log_every == 0 or self.progress.finished:
            means = {k: sum(r[k] for r in self._recent) / len(self._recent) for k in record}
            self._recent.clear()
            self.metrics.append({"step": step, "seconds": self.progress.seconds, **means})
            bar.set_postfix({k: f"{means[k]:.3g}" for k in ("total", "lr")})

    def _validate(self, step: int) -> None:
        """Measure the averaged weights, unless that was done after this very step."""
        if not (self.world.is_main and self.held_out):
            return
        if any(r["step"] == step and is_validation(r) for r in self.metrics.records[-2:]):
            return
        began = time.monotonic()
        record: Record = {"step": step}
        for name, dataset in self.held_out.items():
            scores = validate(
                self.average.model,
                self.tokenizer,
                dataset,
                self.config.validation_items,
                self.config.size,
                self.config.batch_size,
                self.device,
                self.config.tasks,
            )
            record.update({f"{VALIDATION}{name}/{key}": value for key, value in scores.items()})
        self._validation_seconds = time.monotonic() - began
        self.metrics.append(record)
        if self.config.progress:
            summary = ", ".join(
                f"{k.removeprefix(VALIDATION)} {v:.3f}" for k, v in record.items() if k != "step"
            )
            tqdm.write(f"step {step}: {summary}")

    def _save(self) -> None:
        """Write the state of the run."""
        if self.world.is_main:
            run = {
                "progress": asdict(self.progress),
                "position": self.position,
                "config": json.loads(self.config.to_json()),
            }
            save_state(self.config.out / STATE, self.model, self.average.model, self.optimizer, run)
        self._draw()

    def _draw(self) -> None:
        if self.world.is_main:
            draw_curves(self.metrics.records, self.config.out / CURVES)

    def _export(self) -> Path:
        """Write the averaged weights, and in their header how they were made."""
        path = self.config.out / CHECKPOINT
        if self.world.is_main:
            measured = [r for r in self.metrics.records if is_validation(r)]
            card = {
                "steps": self.progress.step,
                "images": self.position,
                "minutes": round(self.progress.seconds / 60, 2),
                "finished": self.progress.finished,
                "sources": [
                    {
                        "name": spec.path.name,
                        "items": len(source.items),
                        "names": len(source.vocabulary),
                        "weight": spec.weight,
                    }
                    for spec, source in zip(self.config.sources, self.examples.sources, strict=True)
                ],
                "config": self.config.recipe(),
                "validation": measured[-1] if measured else {},
                "torch": torch.__version__,
            }
            save_checkpoint(path, self.average.model, {"training": json.dumps(card)})
        return path
