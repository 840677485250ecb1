"""``xdecoder-rt train``: settings in, the path of a checkpoint out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import save_picture, the_error

from xdecoder_rt import Engine
from xdecoder_rt.cli import main
from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.training.config import TrainConfig
from xdecoder_rt.words.vocabulary import Vocabulary


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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number, place in enumerate(("a.png", "more/b.png")):
        save_picture(folder / place, number)
    (tmp_path / "words.txt").write_text("mug\nfloor [stuff]\n")
    return folder


def test_a_plan_labels_the_pictures_that_have_no_labels(
    pictures: Path, tiny_plan: Path, tmp_path: Path, asked: list[TrainConfig]
) -> None:
    own, out = tmp_path / "own", tmp_path / "run"
    with LabelledFolderWriter(own, ["cup"]) as writer:
        writer.add(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), {1: "cup"})
    asking = ["--teacher", str(tiny_plan), "--words-file", str(tmp_path / "words.txt")]
    arguments = ["train", f"{pictures}=3", str(own), "--steps", "1", "--freeze-text"]
    assert main([*arguments, *asking, "-o", str(out)]) == 0
    (config,) = asked
    assert config.teacher is None
    labels = out / "labels" / "0" / "folder"
    assert [(source.path, source.weight) for source in config.sources] == [(labels, 3), (own, 1)]
    folder = LabelledFolder.open(labels)
    assert folder.vocabulary == ("mug", "floor") and folder.stuff == {"floor"}
    assert len(folder) == 2
    with Engine(tiny_plan, threads=1) as engine:
        words = Vocabulary.load(tmp_path / "words.txt")
        found = engine.segment(pictures / "a.png", words).segments_info
    assert [s.label for s in folder.items[0].segments] == [s["label"] for s in found]


def test_what_a_plan_has_labelled_is_not_asked_again(
    pictures: Path, tiny_plan: Path, tmp_path: Path, asked: list[TrainConfig]
) -> None:
    asking = ["--teacher", str(tiny_plan), "--words-file", str(tmp_path / "words.txt")]
    arguments = ["train", str(pictures), "--steps", "1", *asking, "-o", str(tmp_path / "run")]
    assert main(arguments) == 0
    journal = tmp_path / "run" / "labels" / "0" / "labels.jsonl"
    before = journal.read_bytes()
    save_picture(pictures / "c.png", 2)
    assert main([*arguments, "--resume"]) == 0
    assert journal.read_bytes().startswith(before)
    assert len(LabelledFolder.open(asked[1].sources[0].path)) == 3


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["PICTURES", "--teacher", "PLAN"], "--words-file is missing"),
        (["PICTURES", "--words-file", "WORDS"], "without a plan"),
        (["OWN", "--teacher", "PLAN", "--words-file", "WORDS"], "nothing for"),
    ],
)
def test_a_teaching_plan_needs_words_and_pictures_without_labels(
    arguments: list[str],
    wrong: str,
    pictures: Path,
    tiny_plan: Path,
    tmp_path: Path,
    asked: list[TrainConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LabelledFolderWriter(tmp_path / "own", ["cup"]) as writer:
        writer.add(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), {1: "cup"})
    places = {
        "PICTURES": pictures,
        "PLAN": tiny_plan,
        "WORDS": tmp_path / "words.txt",
        "OWN": tmp_path / "own",
    }
    named = [str(places.get(argument, argument)) for argument in arguments]
    assert main(["train", *named, "--steps", "1", "-o", str(tmp_path / "run")]) == 1
    assert wrong in the_error(capsys)
    assert asked == []


@pytest.mark.slow
def test_a_short_run_ends_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs the extra train")
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
