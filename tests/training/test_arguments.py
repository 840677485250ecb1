"""The command line of training."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.training.__main__ import main
from xdecoder_rt.training.arguments import add_arguments, config_from_args
from xdecoder_rt.training.config import LossWeights, SourceSpec, TrainConfig


def parse(*arguments: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return config_from_args(parser.parse_args(arguments))


def test_what_is_not_given_has_the_defaults_of_the_configuration() -> None:
    config = parse("scenes/train", "--steps", "10", "-o", "out")
    assert config == TrainConfig((SourceSpec(Path("scenes/train")),), Path("out"), steps=10)


def test_what_is_given_arrives() -> None:
    config = parse(
        *("a", "b=2.5", "--minutes", "30", "--validation", "v", "w", "--lr", "1e-3"),
        *("--batch-size", "4", "--train-norm", "--dice-weight", "0", "--void-weight", "0.2"),
        *("--no-progress", "--resume", "--precision", "bf16", "--schedule", "poly"),
        *("--freeze-backbone", "--freeze-text"),
    )
    assert config.sources == (SourceSpec(Path("a")), SourceSpec(Path("b"), 2.5))
    assert config.validation == (Path("v"), Path("w"))
    assert (config.steps, config.minutes) == (None, 30)
    assert (config.lr, config.batch_size, config.precision) == (1e-3, 4, "bf16")
    assert config.losses == LossWeights(dice=0, void=0.2)
    assert not config.freeze_norm
    assert config.freeze_backbone
    assert config.freeze_text
    assert not config.progress
    assert config.resume
    assert config.schedule == "poly"


@pytest.mark.parametrize(
    "arguments",
    [
        ["a=0"],
        ["a=-1"],
        ["a=much"],
        ["=2"],
        ["a", "--size", "100"],
        ["a", "--size", "32"],
        ["a", "--batch-size", "0"],
        ["a", "--lr", "nan"],
        ["a", "--ema-decay", "1"],
        ["a", "--dice-weight", "-1"],
        ["a", "--validation", "one/val", "one/val"],
        ["a", "--tasks", "segment,draw"],
        ["a", "--tasks", ""],
        ["a", "--tasks", "caption", "--train-only", "class-embedding"],
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ArgumentError):
        parse(*arguments, "--steps", "1")


def test_a_plan_as_a_teacher_of_words_is_told_what_it_can_do() -> None:
    with pytest.raises(ArgumentError, match="is a plan") as caught:
        parse("a", "--steps", "1", "--teacher", "large.plan")
    assert "xdecoder-rt label" in str(caught.value)


def test_tasks_and_what_is_trained_arrive() -> None:
    config = parse(
        *("a", "--steps", "1", "--tasks", "refer, caption", "--train-only", "prompts"),
        *("--grounding-weight", "2", "--retrieval-ensemble", "--caption-tokens", "9"),
    )
    assert config.tasks == ("refer", "caption")
    assert (config.train_only, config.retrieval_ensemble) == ("prompts", True)
    assert (config.losses.grounding, config.caption_tokens) == (2, 9)
    assert parse("a", "--steps", "1").tasks == ("segment", "refer", "caption", "answer", "embed")


def test_validation_data_are_told_apart_by_as_little_of_their_paths_as_it_takes() -> None:
    paths = ["refcoco/refs(unc).p#val", "refcoco+/refs(unc).p#val", "scenes/val", "val"]
    config = parse("a", "--steps", "1", "--validation", *paths)
    assert config.held_out() == {
        "refcoco/refs(unc).p#val": Path(paths[0]),
        "refcoco+/refs(unc).p#val": Path(paths[1]),
        "scenes/val": Path("scenes/val"),
        "val": Path("val"),
    }
    alone = parse("a", "--steps", "1", "--validation", "/data/one/workcell_val", "clipart_val")
    assert list(alone.held_out()) == ["workcell_val", "clipart_val"]


def test_joined_files_and_splits_are_one_source() -> None:
    source = SourceSpec.parse("coco/panoptic.json,coco/captions.json=4")
    assert source == SourceSpec(Path("coco/panoptic.json,coco/captions.json"), 4)
    assert SourceSpec.parse("refcoco/refs(unc).p#testA").path.name == "refs(unc).p#testA"


def test_an_equals_sign_in_a_folder_is_no_weight() -> None:
    assert SourceSpec.parse("runs/lr=1/data") == SourceSpec(Path("runs/lr=1/data"))


def test_the_length_is_given_once() -> None:
    with pytest.raises(ArgumentError, match="exactly one of steps and minutes"):
        TrainConfig((SourceSpec(Path("a")),), Path("o"), steps=1, minutes=1)
    with pytest.raises(ArgumentError, match="exactly one of steps and minutes"):
        TrainConfig((SourceSpec(Path("a")),), Path("o"))


def test_the_recipe_names_no_place() -> None:
    config = parse("/home/me/train", "--init", "/home/me/start.safetensors", "--steps", "1")
    assert "/home" not in str(config.recipe())
    assert config.recipe()["init"] == "start.safetensors"


def test_an_error_is_one_line_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "absent"), "--steps", "1", "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "absent" in error


def test_help_needs_no_framework() -> None:
    code = (
        "import sys, argparse, xdecoder_rt.training.arguments as a;"
        "p = argparse.ArgumentParser(); a.add_arguments(p); p.format_help();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'cv2', 'scipy', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
