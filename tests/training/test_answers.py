"""The answers that a run knows, and those that a step chooses from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.datasets.items import AnsweredQuestion
from xdecoder_rt.training.answers import AnswerSampler, frequent_answers

WORDS = st.sampled_from(["yes", "no", "red", "blue", "two", "a mug", "left"])
QUESTIONS = st.lists(
    st.builds(
        AnsweredQuestion,
        st.just("what?"),
        st.lists(WORDS, min_size=1, max_size=4).map(tuple),
        st.none() | st.lists(WORDS, min_size=1, unique=True).map(tuple),
    )
)


def source(*answers: tuple[str, ...]) -> Any:
    item = SimpleNamespace(questions=[AnsweredQuestion("what?", texts) for texts in answers])
    return cast(Any, SimpleNamespace(items=[item]))


def test_the_most_frequent_answers_come_first_and_ties_follow_the_alphabet() -> None:
    sources = [source(("no",), ("yes", "yes", "maybe")), source(("no", "a"), ())]
    assert frequent_answers(sources) == ("no", "yes", "a", "maybe")
    assert frequent_answers(sources[::-1]) == frequent_answers(sources)
    assert frequent_answers(sources, limit=2) == ("no", "yes")
    assert frequent_answers([source()]) == ()


@settings(max_examples=60, deadline=None)
@given(QUESTIONS, st.integers(1, 12), st.integers(0, 99))
def test_a_step_offers_all_that_its_questions_accept_and_offer(
    questions: list[AnsweredQuestion], size: int, step: int
) -> None:
    known = tuple(f"answer {i}" for i in range(8))
    drawn = AnswerSampler(known, size, 0).sample(questions, step)
    own = {text for q in questions for text in (*q.answers, *(q.choices or ()))}
    assert len(set(drawn)) == len(drawn)
    assert own == set(drawn[: len(own)])
    assert set(drawn) <= own | set(known)
    assert len(drawn) == (max(len(own), min(size, len(own) + len(known))) if questions else 0)


def test_steps_draw_different_answers() -> None:
    sampler = AnswerSampler([f"answer {i}" for i in range(50)], 5, 0)
    questions = [AnsweredQuestion("what?", ("yes",))]
    first = sampler.sample(questions, 3)
    assert sampler.sample(questions, 3) == first
    assert sampler.sample(questions, 4) != first


def test_a_blank_answer_is_none() -> None:
    assert frequent_answers([source(("", "red", " "), ("",))]) == ("red",)
