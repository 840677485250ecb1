"""``xdecoder-rt run``: every task at once, one picture, one document."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import HEIGHT, WIDTH, Run, document_of, save_picture, the_error
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.cli import main
from xdecoder_rt.plan.manifest import Manifest


@pytest.fixture
def run(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("run")


EVERYTHING = [
    *("--words", "mug", "robot arm", "--stuff", "floor", "--phrases", "the red mug", "a fork"),
    *("--caption", "--prompt", "a photo", "--max-tokens", "3"),
    *("--question", "what is it?", "--choices", "mug,fork", "--embed"),
]


def test_everything_at_once_is_the_engines_answer(
    run: Run, photo: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photo, *EVERYTHING, "--json") == 0
    document = document_of(capsys)
    assert document["vocabulary"] == ["mug", "robot arm", "floor"]
    assert document["stuff"] == ["floor"]
    assert document["phrases"] == ["the red mug", "a fork"]
    assert (document["task"], document["prompt"]) == ("panoptic", "a photo")
    assert (document["question"], document["choices"]) == ("what is it?", ["mug", "fork"])
    (image,) = document["images"]
    with Engine(tiny_plan, threads=1) as engine:
        expected = engine.run(
            photo,
            segment=["mug", "robot arm", "floor"],
            stuff=["floor"],
            refer=["the red mug", "a fork"],
            caption=True,
            prompt="a photo",
            max_tokens=3,
            answer="what is it?",
            choices=["mug", "fork"],
            embed=True,
        )
    for name, value in json.loads(json.dumps(expected.to_dict())).items():
        assert image[name] == value, name
    assert (image["height"], image["width"]) == (HEIGHT, WIDTH)


def test_one_picture_holds_everything(run: Run, photo: Path, tmp_path: Path) -> None:
    assert run(photo, *EVERYTHING, "-o", tmp_path / "all.png") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.png", "photo.png"]
    with Image.open(tmp_path / "all.png") as drawn:
        assert drawn.height > HEIGHT


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--words", "mug"], "segment"),
        (["--stuff", "floor"], "segment"),
        (["--phrases", "the mug"], "refer"),
        (["--caption", "--max-tokens", "2"], "caption"),
        (["--question", "what?", "--choices", "a", "b"], "answer"),
        (["--embed"], "embed"),
    ],
)
def test_only_what_was_asked_is_answered(
    run: Run, photo: Path, options: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photo, *options, "--json") == 0
    out, err = capsys.readouterr()
    (image,) = json.loads(out)["images"]
    fields = {"segment", "refer", "caption", "answer", "embed"} & set(image)
    assert fields == {field}
    assert str(photo) in err


def test_several_images_give_several_pictures(run: Run, tmp_path: Path) -> None:
    images = [save_picture(tmp_path / f"{seed}.png", seed) for seed in range(2)]
    drawn = tmp_path / "drawn"
    assert run(*images, "--phrases", "the mug", "-o", drawn) == 0
    assert sorted(path.name for path in drawn.iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Nothing was asked"),
        (["--words-file", "none.txt"], "none.txt"),
        (["--phrases", "mug", ""], "empty"),
        (["--embed", "--prompt", "a photo"], "--caption"),
        (["--embed", "--choices", "a,b"], "--question"),
        (["--question", "what?", "--choices", "a,a"], "twice"),
        (["--question", "", "--choices", "a,b"], "empty"),
        (["--words", "mug", "mug"], "'mug'"),
        (["--phrases", "mug " * 100, "--strict"], "too long"),
    ],
)
def test_bad_input_is_one_line(
    run: Run,
    photo: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(photo, *options, "-o", tmp_path / "all.png") == 1
    assert message in the_error(capsys)
    assert not (tmp_path / "all.png").exists()


@pytest.mark.parametrize(
    ("command", "options", "task"),
    [
        ("refer", ["--phrases", "mug"], "refer"),
        ("caption", [], "caption"),
        ("caption", ["--stream"], "caption"),
        ("answer", ["--question", "what?", "--choices", "a,b"], "answer"),
        ("rank", ["--texts", "mug"], "embed"),
        ("run", ["--words", "mug", "--caption"], "caption"),
    ],
)
def test_a_plan_without_the_task_says_how_to_build_it(
    command: str,
    options: list[str],
    task: str,
    photo: Path,
    altered: Callable[[Callable[[Manifest], Manifest]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = altered(lambda manifest: dataclasses.replace(manifest, tasks=("segment",)))
    assert main([command, str(photo), *options, "--plan", str(plan)]) == 1
    assert f"--tasks segment,{task}" in the_error(capsys)
