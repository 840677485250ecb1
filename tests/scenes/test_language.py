"""Phrases, captions and questions: each is checked against the map by another reading of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xdecoder_rt.scenes.language import Description, describe_picture, mirrored, plural_name
from xdecoder_rt.scenes.language.colour import COLOURS, colour_shares, colour_word
from xdecoder_rt.scenes.language.english import NUMBERS, counted_name, indefinite
from xdecoder_rt.scenes.language.kinds import alike, covers
from xdecoder_rt.scenes.language.layout import APART, NEAR_GAP
from xdecoder_rt.scenes.language.phrases import LARGER, MOST_PHRASES, SIDE_APART
from xdecoder_rt.scenes.meshes.paint import NAMED_COLOURS

HEIGHT, WIDTH = 60, 80
NAMES = ("mug", "cube", "bin", "screw", "pear", "owl")
ABSENT = ("banana", "wrench", "giraffe", "cardboard box", "trumpet", "scissors")
STUFF = ("floor", "wall")
VOCABULARY = (*NAMES, "table", *ABSENT, *STUFF)
PAINT = {
    word: tuple(round(255 * level) for level in colour) for word, colour in NAMED_COLOURS.items()
}


@dataclass
class Picture:
    """A picture made of painted rectangles, and what was painted."""

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    labels: dict[int, str]
    paint: dict[int, str]

    def described(self, seed: int) -> Description:
        rng = np.random.default_rng(seed)
        return describe_picture(self.image, self.ids, self.labels, VOCABULARY, STUFF, rng)

    def flipped(self) -> Picture:
        return Picture(self.image[:, ::-1], self.ids[:, ::-1], self.labels, self.paint)


def picture(
    *boxes: tuple[str, str, int, int, int, int], behind: tuple[str, ...] = ("floor",)
) -> Picture:
    """Boxes (label, colour, left, top, width, height), later ones in front, before some stuff."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels, paint = {}, {}
    strips = [(name, "grey", 0, i * 30, WIDTH, HEIGHT) for i, name in enumerate(behind)]
    for number, (label, colour, left, top, width, height) in enumerate((*strips, *boxes), 1):
        area = (slice(top, top + height), slice(left, left + width))
        image[area], ids[area] = PAINT[colour], number
        labels[number], paint[number] = label, colour
    seen = set(np.unique(ids).tolist())
    labels = {number: label for number, label in labels.items() if number in seen}
    return Picture(image, ids, labels, paint)


boxes = st.tuples(
    st.sampled_from([*NAMES, "table"]),
    st.sampled_from(sorted(PAINT)),
    st.integers(0, WIDTH - 4),
    st.integers(0, HEIGHT - 4),
    st.integers(3, 30),
    st.integers(3, 30),
)
pictures = st.builds(
    lambda some, behind: picture(*some, behind=behind),
    st.lists(boxes, max_size=9),
    st.sampled_from([(), ("floor",), ("wall", "floor")]),
)
seeds = st.integers(0, 1000)
quick = settings(deadline=None, max_examples=60)


# A reading of the texts that shares no code with what writes them: it knows the pixels of each
# segment and what was painted, and reads words by their plain meaning, without any margin.

COLOUR = f"(?:(?P<colour>{'|'.join(COLOURS)}) )?"
NAME = rf"(?P<name>{'|'.join(sorted((*NAMES, *STUFF, 'table'), key=len, reverse=True))})"
RELATION = (
    r"(?P<relation>left of|to the left of|on the left side of|right of|to the right of"
    r"|on the right side of|above|below|next to|beside)"
)
TARGET = COLOUR.replace("colour", "other_colour") + NAME.replace("<name>", "<other>")


def spots(p: Picture, number: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.nonzero(p.ids == number)


def x_of(p: Picture, number: int) -> float:
    return float(spots(p, number)[1].mean()) / WIDTH


def y_of(p: Picture, number: int) -> float:
    return float(spots(p, number)[0].mean()) / HEIGHT


def size_of(p: Picture, number: int) -> int:
    return int((p.ids == number).sum())


def distance(p: Picture, one: int, other: int) -> float:
    (ya, xa), (yb, xb) = spots(p, one), spots(p, other)
    dx = max(xb.min() - xa.max(), xa.min() - xb.max(), 0) / WIDTH
    dy = max(yb.min() - ya.max(), ya.min() - yb.max(), 0) / HEIGHT
    return float(np.hypot(dx, dy))


def stands(p: Picture, one: int, words: str, other: int) -> bool:
    if "left" in words:
        return x_of(p, one) < x_of(p, other)
    if "right" in words:
        return x_of(p, one) > x_of(p, other)
    if words == "above":
        return y_of(p, one) < y_of(p, other)
    if words == "below":
        return y_of(p, one) > y_of(p, other)
    return distance(p, one, other) < 0.1


def called(p: Picture, name: str, colour: str | None = None) -> set[int]:
    return {
        number
        for number, label in p.labels.items()
        if label == name and colour in (None, p.paint[number])
    }


def the_one(found: set[int]) -> int:
    (number,) = found
    return number


def meant(p: Picture, text: str) -> set[int]:
    """The segments that a phrase means."""
    text = text.removeprefix("the ")
    for name in NAMES + ("table",):
        if text in (
            f"all {plural_name(name)}",
            f"both {plural_name(name)}",
            f"all the {plural_name(name)}",
        ):
            return called(p, name)
        if text in (f"every {name}", plural_name(name)):
            return called(p, name)
        if match := re.fullmatch(COLOUR + plural_name(name), text):
            return called(p, name, match["colour"])
    if match := re.fullmatch(COLOUR + NAME, text):
        return called(p, match["name"], match["colour"])
    if match := re.fullmatch(f"{NAME} {RELATION} the {TARGET}", text):
        target = the_one(called(p, match["other"], match["other_colour"]))
        found = called(p, match["name"])
        if match["relation"] in ("next to", "beside"):
            near = min(found, key=lambda number: distance(p, number, target))
            assert distance(p, near, target) < 0.1
            return {near}
        return {number for number in found if stands(p, number, match["relation"], target)}
    if match := re.fullmatch(rf"(largest|biggest|larger|bigger|smallest|smaller) {NAME}", text):
        choose = min if match[1].startswith("small") else max
        return {choose(called(p, match["name"]), key=lambda number: size_of(p, number))}
    if match := re.fullmatch(f"{NAME} in the middle", text):
        return {min(called(p, match["name"]), key=lambda number: abs(x_of(p, number) - 0.5))}
    places = (
        rf"{NAME} (?:on the|at the) (?:far )?(?P<side>left|right|top|bottom)(?: side)?",
        rf"(?P<side>left|right|left(?=most)|right(?=most)|top(?=most)|lowest)(?:most)? {NAME}",
    )
    for pattern in places:
        if match := re.fullmatch(pattern, text):
            side, where = match["side"], x_of if match["side"] in ("left", "right") else y_of
            choose = min if side in ("left", "top") else max
            found = choose(called(p, match["name"]), key=lambda number: where(p, number))
            nearness = where(p, found) if choose is min else 1 - where(p, found)
            assert nearness < 0.5, text
            return {found}
    raise AssertionError(f"not understood: {text}")


def is_true(p: Picture, statement: str) -> bool:
    """Whether what follows "is" in a question that is answered by yes or no is so."""
    if match := re.fullmatch(r"there (?:an? )?(.+?)(?: in the picture| here)?\?", statement):
        return match[1] in p.labels.values()
    if match := re.fullmatch(rf"the {NAME} (?P<colour>\w+)\?", statement):
        return p.paint[the_one(called(p, match["name"]))] == match["colour"]
    match = re.fullmatch(f"the {COLOUR}{NAME} {RELATION} the {TARGET}\\?", statement)
    assert match, statement
    one = the_one(called(p, match["name"], match["colour"]))
    return stands(
        p, one, match["relation"], the_one(called(p, match["other"], match["other_colour"]))
    )


def answers_of(p: Picture, text: str) -> set[str]:
    """Every answer that the picture allows to a question."""
    if match := re.fullmatch(r"can you see (?:an? )?(.+)\?", text):
        return {"yes" if match[1] in p.labels.values() else "no"}
    if match := re.fullmatch(r"(?:is|are) (.*)", text):
        return {"yes" if is_true(p, match[1]) else "no"}
    if match := re.fullmatch(r"how many (\w+) .*\?", text):
        name = the_one_name(match[1])
        return {NUMBERS[len(called(p, name))]}
    if match := re.fullmatch(rf"what colour is the {NAME}\?", text):
        return {p.paint[the_one(called(p, match["name"]))]}
    if match := re.fullmatch(rf"where (?:in the picture )?is the {COLOUR}{NAME}\?", text):
        x = x_of(p, the_one(called(p, match["name"], match["colour"])))
        return {"left" if x < 0.4 else "right" if x > 0.6 else "middle"}
    if match := re.fullmatch(rf"(?:what|which of these) is {RELATION} the {TARGET}\?", text):
        target = the_one(called(p, match["other"], match["other_colour"]))
        things = [n for n in p.labels if n != target and p.labels[n] not in STUFF]
        return {p.labels[n] for n in things if stands(p, n, match["relation"], target)}
    if match := re.fullmatch(rf"what is the {COLOUR}{NAME} on\?", text):
        number = the_one(called(p, match["name"], match["colour"]))
        rows, columns = spots(p, number)
        below = p.ids[rows.max() + 3, columns.min() : columns.max() + 1]
        return {p.labels.get(int(n), "") for n in below}
    if text == "what is in the background?":
        return {label for label in p.labels.values() if label in STUFF}
    match = re.fullmatch(r"(?:what is|which object is) (?:the )?(\w+)(?: object)?\?", text)
    assert match, text
    return {label for n, label in p.labels.items() if p.paint[n] == match[1] and label not in STUFF}


def the_one_name(many: str) -> str:
    (name,) = {name for name in (*NAMES, "table") if plural_name(name) == many}
    return name


def check_phrases(p: Picture, texts: Description) -> None:
    assert len(texts.phrases) <= MOST_PHRASES
    assert len({phrase.text for phrase in texts.phrases}) == len(texts.phrases)
    for phrase in texts.phrases:
        assert meant(p, phrase.text) == set(phrase.ids), phrase


def check_questions(p: Picture, texts: Description) -> None:
    for question in texts.questions:
        (answer,) = question.answers
        allowed = answers_of(p, question.text)
        assert answer in allowed, question
        if question.choices is None:
            continue
        assert 2 <= len(question.choices) <= 5
        assert len(set(question.choices)) == len(question.choices)
        assert answer in question.choices
        if not question.text.startswith("what") or " on?" not in question.text:
            assert len(allowed & set(question.choices)) == 1, question


ITEM = f"(?:(?P<count>an?|some|{'|'.join(NUMBERS[2:])}) )" + COLOUR


def check_captions(p: Picture, texts: Description) -> None:
    assert len(texts.captions) == len(set(texts.captions))
    for caption in texts.captions:
        assert 5 <= len(caption.split()) <= 20
        for name in (*NAMES, "table"):
            for match in re.finditer(rf"{ITEM}(?P<noun>{name}|{plural_name(name)})\b", caption):
                found = called(p, name, match["colour"])
                assert found, caption
                if match["count"] in NUMBERS:
                    assert len(found) == NUMBERS.index(match["count"]), caption
        item = r"(?:an? |some )"
        related = rf"{item}{COLOUR}{NAME}(?: is)? {RELATION} {item}{TARGET}"
        if match := re.search(related, caption):
            assert any(
                stands(p, one, match["relation"], other)
                for one in called(p, match["name"], match["colour"])
                for other in called(p, match["other"], match["other_colour"])
            ), caption
        for match in re.finditer(
            rf"{item}{COLOUR}{NAME} on the (?P<side>left|right)(?! side)\b", caption
        ):
            xs = [x_of(p, number) for number in called(p, match["name"], match["colour"])]
            assert min(xs) < 0.4 if match["side"] == "left" else max(xs) > 0.6, caption
        if caption.startswith("from "):
            check_order(p, caption)


def check_order(p: Picture, caption: str) -> None:
    way, row = caption.removeprefix("from ").split(": ")
    names = re.split(", | and ", row)
    at = -1.0
    for item in names if way == "left to right" else reversed(names):
        match = re.fullmatch(rf"an? {COLOUR}{NAME}", item)
        assert match, caption
        further = [x for n in called(p, match["name"], match["colour"]) if (x := x_of(p, n)) > at]
        assert further, caption
        at = min(further)


@quick
@given(pictures, seeds)
def test_every_text_is_true_of_its_picture(p: Picture, seed: int) -> None:
    texts = p.described(seed)
    check_phrases(p, texts)
    check_questions(p, texts)
    check_captions(p, texts)


@quick
@given(pictures, seeds)
def test_mirrored_texts_are_true_of_the_mirrored_picture(p: Picture, seed: int) -> None:
    texts, flipped = p.described(seed), p.flipped()
    for phrase in texts.phrases:
        assert meant(flipped, mirrored(phrase.text)) == set(phrase.ids)
    for question in texts.questions:
        answer = mirrored(question.answers[0])
        assert answer in answers_of(flipped, mirrored(question.text)), question
    check_captions(
        flipped, Description((), tuple(mirrored(caption) for caption in texts.captions), ())
    )


@quick
@given(pictures, seeds)
def test_mirroring_twice_gives_the_text_again(p: Picture, seed: int) -> None:
    texts = p.described(seed)
    for text in (
        *(phrase.text for phrase in texts.phrases),
        *texts.captions,
        *(question.text for question in texts.questions),
        *(answer for question in texts.questions for answer in question.answers),
    ):
        assert mirrored(mirrored(text)) == text
        assert (mirrored(text) == text) == (re.search("left|right", text) is None)


def test_mirroring_exchanges_words_and_not_parts_of_words() -> None:
    assert mirrored("the leftmost bright cube left of the Right bin") == (
        "the rightmost bright cube right of the Left bin"
    )


@quick
@given(pictures, seeds)
def test_texts_depend_on_the_arguments_alone(p: Picture, seed: int) -> None:
    assert p.described(seed) == p.described(seed)


@quick
@given(pictures, seeds)
def test_a_picture_with_things_gets_three_captions_and_some_questions(
    p: Picture, seed: int
) -> None:
    texts = p.described(seed)
    things = set(p.labels.values()) - set(STUFF)
    assert len(texts.captions) == (3 if p.labels else 0)
    assert bool(texts.questions) == bool(things)
    assert len(texts.questions) <= 5
    assert not texts.phrases or p.labels


def texts_of(p: Picture, runs: int = 60) -> list[Description]:
    return [p.described(seed) for seed in range(runs)]


def phrase_texts(p: Picture) -> set[str]:
    return {phrase.text for texts in texts_of(p) for phrase in texts.phrases}


ROW = picture(
    ("mug", "red", 5, 25, 10, 10),
    ("mug", "blue", 35, 25, 10, 10),
    ("bin", "green", 60, 25, 12, 10),
    behind=("wall", "floor"),
)


def test_the_common_forms_are_all_written() -> None:
    found = phrase_texts(ROW)
    assert found >= {
        "the bin", "bin", "the green bin", "the red mug", "the mugs", "every mug",
        "the mug on the left", "the mug in the middle", "the floor", "the wall",
        "the bin on the right",
    }  # fmt: skip
    questions = {q.text for texts in texts_of(ROW) for q in texts.questions}
    assert questions >= {
        "is there a bin?", "how many mugs are there?", "what colour is the bin?",
        "where is the bin?", "which object is green?",
    }  # fmt: skip


def test_answers_are_balanced_between_yes_and_no() -> None:
    answers = [q.answers[0] for texts in texts_of(ROW, 300) for q in texts.questions]
    yes, no = answers.count("yes"), answers.count("no")
    assert abs(yes - no) < 0.1 * (yes + no)
    assert 0.25 < (yes + no) / len(answers) < 0.55


def test_open_answers_are_names_colours_numbers_places_and_yes_or_no() -> None:
    allowed = {*VOCABULARY, *COLOURS, *NUMBERS, "left", "middle", "right", "yes", "no"}
    assert {q.answers[0] for texts in texts_of(ROW) for q in texts.questions} <= allowed


def test_sides_are_told_only_where_the_margin_is_kept() -> None:
    def sides(apart: int) -> bool:
        p = picture(("mug", "red", 20, 20, 8, 8), ("mug", "red", 20 + apart, 20, 8, 8))
        return any("left" in text for text in phrase_texts(p))

    near, far = int(SIDE_APART * WIDTH) - 1, int(SIDE_APART * WIDTH) + 1
    assert not sides(near)
    assert sides(far)


def test_sizes_are_told_only_where_the_margin_is_kept() -> None:
    def sizes(width: int) -> bool:
        p = picture(("mug", "red", 10, 20, 10, 10), ("mug", "red", 40, 20, width, 10))
        return any("larg" in text or "bigg" in text for text in phrase_texts(p))

    assert not sizes(int(10 * LARGER) - 1)
    assert sizes(int(10 * LARGER) + 1)


def test_relations_are_told_only_where_the_margins_are_kept() -> None:
    def relations(x: int, y: int) -> set[str]:
        p = picture(("mug", "red", 30, 25, 6, 6), ("bin", "green", 30 + x, 25 + y, 6, 6))
        words = ("left of", "above", "next to", "beside")
        return {w for w in words for t in phrase_texts(p) if f"mug {w}" in t}

    assert "left of" not in relations(int(APART * WIDTH) - 1, 0)
    assert "left of" in relations(int(APART * WIDTH) + 1, 0)
    assert "left of" not in relations(12, 20)  # rather above
    assert "above" in relations(2, 14)
    assert relations(7, 0) >= {"next to", "beside"}
    assert not relations(6 + int(NEAR_GAP * WIDTH) + 1, 0) & {"next to", "beside"}


def test_what_has_a_more_general_name_present_is_not_named_by_it() -> None:
    p = picture(("screw", "red", 10, 20, 8, 8), ("bin", "green", 50, 20, 8, 8))
    p.labels[2], p.labels[3] = "soccer ball", "ball"
    vocabulary = ("soccer ball", "ball", *VOCABULARY)
    rng = np.random.default_rng(0)
    for _ in range(20):
        texts = describe_picture(p.image, p.ids, p.labels, vocabulary, STUFF, rng)
        assert not any(re.match("(the )?ball", phrase.text) for phrase in texts.phrases)
        for question in texts.questions:
            assert not question.text.startswith("how many balls")
            if question.text.startswith(("is there", "can you see")) and "ball" in question.text:
                assert question.answers == ("yes",)


def test_colours_that_two_of_a_kind_share_do_not_tell_them_apart() -> None:
    p = picture(("mug", "red", 10, 20, 8, 8), ("mug", "red", 50, 20, 8, 8))
    assert not any(re.search(r"red mug\b", text) for text in phrase_texts(p))


def test_a_thing_is_on_a_surface_only_if_that_is_below_it_and_on_both_its_sides() -> None:
    def surfaces(*boxes: tuple[str, str, int, int, int, int]) -> set[str]:
        questions = [q for texts in texts_of(picture(*boxes)) for q in texts.questions]
        return {q.answers[0] for q in questions if q.text == "what is the mug on?"}

    table = ("table", "brown", 10, 20, 60, 30)
    assert surfaces(table, ("mug", "red", 30, 28, 8, 10)) == {"table"}
    assert surfaces(("mug", "red", 30, 10, 8, 20), table) == set()  # behind the table
    assert surfaces(table, ("mug", "red", 30, 40, 8, 19)) == set()  # before it
    assert surfaces(table, ("mug", "red", 3, 52, 6, 4)) == {"floor"}


@quick
@given(
    st.sampled_from(sorted(NAMED_COLOURS)),
    st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=3),
    st.floats(0.75, 1.0),
)
def test_a_colour_in_worse_light_gets_its_word_or_none(
    word: str, jitter: list[float], light: float
) -> None:
    colour = np.clip(np.add(NAMED_COLOURS[word], jitter), 0, 1) * light
    image = np.full((8, 8, 3), 255, np.uint8)
    image[4:] = np.round(255 * colour)
    places = np.repeat([0, 1], 32).reshape(8, 8)
    assert colour_word(colour_shares(image, places, 2)[1]) in (word, "")


@pytest.mark.parametrize("word", sorted(NAMED_COLOURS))
def test_the_middle_of_a_colour_is_certain_and_half_of_it_is_not(word: str) -> None:
    image = np.full((8, 8, 3), 255, np.uint8)
    image[4:] = PAINT[word]
    places = np.repeat([0, 1], 32).reshape(8, 8)
    assert colour_word(colour_shares(image, places, 2)[1]) == word
    image[6:] = PAINT["green" if word != "green" else "red"]
    assert colour_word(colour_shares(image, places, 2)[1]) == ""


def test_dull_colours_are_not_certain_in_a_dark_picture() -> None:
    image = np.full((8, 8, 3), 20, np.uint8)
    assert colour_word(colour_shares(image, np.zeros((8, 8), np.int64), 1)[0]) == ""


def test_counting_and_articles() -> None:
    assert counted_name("mug", 1) == "a mug"
    assert counted_name("mug", 3, "red") == "three red mugs"
    assert counted_name("bread", 2) == "some bread"
    assert counted_name("scissors", 2) == "several scissors"
    assert counted_name("egg", 40) == "many eggs"
    assert counted_name("santa claus", 1) == "santa claus"
    assert indefinite("mug", "orange") == "an orange mug"
    assert indefinite("hourglass", "blue") == "a blue hourglass"


def test_names_that_may_be_exchanged() -> None:
    assert covers("ball", "soccer ball")
    assert not covers("soccer ball", "ball")
    assert covers("mug", "coffee mug")
    assert covers("coffee mug", "mug")
    assert alike("trash can", "bin")
    assert not alike("mug", "wrench")


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 255))
def test_any_id_of_a_byte_may_be_used(number: int) -> None:
    p = picture(("mug", "red", 30, 20, 10, 10), behind=())
    p.ids[p.ids == 1] = number
    p.labels, p.paint = {number: "mug"}, {number: "red"}
    check_phrases(p, p.described(0))
