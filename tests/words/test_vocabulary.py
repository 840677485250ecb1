"""Vocabularies: what people may type, the ids that results carry, and the files that hold them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xdecoder_rt import Vocabulary, Word
from xdecoder_rt.errors import VocabularyError
from xdecoder_rt.words.files import parse_line, parse_lines, words_from_json, words_to_json
from xdecoder_rt.words.word import MAX_ID

NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
NAMES = st.lists(NAME.filter(str.strip), min_size=1, max_size=6, unique=True)


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    names = draw(NAMES)
    words = [
        Word(
            name,
            stuff=draw(st.booleans()),
            negative=index > 0 and draw(st.booleans()),
            threshold=draw(st.none() | st.floats(0, 1)),
        )
        for index, name in enumerate(names)
    ]
    parsed = Vocabulary.parse(words, other=draw(st.none() | st.just("none of the words")))
    # The first is no negative, so that there is always something to find.
    return parsed.without(*draw(st.sets(st.sampled_from(names[1:])))) if names[1:] else parsed


def read_back(words: Vocabulary) -> Vocabulary:
    data = words_to_json(words.words, words.other, words.next_id)
    return Vocabulary.from_list(words_from_json(data))


# --- what people type -----------------------------------------------------------------------------


def test_a_list_of_names_needs_nothing_more() -> None:
    words = Vocabulary.parse(["mug", ["sofa", "couch"], "floor"], stuff=["floor"])
    assert words.labels == ("mug", "sofa", "floor")
    assert words.texts == ("mug", "sofa", "couch", "floor")
    assert words.starts.tolist() == [0, 1, 3]
    assert words.ids.tolist() == [0, 1, 2]
    assert words.is_thing().tolist() == [True, True, False]
    assert not words.has_rules


def test_the_same_words_are_parsed_once() -> None:
    once = Vocabulary.parse(["mug", ["sofa", "couch"]], ["mug"])
    assert Vocabulary.parse(("mug", ("sofa", "couch")), {"mug"}) is once
    assert Vocabulary.parse(once) is once
    assert Vocabulary.parse(["mug", ["sofa", "couch"]]) != once


def test_rules_may_be_said_apart_or_with_the_word() -> None:
    apart = Vocabulary.parse(
        ["knife", "floor"], ["floor"], negatives=["hand"], thresholds={"knife": 0.9}, other="thing"
    )
    together = Vocabulary.parse(
        [Word("knife", threshold=0.9), Word("floor", stuff=True), Word("hand", negative=True)],
        other="thing",
    )
    assert apart == together and apart.has_rules
    assert apart.labels == ("knife", "floor", "hand", "thing")
    assert apart.texts == ("knife", "floor", "hand"), "the other class is not embedded"
    assert Vocabulary.parse(Vocabulary.parse(["knife", "hand"]), ["hand"]).stuff == {"hand"}


@pytest.mark.parametrize(
    ("line", "word", "is_other"),
    [
        ("mug", Word("mug"), False),
        ("sofa | couch", Word("sofa", ("couch",)), False),
        ("sofa|couch [stuff, threshold 0.5]", Word("sofa", ("couch",), True, False, 0.5), False),
        ("hand [negative]", Word("hand", negative=True), False),
        ("mug [id=7, threshold=1]", Word("mug", threshold=1.0, id=7), False),
        ("something else  [other]", Word("something else"), True),
        ("mug []", Word("mug"), False),
    ],
)
def test_a_line_of_words(line: str, word: Word, is_other: bool) -> None:
    assert parse_line(line) == (word, is_other)


@pytest.mark.parametrize(
    "rules", ["loud", "=", "threshold", "threshold high", "id 1.5", "stuff now"]
)
def test_rules_that_do_not_exist(rules: str) -> None:
    with pytest.raises(VocabularyError, match=r"is not understood.*threshold 0\.9"):
        parse_line(f"mug [{rules}]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entries": [Word("mug", threshold=1.5)]}, "threshold of 'mug' is 1.5"),
        ({"entries": ["mug"], "thresholds": {"cup": 0.5}}, "thresholds names 'cup'"),
        ({"entries": ["mug"], "stuff": ["cup"]}, "stuff names 'cup'"),
        ({"entries": ["mug"], "negatives": ["mug"]}, "twice"),
        ({"entries": [Word("mug", negative=True)]}, "negative"),
        ({"entries": ["mug"], "other": "mug"}, "other class 'mug'"),
        ({"entries": ["mug"], "other": " "}, "empty"),
        ({"entries": ["mug"], "other": Word("x", negative=True)}, "other class 'x' is negative"),
        ({"entries": ["mug"], "other": Word("x", ("y",))}, "other class 'x' .* synonyms"),
        ({"entries": ["mug"], "other": ["x"]}, r"other class is \['x'\]"),
        ({"entries": ["mug"], "stuff": None}, "stuff is None"),
        ({"entries": ["mug"], "thresholds": ["mug"]}, "thresholds is"),
        ({"entries": [Word("a", id=MAX_ID), "b", "c"]}, f"get the id {MAX_ID + 2}"),
        ({"entries": [Word("a", id=3), Word("b", id=3)]}, "id 3"),
        ({"entries": [Word("a", id=-1)]}, "id -1"),
        ({"entries": [["mug", ["cup"]]]}, "entry 0 is a list"),
        ({"entries": "mug"}, "is a str"),
        ({"entries": []}, "empty"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.parse(**arguments)  # type: ignore[arg-type]


# --- ids ------------------------------------------------------------------------------------------


@given(first=NAMES, second=NAMES, third=NAMES)
@example(first=["a", "b"], second=["b"], third=["b", "a", "c"])
def test_a_label_keeps_its_id_and_no_id_is_given_twice(
    first: list[str], second: list[str], third: list[str]
) -> None:
    of_label: dict[str, int] = {}
    given_out: set[int] = set()
    words = Vocabulary.parse(first)
    for names in (first, second, third):
        earlier, words = words, Vocabulary.parse(names).keeping_ids_of(words)
        before = dict(zip(earlier.labels, earlier.ids.tolist(), strict=True))
        now = dict(zip(words.labels, words.ids.tolist(), strict=True))
        assert words.labels == tuple(names), "the order is the caller's"
        for label, id_ in now.items():
            assert id_ == before.get(label, id_)
            if label not in before and of_label:
                assert id_ not in given_out, "a new word never gets an id of an old one"
        of_label = now
        given_out |= set(now.values())


def test_a_label_keeps_its_id_whether_it_is_a_word_or_the_other_class() -> None:
    words = Vocabulary.parse(["mug", "cup"], other="thing")
    swapped = Vocabulary.parse(["thing", "mug"], other="cup").keeping_ids_of(words)
    assert dict(zip(swapped.labels, swapped.ids.tolist(), strict=True)) == {
        "thing": 2, "mug": 0, "cup": 1
    }  # fmt: skip
    renamed = Vocabulary.parse(words, other="something")
    assert renamed.ids.tolist() == [0, 1, 3], "a new label gets no id of another"


def test_words_come_and_go() -> None:
    words = Vocabulary.parse(["mug", "cup", "box"], other="other")
    less = words.without("cup")
    assert (less.labels, less.ids.tolist()) == (("mug", "box", "other"), [0, 2, 3])
    more = less.with_words("plate", Word("hand", negative=True))
    assert more.labels == ("mug", "box", "plate", "hand", "other")
    assert more.ids.tolist() == [0, 2, 4, 5, 3]
    assert more.without("other").other is None
    for vocabulary, gone in (
        (words, ["spoon"]),
        (words, words.labels[:3]),
        (more, more.labels[:3]),
    ):
        with pytest.raises(VocabularyError):
            vocabulary.without(*gone)


def test_ids_of_ones_own() -> None:
    words = Vocabulary.parse([Word("mug", id=7), "cup", Word("box", id=2)], other="other")
    assert words.ids.tolist() == [7, 8, 2, 9] and words.next_id == 10


def test_numbers_may_be_numpys() -> None:
    words = Vocabulary.parse([Word("mug", threshold=np.float32(0.5), id=np.int64(7)), "cup"])
    assert words == Vocabulary.parse([Word("mug", threshold=0.5, id=7), "cup"])
    assert read_back(words) == words


def test_no_id_is_beyond_what_a_map_holds() -> None:
    words = Vocabulary.parse([Word("mug", id=MAX_ID)])
    assert words.without().ids.tolist() == [MAX_ID]
    with pytest.raises(VocabularyError, match=f"get the id {MAX_ID + 1}"):
        words.with_words("cup")
    with pytest.raises(VocabularyError, match="next_id"):
        words_from_json(b'{"words": ["mug"], "next_id": 1099511627776}')


# --- files ----------------------------------------------------------------------------------------


@given(vocabularies())
@settings(deadline=None)
def test_json_keeps_everything(words: Vocabulary) -> None:
    assert read_back(words) == words


@pytest.mark.parametrize("name", ["kitchen.txt", "kitchen.json"])
def test_files_are_read_as_written(tmp_path: Path, name: str) -> None:
    words = Vocabulary.parse(
        ["mug", Word("sofa", ("couch",), stuff=True, threshold=0.25)], negatives=["hand"], other="x"
    )
    words.save(tmp_path / name)
    assert Vocabulary.load(tmp_path / name) == words


def test_a_file_that_people_write(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.txt"
    path.write_text("\ufeff# things\nmug | cup\n\n knife [threshold 0.9]\nhand [negative]\n")
    words = Vocabulary.load(path)
    assert words.labels == ("mug", "knife", "hand") and words.ids.tolist() == [0, 1, 2]


def test_a_mark_of_byte_order_hides_no_json(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.json"
    path.write_text('\ufeff[\n"mug",\n"cup"\n]\n')
    assert Vocabulary.load(path) == Vocabulary.parse(["mug", "cup"])


def test_one_line_may_be_other() -> None:
    with pytest.raises(VocabularyError, match="second other class"):
        parse_lines(["a [other]", "b [other]"])


def test_json_that_people_write() -> None:
    document = ["mug", ["sofa", "couch"], {"name": "knife", "threshold": 0.9}]
    words = Vocabulary.from_list(words_from_json(json.dumps(document).encode()))
    assert words == Vocabulary.parse(["mug", ["sofa", "couch"], Word("knife", threshold=0.9)])


@pytest.mark.parametrize(
    "document",
    [
        b"[",
        b"{}",
        b'{"words": "mug"}',
        b'[{"nam": "mug"}]',
        b'[{"name": "mug", "stuff": 1}]',
        b'[{"name": "mug", "synonyms": "cup"}]',
        b'[{"name": 7}]',
        b'["mug", null]',
        b'{"words": ["mug"], "version": 2}',
        b'{"words": ["mug"], "format": "other"}',
        b'{"words": ["mug"], "next_id": -1}',
        b'{"words": ["mug"], "other": "x"}',
        b'{"words": ["mug"], "words": ["cup"]}',
        b"[" * 100_000,
    ],
)
def test_json_that_is_no_vocabulary(document: bytes) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary.from_list(words_from_json(document))


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_words_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    with contextlib.suppress(VocabularyError):
        assert Vocabulary.load(path).words


def test_names_that_are_no_line_need_json(tmp_path: Path) -> None:
    words = Vocabulary.parse(["a | b", "# c", "d [stuff]"])
    with pytest.raises(VocabularyError, match=r"\.json"):
        words.save(tmp_path / "words.txt")
    words.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == words
    with pytest.raises(VocabularyError, match="cannot be written"):
        words.save(tmp_path / "nowhere" / "words.json")
    assert [path.name for path in tmp_path.iterdir()] == ["words.json"]


@pytest.mark.timeout(20)
def test_a_file_of_words_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "words.txt")
    with pytest.raises(VocabularyError, match="named pipe"):
        Vocabulary.load(tmp_path / "words.txt")
