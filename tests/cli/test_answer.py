"""``xdecoder-rt answer``: questions on images, answered from choices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.cli import main

HEIGHT, WIDTH = 50, 70

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "cli_cache"
    monkeypatch.setenv("XDECODER_RT_CACHE", str(folder))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "photo.png")


@pytest.fixture
def answer(tiny_plan: Path) -> Run:
    def run(*arguments: object) -> int:
        texts = [str(argument) for argument in arguments]
        return main(["answer", *texts, "--plan", str(tiny_plan), "--threads", "1"])

    return run


def save_picture(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that a failed command leaves, with nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("error: "), err
    return err


@pytest.mark.parametrize("choices", [["yes,no, not at all"], ["yes", "no", "not at all"]])
def test_the_json_is_the_engines_answer(
    answer: Run,
    photo: Path,
    tiny_plan: Path,
    choices: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    questions = ["is there a mug?", "is it red?"]
    assert answer(photo, "--question", *questions, "--choices", *choices, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    wanted = ["yes", "no", "not at all"]
    assert (document["questions"], document["choices"]) == (questions, wanted)
    (image,) = document["images"]
    assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
    with Engine(tiny_plan, threads=1) as engine:
        expected = [engine.answer(photo, question, wanted) for question in questions]
    assert [one["question"] for one in image["answers"]] == questions
    for found, one in zip(image["answers"], expected, strict=True):
        assert found["text"] == one.text
        assert list(found["scores"]) == wanted
        assert found["scores"] == pytest.approx(dict(one.scores), rel=1e-5)


def test_each_question_is_printed_with_its_answer(
    answer: Run, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = ["is there a mug?", "is it red?"]
    assert answer(photo, "--question", *questions, "--choices", "yes", "no") == 0
    head, first, found, second, _ = capsys.readouterr().out.strip().splitlines()
    assert "2 questions" in head
    assert [first.strip(), second.strip()] == questions
    assert found.split()[0] in ("yes", "no") and "then" in found


def test_the_picture_has_the_answers_under_the_image(
    answer: Run, photo: Path, tmp_path: Path
) -> None:
    heights = []
    for questions in (["one?"], ["one?", "two?"]):
        target = tmp_path / "told.png"
        assert answer(photo, "--question", *questions, "--choices", "a,b", "-o", target) == 0
        with Image.open(target) as drawn:
            heights.append(drawn.height)
    assert HEIGHT < heights[0] < heights[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--question", "", "--choices", "a,b"], "question is empty"),
        (["--question", "who?", "--choices", "a,b,a"], "'a' is there twice"),
        (["--question", "who?", "--choices", "a,,b"], "empty"),
        (["--question", "who?"], "no choices"),
        (["--question", "who " * 100, "--choices", "a,b", "--strict"], "too long"),
    ],
)
def test_bad_input_is_one_line(
    answer: Run,
    photo: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answer(photo, *options, "-o", tmp_path / "told.png") == 1
    assert message in the_error(capsys)
    assert not (tmp_path / "told.png").exists()


def test_a_question_is_needed(answer: Run, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(photo) == 2
    assert "--question" in capsys.readouterr().err
