"""Names of generated things: trusted, synonymous, held out, and put into sentences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.scenes.backdrop import BACKDROP_STUFF as CLIPART_STUFF
from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.language import indefinite, plural_name
from xdecoder_rt.scenes.lexicons.furniture import furniture_lexicon
from xdecoder_rt.scenes.lexicons.stamps import stamp_lexicon
from xdecoder_rt.scenes.names import SYNONYMS, canonical, held_out, synonyms
from xdecoder_rt.scenes.room import ROOM_STUFF as WORKCELL_STUFF
from xdecoder_rt.scenes.scene import Scene
from xdecoder_rt.scenes.splits import novel_names
from xdecoder_rt.scenes.sprites import lexicon

ALL_NAMES = sorted(
    {e.name for entries in (lexicon(), stamp_lexicon(), furniture_lexicon()) for e in entries}
    | set(WORKCELL_NAMES)
)
words = st.text("abcdefgh ", min_size=1, max_size=12).map(lambda t: " ".join(t.split()) or "a")


def test_the_lexicon_names_each_drawing_once_with_a_canonical_lower_case_noun_phrase() -> None:
    paths = [d.path for d in lexicon()]
    assert len(paths) == len(set(paths)) > 1800
    for drawing in lexicon():
        assert drawing.name == canonical(drawing.name) == drawing.name.strip().lower()
        assert drawing.path.endswith(".svg")
    assert len(ALL_NAMES) > 600


def test_no_thing_is_called_like_a_stuff() -> None:
    forms = {form for name in ALL_NAMES for form in synonyms(name)}
    assert not forms & (CLIPART_STUFF | WORKCELL_STUFF)


def test_a_name_belongs_to_one_group_of_synonyms() -> None:
    forms = [form for group in SYNONYMS for form in group]
    assert len(forms) == len(set(forms))


def test_about_a_tenth_of_the_names_is_held_out_in_every_domain() -> None:
    novel = novel_names()
    assert 0.05 < len(novel) / len(ALL_NAMES) < 0.15
    assert len(novel & set(WORKCELL_NAMES)) >= 5
    assert len(novel - set(WORKCELL_NAMES)) >= 30


def test_held_out_names_take_their_compounds_and_synonyms_with_them() -> None:
    novel = novel_names()
    banned = {form for name in novel for form in synonyms(name)}
    for kept in set(ALL_NAMES) - novel:
        assert not banned & set(synonyms(kept))
    drawn = [name for name in ALL_NAMES if name in held_out({name})]
    for name in drawn:
        compounds = {other for other in ALL_NAMES if f" {name} " in f" {other} "}
        assert compounds <= novel


@given(st.sets(words, min_size=1, max_size=40))
def test_no_kept_name_contains_the_words_of_a_name_that_the_hash_holds_out(names: set[str]) -> None:
    kept = names - held_out(names)
    for name in kept:  # a kept name alone, with nothing else to be compounded with, stays kept
        assert name not in held_out({name})
        for other in kept - {name}:
            assert name not in held_out({name, other})


@given(st.sets(words, min_size=1, max_size=40), st.randoms())
def test_holding_out_does_not_depend_on_the_order(names: set[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert held_out(shuffled) == held_out(sorted(names))


@pytest.mark.parametrize(
    ("name", "article", "many"),
    [
        ("apple", "an apple", "apples"),
        ("hourglass", "an hourglass", "hourglasses"),
        ("usb stick", "a usb stick", "usb sticks"),
        ("loaf of bread", "a loaf of bread", "loaves of bread"),
        ("scissors", "scissors", "scissors"),
        ("glass", "a glass", "glasses"),
        ("fireman", "a fireman", "firemen"),
        ("strawberry", "a strawberry", "strawberries"),
        ("bread", "bread", "bread"),
        ("crayfish", "a crayfish", "crayfish"),
    ],
)
def test_articles_and_plurals(name: str, article: str, many: str) -> None:
    assert indefinite(name) == article
    assert plural_name(name) == many


def scene_of(*rows: str, labels: dict[int, str], colours: dict[int, str] | None = None) -> Scene:
    ids = np.array([[int(c) for c in row] for row in rows], np.uint8)
    image = np.zeros((*ids.shape, 3), np.uint8)
    return Scene(image, ids, labels, colours or {})


def test_small_segments_are_dropped_and_the_rest_renumbered() -> None:
    scene = scene_of("1222", "0233", labels={1: "a", 2: "b", 3: "c"}, colours={2: "red"})
    scene.drop_small(2)
    assert scene.labels == {1: "b", 2: "c"}
    assert scene.colours == {1: "red"}
    assert scene.ids.tolist() == [[0, 1, 1, 1], [0, 1, 2, 2]]
