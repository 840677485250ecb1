"""Answers to questions: the accuracy of VQA (Antol et al., "VQA: Visual Question Answering", 2015).

An answer that three people gave is right. The official figure averages min(1, matches / 3) over all
ways to leave one person out, so that people can be scored alike. That needs several answers: with
fewer than four, as in made data sets, an answer that is one of them is right.

Answers are compared after the normalisation of the official evaluator, which is applied to both
sides (officially the people's come partly normalised already). Its table of contractions is left
out: punctuation goes first, so the table would only rename words without an apostrophe, each to a
word of its own, which changes no comparison.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdecoder_rt.errors import ArgumentError

_PUNCTUATION = ";:/'[]\"()=+\\_><@`,?"
_DIGIT_GROUPS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_AGREED = 3


@dataclass(frozen=True)
class AnswerScores:
    """Accuracy of answers, 0 to 100.

    Attributes:
        accuracy: The mean over all questions.
        per_kind: Kind of question, by what people mostly answer ("yes/no", "number", "other") →
            its accuracy and number of questions; only kinds that occur.
        questions: The number of questions.
    """

    accuracy: float
    per_kind: Mapping[str, tuple[float, int]]
    questions: int


class AnswerAccuracy:
    """Collects the accuracy of answers."""

    KINDS = ("yes/no", "number", "other")

    def __init__(self) -> None:
        self._of_kind: dict[str, list[float]] = {kind: [] for kind in self.KINDS}

    def update(self, prediction: str, answers: Sequence[str]) -> None:
        """Count one question.

        Args:
            prediction: The answer given.
            answers: What people answered; an answer that several gave is there several times.

        Raises:
            ArgumentError: if there are no answers.
        """
        self._of_kind[_kind(answers)].append(answer_accuracy(prediction, answers))

    def compute(self) -> AnswerScores:
        """Return the scores over all questions counted.

        Raises:
            ArgumentError: if no question was counted.
        """
        accuracies = [accuracy for values in self._of_kind.values() for accuracy in values]
        if not accuracies:
            raise ArgumentError("There is no question to score")
        per_kind = {
            kind: (100 * sum(values) / len(values), len(values))
            for kind, values in self._of_kind.items()
            if values
        }
        return AnswerScores(100 * sum(accuracies) / len(accuracies), per_kind, len(accuracies))


def answer_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy of one answer, 0 to 1.

    Args:
        prediction: The answer given; one without a word is wrong.
        answers: What people answered.

    Raises:
        ArgumentError: if there are no answers.
    """
    if not answers:
        raise ArgumentError("There is no answer to compare with", expected="at least one")
    normalized = normalize_answer(prediction)
    if not normalized:
        return 0.0
    total = len(answers)
    matches = sum(normalize_answer(answer) == normalized for answer in answers)
    if total <= _AGREED:
        return float(matches > 0)
    left_in = min(1.0, matches / _AGREED)
    left_out = min(1.0, (matches - 1) / _AGREED)
    return ((total - matches) * left_in + matches * left_out) / total


def normalize_answer(answer: str) -> str:
    """Return an answer as the official evaluator compares it.

    Punctuation becomes a space, or nothing where a space is beside it or digits are grouped by a
    comma; periods go, except decimal points; upper case, articles and number words up to ten go.
    """
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    bare, has_groups = answer, _DIGIT_GROUPS.search(answer) is not None
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        bare = bare.replace(mark, "" if has_groups or beside_space else " ")
    words = (_NUMBERS.get(word, word) for word in _PERIOD.sub("", bare).lower().split())
    return " ".join(word for word in words if word not in _ARTICLES)


def _kind(answers: Sequence[str]) -> str:
    if not answers:
        raise ArgumentError("There is no answer to compare with", expected="at least one")
    usual = Counter(map(normalize_answer, answers)).most_common(1)[0][0]
    if usual in ("yes", "no"):
        return "yes/no"
    return "number" if _NUMBER.fullmatch(usual) else "other"
