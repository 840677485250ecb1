"""Vocabularies: what people may type, the ids that results carry, and the files that hold them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xdecoder_rt import Vocabulary, Word
from xdecoder_rt.errors import VocabularyError
from xdecoder_rt.words.files import parse_line, parse_lines, words_from_json, words_to_json
from xdecoder_rt.words.normal_form import clean_name, name_key
from xdecoder_rt.words.word import MAX_ID

NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
WORDS = NAME.filter(clean_name)
NAMES = st.lists(WORDS, min_size=1, max_size=6, unique_by=name_key)
TYPED = st.lists(
    WORDS.filter(lambda name: not set("[|") & set(name)), min_size=1, max_size=6, unique_by=name_key
)


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
        ({"entries": [["mug", "cup"]], "stuff": ["cup"]}, "stuff names 'cup'"),
        ({"entries": ["mug"], "stuff": ["cup [id 7]"]}, "brackets"),
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


@pytest.mark.parametrize(
    "typed",
    [
        "Bin", " bin ", "BIN\n", "b\u200bin", "\ufeffbin", "bin\u00ad", "\uff42\uff49\uff4e",
        "bin\ufe0f",
    ],
)  # fmt: skip
def test_words_that_the_tokenizer_reads_alike_are_one_word(typed: str) -> None:
    for entries, arguments in (
        (["bin", typed], {}),
        ([["box", "bin"], typed], {}),
        (["bin"], {"negatives": [typed]}),
        (["bin"], {"other": typed}),
    ):
        with pytest.raises(VocabularyError, match="twice|too"):
            Vocabulary.parse(entries, **arguments)  # type: ignore[arg-type]
    words = Vocabulary.parse(["bin", "mug"], [typed], thresholds={typed: 0.5})
    assert words.stuff == {"bin"} and words.labels == ("bin", "mug")
    assert words.thresholds[0] == 0.5
    assert words.without(typed).labels == ("mug",)
    renamed = Vocabulary.parse(["mug", typed]).keeping_ids_of(words)
    assert renamed.ids.tolist() == [1, 0]


def test_composed_and_decomposed_letters_and_spacing_make_one_word() -> None:
    for first, second in (
        ("caf\u00e9", "cafe\u0301"),
        ("coffee  mug", "coffee\u00a0mug"),
        ("chef's knife", "Chef \u2019s knife"),
        ("robot-arm", "robot - arm"),
        ("rubber_duck", "rubber duck"),
    ):
        with pytest.raises(VocabularyError, match="twice"):
            Vocabulary.parse([first, second])
    assert len(Vocabulary.parse(["robot arm", "robot-arm", "robotarm"]).labels) == 3


def test_a_label_of_two_thresholds_is_refused() -> None:
    with pytest.raises(VocabularyError, match="two spellings"):
        Vocabulary.parse(["bin"], thresholds={"bin": 0.5, "Bin": 0.6})


def test_a_word_that_is_only_stuff_is_looked_for_too() -> None:
    words = Vocabulary.parse(["mug"], ["Floor", "mug"], negatives=["hand"], other="thing")
    assert words.labels == ("mug", "Floor", "hand", "thing")
    assert words.stuff == {"mug", "Floor"}
    assert Vocabulary.parse(Vocabulary.parse(["mug"]), ["floor"]).ids.tolist() == [0, 1]
    assert Vocabulary.parse([], ["floor"]).labels == ("floor",)


WRONG_KINDS: list[object] = [
    5, 0.5, True, b"mug", object(), [5], [None], [["mug"], 5], {"mug": "x"}, "\ud800", ["\ud800"],
    np.zeros(2), {5: 0.5}, 10**5000, [10**5000], {"cup": 10**5000},
]  # fmt: skip


@pytest.mark.parametrize("name", ["stuff", "negatives", "thresholds", "other"])
def test_arguments_of_wrong_kinds_are_refused_as_ours(name: str) -> None:
    for entries in (["cup", "box"], Vocabulary.parse(["cup", "box"])):
        for value in WRONG_KINDS:
            with pytest.raises(VocabularyError):
                Vocabulary.parse(entries, **{name: value})  # type: ignore[arg-type]
    for value in WRONG_KINDS:
        with pytest.raises(VocabularyError):
            Vocabulary.parse(value)  # type: ignore[arg-type]


def test_rules_of_a_word_are_of_their_kinds() -> None:
    for make in (
        lambda: Word("mug", 5),  # type: ignore[arg-type]
        lambda: Vocabulary.parse([Word("mug", stuff="no")]),  # type: ignore[arg-type]
        lambda: Vocabulary.parse([Word("mug", negative=1)]),  # type: ignore[arg-type]
        lambda: Vocabulary.parse([Word("mug", threshold=10**5000)]),
        lambda: Vocabulary.parse([Word("mug", id=-(10**5000))]),
        lambda: Vocabulary.parse([Word(5)]),  # type: ignore[arg-type]
    ):
        with pytest.raises(VocabularyError):
            make()


def test_rules_of_a_line_are_no_names_in_python() -> None:
    for entry in ("mug [threshold 2]", "mug | cup", ["sofa", "couch [stuff]"]):
        for arguments in ({"entries": [entry]}, {"entries": ["x"], "negatives": [entry]}):
            with pytest.raises(VocabularyError, match="Word"):
                Vocabulary.parse(**arguments)  # type: ignore[arg-type]
    with pytest.raises(VocabularyError, match="Word"):
        Vocabulary.parse(["x"], other="other [threshold 0.5]")
    with pytest.raises(VocabularyError, match="Word"):
        Vocabulary.from_list(words_from_json(b'["mug | cup"]'))
    assert Vocabulary.parse([Word("mug [threshold 2]")]).texts == ("mug [threshold 2]",)


def test_sixty_thousand_words_with_one_id_twice_are_refused_at_once() -> None:
    words = [Word(f"w{i}", id=i) for i in range(60_000)]
    words.append(Word("last", id=59_999))
    started = time.perf_counter()
    with pytest.raises(VocabularyError, match="id 59999 is there twice"):
        Vocabulary.parse(words)
    assert time.perf_counter() - started < 10


# --- the void class's name ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed", ["background", "Background ", "back\u200bground", "background-stuff"]
)
def test_the_name_of_the_void_class_is_no_word(typed: str) -> None:
    suffixes = ("-stuff",)
    words = Vocabulary.parse([typed, "mug", ["sofa", "couch"]], other="other")
    kept = words.without_void("background", suffixes)
    assert kept.labels == ("mug", "sofa", "other") and kept.ids.tolist() == [1, 2, 3]
    assert kept is words.without_void("background", suffixes), "worked out once"
    negative = Vocabulary.parse(["mug"], negatives=[typed]).without_void("background", suffixes)
    assert negative.labels == ("mug",) and not negative.has_rules
    synonym = Vocabulary.parse([["wall", typed], "mug"]).without_void("background", suffixes)
    assert synonym.texts == ("wall", "mug") and synonym.labels == ("wall", "mug")
    group = Vocabulary.parse([[typed, "wall"], "mug"]).without_void("background", suffixes)
    assert group.texts == ("wall", "mug") and group.negative.tolist() == [True, False]
    for alone in ([typed], [[typed, "wall"]], [typed, Word("wall", negative=True)]):
        with pytest.raises(VocabularyError, match="no other word to find"):
            Vocabulary.parse(alone).without_void("background", suffixes)


def test_words_without_the_name_of_the_void_class_stay_as_they_are() -> None:
    words = Vocabulary.parse(["mug", "the background", "backgrounds"])
    assert words.without_void("background") is words


# --- ids ------------------------------------------------------------------------------------------


@given(first=TYPED, second=TYPED, third=TYPED)
@example(first=["a", "b"], second=["b"], third=["b", "a", "c"])
def test_a_label_keeps_its_id_and_no_id_is_given_twice(
    first: list[str], second: list[str], third: list[str]
) -> None:
    of_label: dict[str, int] = {}
    given_out: set[int] = set()
    words = Vocabulary.parse(first)
    for names in (first, second, third):
        earlier, words = words, Vocabulary.parse(names).keeping_ids_of(words)
        before = dict(zip(map(name_key, earlier.labels), earlier.ids.tolist(), strict=True))
        now = dict(zip(map(name_key, words.labels), words.ids.tolist(), strict=True))
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


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("- mug\n- cup\n", "YAML"),
        ("---\nmug\n", "YAML"),
        ("words:\n  mug\n", "YAML"),
        ("mug: cup\n", "YAML"),
        ("mug,cup\n", "CSV"),
        ("mug;cup;plate\n", "CSV"),
        ("mug\tcup\n", "CSV"),
        ('"mug"\n"cup"\n', "CSV"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=rf"words\.txt.*looks like a line of {kind}.*a line"):
        Vocabulary.load(path)


@pytest.mark.parametrize("line", ["mug [threshold 2", "[stuff] floor", "a [stuff] [id 7]", "a]"])
def test_brackets_that_are_no_rules_are_no_part_of_a_name(line: str) -> None:
    with pytest.raises(VocabularyError, match="brackets"):
        parse_line(line)


@pytest.mark.parametrize(
    "line", ["a" + " " * 90_000 + "b", "[" * 90_000, "a" + " [" * 45_000 + "]", ": " * 45_000]
)
def test_a_long_line_takes_no_long_time(line: str) -> None:
    started = time.perf_counter()
    with pytest.raises(VocabularyError):
        Vocabulary.from_list(parse_lines([line]))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("path", ["a\0b", 5, None, "\ud800"])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(VocabularyError, match="cannot be read"):
        Vocabulary.load(path)  # type: ignore[arg-type]


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
    words = Vocabulary.parse([Word("a | b"), "# c", Word("d [stuff]"), "e, f", "- g"])
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
