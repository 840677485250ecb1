"""What a model's scores are worth: answers judged, curves fitted, and the checkpoint they go to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.datasets.items import Phrase, Segment
from xdecoder_rt.errors import ArgumentError, CheckpointError
from xdecoder_rt.export.sources import STARTER, STARTER_NAME
from xdecoder_rt.masks.score_curve import ScoreCurve, score_problem
from xdecoder_rt.models import ModelConfig, XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.checkpoint import read_header
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.questions.least_score import MIN_SCORES
from xdecoder_rt.results import Segmentation
from xdecoder_rt.training.scores.__main__ import main
from xdecoder_rt.training.scores.answers import (
    Answers,
    Judged,
    collect_answers,
    judge_instances,
    judge_panoptic,
    overlap,
)
from xdecoder_rt.training.scores.fitting import (
    calibration_error,
    fit_curve,
    fit_scores,
    judge_kind,
)

SIDE = 8


def item_of(truth: np.ndarray, **labels: int) -> Any:
    """An item whose segments have these labels, all things, and these ids."""
    segments = tuple(
        Segment(number, label, True, int((truth == number).sum()))
        for label, number in labels.items()
    )
    return SimpleNamespace(
        segments=segments,
        phrases=(Phrase("the mug", (1,)),),
        load_panoptic=lambda: truth,
        load_image=lambda: np.zeros((*truth.shape, 3), np.uint8),
    )


def band(*rows: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[list(rows)] = True
    return mask


def panoptic_of(*parts: tuple[str, float, np.ndarray]) -> Segmentation:
    ids = np.zeros((SIDE, SIDE), np.int32)
    infos = []
    for number, (label, score, mask) in enumerate(parts, start=1):
        ids[mask] = number
        infos.append({"id": number, "label": label, "score": score, "isthing": True})
    return Segmentation(ids, infos, "panoptic")


def instances_of(*parts: tuple[str, float, np.ndarray]) -> Segmentation:
    infos = [{"label": label, "score": score, "isthing": True} for label, score, _ in parts]
    masks = np.stack([mask for *_, mask in parts])
    return Segmentation(np.zeros((SIDE, SIDE), np.int32), infos, "instance", masks)


def test_a_segment_is_right_where_a_true_one_of_its_class_covers_more_than_half() -> None:
    truth = np.zeros((SIDE, SIDE), np.int32)
    truth[:4], truth[4:6] = 1, 2  # the last two rows are not labelled
    item = item_of(truth, mug=1, cup=2)
    found = panoptic_of(
        ("mug", 0.9, band(0, 1, 2)), ("cup", 0.8, band(3)), ("fork", 0.7, band(4, 5))
    )
    assert judge_panoptic(found, item, truth) == [(0.9, True), (0.8, False), (0.7, False)]
    unscored = panoptic_of(("mug", 0.9, band(5, 6, 7)))
    assert judge_panoptic(unscored, item, truth) == []
    partly = panoptic_of(("cup", 0.5, band(4, 5, 6)))  # unlabelled pixels are left out
    assert judge_panoptic(partly, item, truth) == [(0.5, True)]


def test_of_two_instances_on_one_object_the_surer_is_right() -> None:
    truth = np.zeros((SIDE, SIDE), np.int32)
    truth[:4], truth[4:] = 1, 2
    item = item_of(truth, mug=1, cup=2)
    found = instances_of(
        ("mug", 0.9, band(0, 1, 2)), ("mug", 0.6, band(0, 1, 2, 3)), ("cup", 0.3, band(4, 5))
    )
    assert judge_instances(found, item, truth) == [(0.9, True), (0.6, False), (0.3, True)]


def test_empty_masks_overlap_nothing() -> None:
    assert overlap(band(), band()) == 0.0
    assert overlap(band(0, 1), band(1, 2)) == pytest.approx(1 / 3)


def judged_of(rng: np.random.Generator, count: int, how_right: Callable[[Any], Any]) -> Any:
    scores = rng.random(count)
    right = rng.random(count) < how_right(scores)
    return [
        Judged(number // 4, float(score), bool(is_right))
        for number, (score, is_right) in enumerate(zip(scores, right, strict=True))
    ]


@given(seed=st.integers(0, 99), count=st.integers(96, 400), power=st.floats(0.2, 5.0))
@settings(deadline=None, max_examples=50)
def test_curves_are_curves(seed: int, count: int, power: float) -> None:
    curve = fit_curve(judged_of(np.random.default_rng(seed), count, lambda s: s**power))
    assert score_problem({"refer": curve}, {}) is None
    assert 0 < curve.shares[0] < curve.shares[-1] < 1


@pytest.mark.parametrize("right", [True, False])
def test_what_is_always_right_or_never_is_not_certain(right: bool) -> None:
    curve = fit_curve([Judged(0, 0.5 + i / 1000, right) for i in range(120)])
    assert score_problem({"refer": curve}, {}) is None
    assert 0.05 < curve.reported(0.55) < 0.95


def test_a_curve_takes_the_error_of_scores_away() -> None:
    judged = judged_of(np.random.default_rng(1), 4000, lambda s: 0.3 * s)
    curve, report = judge_kind(judged, [], 0.0)
    assert report.error_before > 0.3 and report.error_after < 0.03
    assert curve.reported(0.5) == pytest.approx(0.15, abs=0.05)
    assert report.min_score is None and report.kept == 1.0


def test_the_error_is_that_of_the_definition() -> None:
    scores, right = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration_error(scores, right) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert calibration_error(np.empty(0), np.empty(0)) == 0.0


def test_the_least_score_silences_so_many_images_of_what_is_not_there() -> None:
    rng = np.random.default_rng(2)
    judged, absent = judged_of(rng, 1000, lambda s: s), list(rng.random(200) * 0.5)
    curve, report = judge_kind(judged, absent, 0.95)
    assert report.min_score is not None and report.silent >= 0.95
    assert np.mean([score >= curve.least(report.min_score) for score in absent]) <= 0.05
    assert 0.3 < report.kept < 1.0


def test_few_answers_make_no_curve() -> None:
    with pytest.raises(ArgumentError, match="12 answers"):
        fit_curve([Judged(0, 0.5, True)] * 12)


def test_the_checkpoint_gets_curves_and_keeps_its_weights_and_header(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    save_checkpoint(before, XDecoder(tiny).eval(), {"note": "kept"})
    rng = np.random.default_rng(3)
    answers = Answers()
    for kind, judged in answers.judged.items():
        judged += judged_of(rng, 200, lambda s: s**2)
        answers.absent[kind] += list(rng.random(50) * 0.4)
    reports = fit_scores(before, after, answers, {"refer": 0.9})
    assert reports["refer"]["min_score"] is not None and reports["panoptic"]["min_score"] is None
    old, new = load_checkpoint(before), load_checkpoint(after)
    assert read_header(after)["note"] == "kept"
    for name, value in old.state_dict().items():
        assert torch.equal(value, new.state_dict()[name]), name
    rules = new.config.postprocess
    assert rules.curves.keys() == {"panoptic", "instance", "refer"}
    assert rules.min_scores == {
        "refer": reports["refer"]["min_score"],
        "instance": rules.curves["instance"].reported(MIN_SCORES["instance"]),
    }
    assert rules.without_curves() == old.config.postprocess
    # A least score is on the scale of its curve: without another it goes with it.
    fit_scores(after, before, answers, {})
    again = load_checkpoint(before).config.postprocess
    for kind in ("refer", "instance"):
        least = again.curves[kind].least(again.min_scores[kind])
        assert 0 < least <= MIN_SCORES[kind] < least + 0.01


def test_the_starter_gets_curves_by_its_name_and_keeps_its_header(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    answers = Answers()
    for judged in answers.judged.values():
        judged += judged_of(rng, 200, lambda s: s**2)
    fit_scores(Path(STARTER_NAME), tmp_path / "after.safetensors", answers, {})
    assert (
        read_header(tmp_path / "after.safetensors")["training"] == read_header(STARTER)["training"]
    )


def test_a_plans_curves_are_on_all_that_it_reports(
    altered: Callable[[Callable[[Manifest], Manifest]], Path], tiny_plan: Path
) -> None:
    curve = ScoreCurve((0.0, 0.4, 1.0), (0.2, 0.3, 0.6))

    def with_curves(manifest: Manifest) -> Manifest:
        rules = dataclasses.replace(
            manifest.postprocess,
            curves=dict.fromkeys(("panoptic", "instance", "refer"), curve),
            min_scores={"refer": 0.0, "instance": 0.0},
        )
        return dataclasses.replace(manifest, postprocess=rules)

    image = np.random.default_rng(4).integers(0, 255, (60, 80, 3), np.uint8)
    words = ["mug", "table", "arm"]
    with Engine(tiny_plan) as plain, Engine(altered(with_curves)) as curved:
        for task in ("panoptic", "semantic", "instance"):
            old = plain.segment(image, words, task=task, min_score=0)
            new = curved.segment(image, words, task=task)
            assert [info["score"] for info in new.segments_info] == [
                curve.reported(info["score"]) for info in old.segments_info
            ]
            assert np.array_equal(old.segmentation, new.segmentation)
        (old_mug,), (new_mug,) = (
            plain.refer(image, ["mug"], min_score=0), curved.refer(image, ["mug"])
        )  # fmt: skip
        assert new_mug.score == curve.reported(old_mug.score)
        assert np.array_equal(old_mug.mask, new_mug.mask)


def test_answers_are_collected_of_every_image(tiny_plan: Path) -> None:
    truth = np.ones((40, 40), np.int32)
    items = [item_of(truth, mug=1), item_of(truth, mug=1)]
    data: Any = SimpleNamespace(
        vocabulary=("mug", "table", "arm"), stuff=frozenset({"table"}), items=items
    )
    with Engine(tiny_plan) as engine:
        answers = collect_answers(engine, [data], None, 0, lambda images: images)
    assert {len(found) for found in answers.absent.values()} == {2}
    asked = answers.judged["refer"]
    assert [answer.image for answer in asked] == [0, 0, 1, 1]
    assert not asked[1].right and not asked[3].right  # of what is not there


def test_a_share_that_is_none_is_refused(tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    out = ["-o", str(tmp_path / "out.safetensors")]
    for wrong in ("refer=2", "semantic=0.5", "refer"):
        assert main(["fit", "starter", str(tmp_path), *out, "--silent", wrong]) == 1
        assert "--silent has" in capsys.readouterr().err
    assert main(["fit", "starter", str(tmp_path), *out, "--limit", "0"]) == 1
    assert "--limit is 0" in capsys.readouterr().err


def test_outputs_that_cannot_be_written_are_named_before_the_work(
    tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    command = ["fit", "starter", str(tmp_path), "-o"]
    for outputs, said in (
        ([str(tmp_path)], "it is a folder"),
        ([str(tmp_path / "file" / "out.safetensors")], "cannot be written"),
        (
            [str(tmp_path / "new" / "a"), "--json", str(tmp_path / "file" / "b")],
            "cannot be written",
        ),
    ):
        assert main([*command, *outputs]) == 1
        assert said in capsys.readouterr().err
    assert (tmp_path / "new").is_dir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        fit_scores(Path(STARTER_NAME), tmp_path, Answers(), {})
