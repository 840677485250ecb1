"""The accuracy of VQA: leaving each person out in turn, and the official normalisation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.answers import AnswerAccuracy, answer_accuracy, normalize_answer

said = st.sampled_from(["yes", "no", "2", "red mug"])


@given(said, st.lists(said, min_size=4, max_size=12))
def test_it_is_the_mean_over_leaving_each_person_out(prediction: str, answers: list[str]) -> None:
    each = []
    for i in range(len(answers)):
        others = answers[:i] + answers[i + 1 :]
        each.append(min(1, others.count(prediction) / 3))
    assert answer_accuracy(prediction, answers) == pytest.approx(sum(each) / len(each))


@given(said, st.lists(said, min_size=1, max_size=3))
def test_of_fewer_than_four_answers_one_is_enough(prediction: str, answers: list[str]) -> None:
    assert answer_accuracy(prediction, answers) == (prediction in answers)


@pytest.mark.parametrize(
    ("matching", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)]
)
def test_of_ten_answers(matching: int, expected: float) -> None:
    answers = ["mug"] * matching + [f"other {i}" for i in range(10 - matching)]
    assert answer_accuracy("mug", answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Mug", "mug"),
        ("a red mug and an apple", "red mug and apple"),
        ("Two", "2"),
        ("none", "0"),
        ("Ten mugs.", "10 mugs"),
        ("1,000", "1000"),
        ("2.5 m.", "2.5 m"),
        ("mug/cup", "mug cup"),
        ("mug, cup", "mug cup"),
        ("red,blue", "red blue"),
        ("T-shirt", "t-shirt"),
        ("what?", "what"),
        (" on the\n table ", "on table"),
        ("(left)", "left"),
        ("the", ""),
    ],
)
def test_normalisation(answer: str, expected: str) -> None:
    assert normalize_answer(answer) == expected
    assert normalize_answer(expected) == expected


def test_both_sides_are_normalised() -> None:
    assert answer_accuracy("Two.", ["2"]) == 1
    assert answer_accuracy("2", ["two"]) == 1
    assert answer_accuracy("the cat", ["dog"]) == 0


def test_no_answer_is_wrong_even_where_nothing_is_left_of_the_truth() -> None:
    assert answer_accuracy("", ["the"]) == answer_accuracy("a", ["the"]) == 0


def test_kinds_of_questions() -> None:
    metric = AnswerAccuracy()
    metric.update("yes", ["Yes"])
    metric.update("no", ["yes", "yes", "no"])
    metric.update("no", ["yes"])
    metric.update("three", ["2"])
    metric.update("mug", ["a mug"])
    scores = metric.compute()
    assert scores.accuracy == pytest.approx(60)
    assert scores.questions == 5
    assert scores.per_kind == {
        "yes/no": (pytest.approx(200 / 3), 3),
        "number": (0, 1),
        "other": (100, 1),
    }


def test_nothing_to_compare_with_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no question"):
        AnswerAccuracy().compute()
    with pytest.raises(ArgumentError, match="no answer"):
        AnswerAccuracy().update("yes", [])
    with pytest.raises(ArgumentError, match="no answer"):
        answer_accuracy("yes", [])
