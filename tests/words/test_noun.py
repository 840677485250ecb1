"""What a phrase names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.words.noun import noun_of

PARTS = ["the", "red", "left", "of", "mug", "and", "on", "orange", "top", "is", "all", "ing"]


@pytest.mark.parametrize(
    ("phrase", "noun"),
    [
        ("mug", "mug"),
        ("The mug.", "mug"),
        ("the red mug on the left", "mug"),
        ("the left mug", "mug"),
        ("the far left mug", "mug"),
        ("mug left of the plate", "mug"),
        ("the big red ball in the upper left", "ball"),
        ("all soccer balls", "soccer balls"),
        ("my two other dogs", "dogs"),
        ("the black and white cow", "cow"),
        ("the biggest mobile phone", "mobile phone"),
        ("the third book from the left", "book"),
        ("a ball of yarn", "ball of yarn"),
        ("the cup of coffee next to the laptop", "cup of coffee"),
        ("the bottle of the man", "bottle"),
        ("the top of the table", "table"),
        ("the left of the cone", "cone"),
        ("the orange", "orange"),
        ("the orange on the left", "orange"),
        ("the orange left of the mug", "orange"),
        ("the smallest", "smallest"),
        ("the horse lying down", "horse"),
        ("the cutting board", "cutting board"),
        ("the ring on the table", "ring"),
        ("the glass pyramid", "glass pyramid"),
        ("the light bulb", "light bulb"),
        ("the robot's hand", "robot's hand"),
        ("the vase above the red tomato", "vase"),
        ("la tasse rouge", "la tasse rouge"),  # no rule of another language
        ("杯子", "杯子"),
        ("...", "..."),
    ],
)
def test_a_phrase_names(phrase: str, noun: str) -> None:
    assert noun_of(phrase) == noun


@given(st.text(min_size=1, max_size=60))
def test_whatever_is_asked_names_something(phrase: str) -> None:
    assert noun_of(phrase)


@given(
    st.lists(
        st.sampled_from(
            ["the", "red", "left", "of", "mug", "and", "on", "orange", "top", "is", "all", "ing"]
        )
    )
)
def test_a_noun_is_the_noun_of_itself_or_the_words_of_its_phrase(words: list[str]) -> None:
    phrase = " ".join(words)
    assert set(noun_of(phrase).split()) <= set(words)
