"""Runs: resuming, stopping, time, and what is written."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("scipy", reason="training needs scipy")
pytest.importorskip("cv2", reason="training needs opencv-python-headless")
pytest.importorskip("matplotlib", reason="training needs matplotlib")
pytest.importorskip("tqdm", reason="training needs tqdm")

from xdecoder_rt.errors import ArgumentError, CheckpointError, DatasetError, XDecoderError
from xdecoder_rt.masks.score_curve import ScoreCurve
from xdecoder_rt.models import XDecoder, load_checkpoint
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.distillation.teacher import Teacher
from xdecoder_rt.training.distributed import World
from xdecoder_rt.training.loader import load_steps
from xdecoder_rt.training.metrics import (
    LOSSES,
    SEGMENTATION_LOSSES,
    is_validation,
    read_metrics,
)
from xdecoder_rt.training.sources import open_dataset
from xdecoder_rt.training.step import Step
from xdecoder_rt.training.trainer import CHECKPOINT, CURVES, METRICS, STATE, Trainer, train

Make = Callable[..., Trainer]
CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        sources=(SourceSpec(tiny_folder),),
        out=tmp_path / "run",
        validation=(tiny_folder,),
        steps=6,
        batch_size=2,
        size=64,
        lr=1e-2,
        warmup_steps=2,
        points=32,
        matching_points=64,
        vocabulary_size=5,
        workers=0,
        validate_every=0,
        validation_items=2,
        log_every=1,
        progress=False,
    )


@pytest.fixture
def make(
    config: TrainConfig,
    tiny_model: Callable[..., XDecoder],
    tiny_tokenizer: Callable[[Sequence[str]], NDArray[np.int64]],
) -> Make:
    def build(model: XDecoder | None = None, **changes: Any) -> Trainer:
        changed = dataclasses.replace(config, **changes)
        model = model or tiny_model(seed=changed.seed)
        sources = [open_dataset(source.path) for source in changed.sources]
        held_out = {name: open_dataset(path) for name, path in changed.held_out().items()}
        return Trainer(changed, model, tiny_tokenizer, sources, held_out, World(), CPU)

    return build


def stop_after(trainer: Trainer, steps: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Let the operating system ask the run to stop during a step."""
    step = trainer.step

    def stepping(data: Step) -> dict[str, float]:
        if trainer.progress.step == steps - 1:
            os.kill(os.getpid(), number)
        return step(data)

    trainer.step = stepping  # type: ignore[method-assign]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        **trainer.model.state_dict(),
        **{f"average/{k}": v for k, v in trainer.average.model.state_dict().items()},
    }


def same(a: Trainer, b: Trainer) -> bool:
    theirs = weights(b)
    return all(torch.equal(value, theirs[name]) for name, value in weights(a).items())


def test_a_run_leaves_a_checkpoint_a_state_metrics_and_curves(make: Make) -> None:
    trainer = make(validate_every=3)
    path = trainer.run()
    out = trainer.config.out
    assert path == out / CHECKPOINT
    assert {p.name for p in out.iterdir()} == {CHECKPOINT, STATE, METRICS, CURVES}
    records = read_metrics(out / METRICS)
    assert [r["step"] for r in records if not is_validation(r)] == [1, 2, 3, 4, 5, 6]
    assert [r["step"] for r in records if is_validation(r)] == [3, 6]
    assert 0 < records[-1]["lr"] < 1e-2
    assert (out / CURVES).read_bytes().startswith(b"\x89PNG")


def test_the_checkpoint_says_how_it_was_made(make: Make) -> None:
    from safetensors import safe_open

    path = make(steps=2).run()
    with safe_open(str(path), framework="pt") as file:
        card = json.loads(file.metadata()["training"])
    assert (card["steps"], card["images"], card["finished"]) == (2, 4, True)
    assert card["sources"] == [{"name": "boxes", "items": 6, "names": 5, "weight": 1.0}]
    assert card["config"]["lr"] == 1e-2
    assert set(card["validation"]) > {"validation/boxes/miou", "validation/boxes/p_at_50"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(
    make: Make, tmp_path: Path, number: signal.Signals
) -> None:
    whole = make(out=tmp_path / "whole")
    whole.run()
    first = make()
    stop_after(first, 3, number)
    first.run()
    assert first.progress.step == 3
    second = make(resume=True)
    assert same(first, second)
    second.run()
    assert second.progress.step == 6
    assert same(second, whole)
    steps = [r for r in read_metrics(second.config.out / METRICS) if not is_validation(r)]
    expected = [r for r in read_metrics(whole.config.out / METRICS) if not is_validation(r)]
    assert [r["total"] for r in steps] == [r["total"] for r in expected]


def test_workers_do_not_change_a_run(make: Make, tmp_path: Path) -> None:
    alone = make(out=tmp_path / "a")
    alone.run()
    helped = make(out=tmp_path / "b", workers=2)
    helped.run()
    assert same(alone, helped)


def test_a_teacher_changes_what_words_come_to_mean(
    make: Make, tmp_path: Path, tiny_teacher: Path
) -> None:
    alone, taught = make(out=tmp_path / "a"), make(out=tmp_path / "b", teacher=tiny_teacher)
    alone.run()
    path = taught.run()
    assert not same(alone, taught)
    assert all(r["distillation"] > 0 for r in read_metrics(path.parent / METRICS)[:6])
    assert '"teacher": "teacher.npz"' in (path.read_bytes()[:20_000]).decode("latin-1").replace(
        "\\", ""
    )


def test_a_teacher_of_another_width_is_refused(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "wide.npz"
    Teacher(("cup",), np.ones((1, 24), np.int8)).save(path)
    with pytest.raises(ArgumentError, match="length 24"):
        make(teacher=path)


def test_another_seed_is_another_run(make: Make, tmp_path: Path) -> None:
    one, other = make(out=tmp_path / "a", steps=2), make(out=tmp_path / "b", steps=2, seed=1)
    one.run()
    other.run()
    assert not same(one, other)


def test_signals_are_handled_as_before_after_a_run(make: Make) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    make(steps=1).run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_folder_with_a_run_is_not_overwritten_by_accident(make: Make) -> None:
    make(steps=1).run()
    with pytest.raises(ArgumentError, match="already holds a run"):
        make()


def test_a_folder_with_a_run_is_refused_before_anything_is_read(config: TrainConfig) -> None:
    config.out.mkdir()
    (config.out / STATE).touch()
    missing = dataclasses.replace(config, sources=(SourceSpec(config.out / "nowhere"),))
    with pytest.raises(ArgumentError, match="already holds a run"):
        train(missing)


def test_resuming_a_finished_run_changes_nothing(make: Make) -> None:
    first = make(steps=2)
    first.run()
    again = make(steps=2, resume=True)
    again.run()
    assert again.progress.step == 2
    assert same(first, again)


def test_a_run_can_be_lengthened(make: Make) -> None:
    make(steps=2).run()
    longer = make(steps=4, resume=True)
    assert longer.progress.fraction == 0.5
    longer.run()
    assert longer.progress.step == 4


class Clock:
    """A clock on which only steps take time: two seconds each."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def attach(self, trainer: Trainer) -> None:
        step = trainer.step

        def stepping(data: Step) -> dict[str, float]:
            self.now += 2.0
            return step(data)

        trainer.step = stepping  # type: ignore[method-assign]


def test_a_time_budget_is_kept_over_interruptions(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("xdecoder_rt.training.trainer.time", clock)
    first = make(steps=None, minutes=0.5)
    clock.attach(first)
    stop_after(first, 4)
    first.run()
    assert first.progress.seconds == 8
    clock.now += 3600  # an hour between the two
    second = make(steps=None, minutes=0.5, resume=True)
    clock.attach(second)
    second.run()
    assert second.progress.finished
    assert second.progress.seconds == 30
    assert second.progress.step == 15
    rates = [r["lr"] for r in read_metrics(second.config.out / METRICS) if "lr" in r]
    assert len(rates) == 15
    assert rates[-1] < 0.05 * max(rates)


def test_a_damaged_state_is_refused(make: Make) -> None:
    trainer = make(steps=1)
    trainer.run()
    state = trainer.config.out / STATE
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        make(resume=True)


def test_a_missing_image_is_named_even_from_a_worker(make: Make, tiny_folder: Path) -> None:
    trainer = make(workers=1)
    item = trainer.examples.sources[0].items[2]
    hidden = item.image.with_suffix(".hidden")
    item.image.rename(hidden)
    try:
        with pytest.raises(DatasetError, match=item.image.name) as caught:
            trainer.run()
        assert "Traceback" not in str(caught.value)
    finally:
        hidden.rename(item.image)


def test_held_out_data_that_cannot_be_read_cost_no_steps(make: Make) -> None:
    trainer = make()
    item = trainer.held_out["boxes"].items[0]
    hidden = item.image.with_suffix(".hidden")
    validating = trainer._validate

    def validate_without_the_image(step: int) -> None:
        item.image.rename(hidden)
        try:
            validating(step)
        finally:
            hidden.rename(item.image)

    trainer._validate = validate_without_the_image  # type: ignore[method-assign]
    with pytest.raises(DatasetError, match=item.image.name):
        trainer.run()
    resumed = make(resume=True)
    assert resumed.progress.step == 6
    assert same(resumed, trainer)
    assert is_validation(read_metrics(resumed.run().parent / METRICS)[-1])


def test_names_come_in_the_sentences_of_the_model(
    make: Make, tmp_path: Path, tiny_model: Callable[..., XDecoder]
) -> None:
    model = tiny_model()
    model.config = dataclasses.replace(model.config, templates="published")
    compact, published = make(), make(model, out=tmp_path / "published")
    for trainer, are_sentences in ((compact, False), (published, True)):
        drawn = trainer.maker._vocabulary.sample([["red box"]], [0], 0).sentences
        assert all(text.endswith(".") for text in drawn) == are_sentences


def test_divergence_ends_the_run_and_spares_the_weights(make: Make) -> None:
    trainer = make()
    with torch.no_grad():
        trainer.model.text_encoder.logit_scale.fill_(1e6)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    with pytest.raises(XDecoderError, match="diverged at step 0"):
        trainer.run()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]), name


def test_a_step_is_learnt_in_a_few_repeats_for_every_task(make: Make, tiny_teacher: Path) -> None:
    trainer = make(steps=60, batch_size=4, lr=3e-3, teacher=tiny_teacher, lesson_size=8)
    step = next(load_steps(trainer.examples, trainer.maker, trainer.order.batches(0, 4), 0))
    assert any(step.batch.phrases)
    assert any(step.batch.captions)
    assert any(step.batch.questions)
    assert step.lesson is not None
    records = []
    for _ in range(60):
        records.append(trainer.step(step))
        trainer.progress.advance_to_step_limit(1.0, 60)
    first, last = ({k: np.mean([r[k] for r in part]) for k in LOSSES} for part in (
        records[:5], records[-5:]
    ))  # fmt: skip
    for name in LOSSES:
        assert last[name] < 0.95 * first[name], (name, first[name], last[name])
    assert last["total"] < 0.7 * first["total"]


@pytest.mark.parametrize(
    ("task", "losses", "measures"),
    [
        ("segment", SEGMENTATION_LOSSES, {"miou", "accuracy", "name_rank", "kept"}),
        ("refer", ("grounding", "phrase_mask", "phrase_dice"), {"p_at_50"}),
        ("caption", ("caption",), {"next_token", "caption_entropy"}),
        ("answer", ("answer",), {"vqa"}),
        ("embed", ("retrieval",), {"image_r1", "text_r1"}),
    ],
)
def test_each_task_trains_alone(
    make: Make, task: str, losses: Sequence[str], measures: set[str]
) -> None:
    trainer = make(steps=2, batch_size=4, tasks=(task,))
    trainer.run()
    records = read_metrics(trainer.config.out / METRICS)
    for record in records[:2]:
        assert {name for name in LOSSES[1:] if record[name] > 0} == set(losses)
    assert set(records[-1]) == {"step", *(f"validation/boxes/{name}" for name in measures)}


@pytest.mark.parametrize(
    ("train_only", "changed"),
    [
        ("decoder", "decoder."),
        ("prompts", ("decoder.query_feat", "decoder.query_embed", "decoder.class_embed")),
        ("class-embedding", "decoder.class_embed"),
    ],
)
def test_what_is_not_trained_stays_bit_for_bit(
    make: Make, train_only: str, changed: str | tuple[str, ...]
) -> None:
    trainer = make(steps=2, train_only=train_only)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    average = trainer.average.model.state_dict()
    for name, value in trainer.model.state_dict().items():
        trained = name.startswith(changed)
        assert torch.equal(value, before[name]) != trained, name
        assert torch.equal(average[name], before[name]) != trained, name


def test_a_fine_tuning_goes_on_bit_for_bit(make: Make, tmp_path: Path) -> None:
    whole = make(out=tmp_path / "whole", train_only="prompts")
    whole.run()
    first = make(train_only="prompts")
    stop_after(first, 3)
    first.run()
    second = make(resume=True, train_only="prompts")
    second.run()
    assert same(second, whole)


def test_the_answers_of_the_data_are_kept_with_the_weights(make: Make, tmp_path: Path) -> None:
    trainer = make(steps=1)
    items = trainer.examples.sources[0].items
    given = {answer for item in items for q in item.questions for answer in q.answers}
    assert len(given) > 1
    assert set(load_checkpoint(trainer.run()).config.answers) == given
    untouched = load_checkpoint(make(steps=1, out=tmp_path / "b", tasks=("segment",)).run())
    assert untouched.config.answers == ()


def test_the_names_of_the_data_are_kept_with_the_weights_as_distractors(make: Make) -> None:
    trainer = make(steps=1)
    names = set(trainer.examples.sources[0].vocabulary)
    kept = load_checkpoint(trainer.run()).config.distractors
    assert kept is not None and set(kept.words) == names


def test_curves_of_other_weights_are_not_kept(
    make: Make, tiny_model: Callable[..., XDecoder]
) -> None:
    model = tiny_model()
    plain = model.config.postprocess
    curves = {"refer": ScoreCurve((0.0, 1.0), (0.2, 0.6))}
    rules = dataclasses.replace(plain, curves=curves, min_scores={"refer": 0.3})
    model.config = dataclasses.replace(model.config, postprocess=rules)
    assert load_checkpoint(make(model, steps=1).run()).config.postprocess == plain


def test_the_ensemble_of_retrieval_is_kept_with_the_weights(make: Make) -> None:
    assert load_checkpoint(make(steps=1, retrieval_ensemble=True).run()).config.retrieval_ensemble
