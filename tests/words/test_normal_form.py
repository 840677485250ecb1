"""Class names as people type them: what is embedded, and which are one word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt import Vocabulary
from xdecoder_rt.errors import VocabularyError
from xdecoder_rt.words.normal_form import clean_name, name_key
from xdecoder_rt.words.tokenizer import ClipTokenizer

TOKENIZER = ClipTokenizer.default()
# Few letters, so that names often are one word.
LETTERS = "aA b\u200b-\u2010_ 1\u0301\u00e1'\u2019.\u00a0\uff41\u0130sS\t\u0345"
NAMES = st.text(st.sampled_from(LETTERS), max_size=6)


@pytest.mark.parametrize(
    ("typed", "embedded"),
    [
        ("rubber_duck", "rubber duck"),
        ("rubber__duck_toy", "rubber duck toy"),
        ("cafe\u0301_table", "caf\u00e9 table"),
        ("mug_2", "mug_2"),
        ("_mug_", "_mug_"),
        ("mug\u200b", "mug"),
        ("\ufeffmug", "mug"),
        ("m\u00adu\u2060g\ufe0f\U000e0067", "mug"),
        ("mug\x07", "mug"),
        ("robot\u2010arm", "robot-arm"),
        ("robot\u2011arm\u2013a\u2212b", "robot-arm-a-b"),
        ("robot\u00a0arm", "robot arm"),
        ("robot\u3000arm\u2009", "robot arm"),
        ("robot\u2800arm", "robot arm"),
        ("chef\u2019s knife", "chef's knife"),
        ("\uff4d\uff55\uff47", "mug"),
        ("\ufb01sh", "fish"),
        ("Mug", "Mug"),
    ],
)
def test_names_that_look_right_are_embedded_right(typed: str, embedded: str) -> None:
    assert clean_name(typed) == embedded
    words = Vocabulary.parse([typed])
    assert words.texts == (embedded,)
    assert words.labels == (typed,), "results carry the name as it was typed"


@pytest.mark.parametrize("typed", ["\u200b", "\ufeff \u00a0", "\u3164", "\u2800", "\x07"])
def test_a_name_with_nothing_to_be_seen_is_refused(typed: str) -> None:
    for arguments in (
        {"entries": [typed]},
        {"entries": [["mug", typed]]},
        {"entries": ["mug"], "negatives": [typed]},
        {"entries": ["mug"], "other": typed},
        {"entries": ["mug"], "stuff": [typed]},
    ):
        with pytest.raises(VocabularyError, match="empty"):
            Vocabulary.parse(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["door-stuff", "floor-other-merged", "wall, tile", "t.v."])
def test_names_of_published_lists_are_embedded_exactly(name: str) -> None:
    assert clean_name(name) == name


@given(NAMES, NAMES)
@settings(max_examples=400, deadline=None)
def test_names_are_one_word_when_their_tokens_are_the_same(first: str, second: str) -> None:
    tokens = [TOKENIZER.tokens(clean_name(name)) for name in (first, second)]
    assert (name_key(first) == name_key(second)) == (tokens[0] == tokens[1])


@given(st.text(st.characters(codec="utf-8"), max_size=12))
@settings(max_examples=400, deadline=None)
def test_a_clean_name_is_clean(name: str) -> None:
    assert clean_name(clean_name(name)) == clean_name(name)
    assert name_key(clean_name(name)) == name_key(name)
    assert TOKENIZER.tokens(clean_name(name)) == TOKENIZER.tokens(name_key(name))
