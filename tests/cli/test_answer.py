"""``xdecoder-rt answer``: questions on images, answered from choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import HEIGHT, WIDTH, Run, document_of, the_error
from PIL import Image

from xdecoder_rt import Engine


@pytest.fixture
def answer(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("answer")


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
    document = document_of(capsys)
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
