"""``xdecoder-rt train``: settings in, the path of a checkpoint out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import the_error

from xdecoder_rt.cli import main
from xdecoder_rt.training.config import TrainConfig


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """What the trainer was asked for, in place of training."""
    pytest.importorskip("torch", reason="training needs the extra train")
    from xdecoder_rt.training import trainer

    configs: list[TrainConfig] = []

    def train(config: TrainConfig) -> Path:
        configs.append(config)
        return Path("runs") / "model.safetensors"

    monkeypatch.setattr(trainer, "train", train)
    return configs


def test_the_settings_reach_the_trainer(
    asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["a=2", "b", "--validation", "c", "--steps", "7", "--lr", "0.001", "--resume"]
    assert main(["train", *arguments, "--dice-weight", "3", "-o", "run"]) == 0
    (config,) = asked
    assert [(str(source.path), source.weight) for source in config.sources] == [("a", 2), ("b", 1)]
    assert [str(path) for path in config.validation] == ["c"]
    assert (config.steps, config.lr, config.resume) == (7, 0.001, True)
    assert (config.losses.dice, str(config.out)) == (3, "run")
    assert capsys.readouterr().out == f"{Path('runs/model.safetensors')}\n"


def test_help_tells_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    default = TrainConfig.__dataclass_fields__["batch_size"].default
    assert f"(a process, under torchrun) (default {default})" in out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["data"],
        ["data", "--steps", "5", "--minutes", "5"],
        ["data", "--steps", "five"],
        ["data", "--steps", "5", "--precision", "fp7"],
    ],
)
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--steps", "0"], ["--steps", "5", "--lr", "-1"], ["--minutes", "-2"]]
)
def test_values_out_of_range(
    arguments: list[str], asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "data", *arguments]) == 1
    the_error(capsys)
    assert asked == []


def test_data_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="training needs the extra train")
    out = tmp_path / "run"
    assert main(["train", str(tmp_path / "nothing"), "--steps", "1", "-o", str(out)]) == 1
    assert "nothing" in the_error(capsys)


def test_without_the_extra_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert main(["train", "data", "--steps", "1"]) == 1
    assert "xdecoder_rt[train]" in the_error(capsys)


@pytest.mark.slow
def test_a_short_run_ends_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs the extra train")
    from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter
    from xdecoder_rt.models import load_checkpoint

    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    generator = np.random.default_rng(0)
    ids = np.full((64, 64), 2, np.uint8)
    ids[10:40, 20:50] = 1
    with LabelledFolderWriter(data, ("mug", "floor"), ("floor",)) as writer:
        for _ in range(2):
            pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
            writer.add(pixels, ids, {1: "mug", 2: "floor"})
    arguments = ["--steps", "2", "--size", "64", "--batch-size", "2", "--workers", "0"]
    code = main(["train", str(data), *arguments, "--no-progress", "-o", str(out)])
    assert code == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(out / "model.safetensors")]
    assert load_checkpoint(printed[0]).config.family == "compact"
