"""Questions on a picture, each with one answer that nobody would dispute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from xdecoder_rt.datasets.items import AnsweredQuestion
from xdecoder_rt.scenes.language.choosing import Rng, pick, shuffled
from xdecoder_rt.scenes.language.colour import COLOURS, NEAR
from xdecoder_rt.scenes.language.english import (
    NUMBERS,
    has_plural,
    indefinite,
    is_plural,
    plural_name,
)
from xdecoder_rt.scenes.language.kinds import alike
from xdecoder_rt.scenes.language.layout import (
    ABOVE,
    BELOW,
    LEFT,
    NEXT,
    RELATIONS,
    RIGHT,
    PictureLayout,
    PictureRegion,
)
from xdecoder_rt.scenes.language.phrases import reference

__all__ = ["MOST_QUESTIONS", "questions"]

MOST_QUESTIONS: Final = 5
LEAST_QUESTIONS: Final = 4  # where the picture gives so many
PLACES: Final = ("left", "middle", "right")
ANSWER_SIDE: Final = 0.34
"""A thing is left or right if its centre is within this share of the picture from there ..."""
SIDE_CLEAR: Final = 0.5
"""... and its box does not reach beyond this share."""
MIDDLE: Final = 0.07
"""A thing is in the middle if its centre is this close to the picture's ..."""
ANSWER_MIDDLE_WIDTH: Final = 0.4
"""... and its box is no wider than this."""
MOST_COUNTED: Final = 6

_OFFERED: Final = 0.45  # share of the questions that come with choices
_MOST_CHOICES: Final = 5
_LONE_UNASKED: Final = 0.6
_OPPOSITE: Final = {LEFT: RIGHT, RIGHT: LEFT, ABOVE: BELOW, BELOW: ABOVE}


def questions(layout: PictureLayout, rng: Rng) -> tuple[AnsweredQuestion, ...]:
    """Write up to five questions of mixed kinds; about two of them have answers yes or no.

    The open answers are names, colour words, numbers in words, "yes" and "no", and places.
    """
    if not layout.things:
        return ()
    yes = bool(rng.random() < 0.5)
    candidates = [_yes_or_no(layout, rng, yes), _yes_or_no(layout, rng, not yes)]
    kinds: list[Callable[[PictureLayout, Rng], AnsweredQuestion | None]] = [
        _what_related, _what_on, _what_coloured, _what_behind, _where, _how_many, _colour,
    ]  # fmt: skip
    for kind in shuffled(rng, kinds):
        if sum(question is not None for question in candidates) < MOST_QUESTIONS:
            candidates.append(kind(layout, rng))
    if sum(question is not None for question in candidates) < LEAST_QUESTIONS:
        candidates.append(_yes_or_no(layout, rng, bool(rng.random() < 0.5)))
    by_text = {question.text: question for question in candidates if question is not None}
    return tuple(shuffled(rng, list(by_text.values())))


def _question(rng: Rng, text: str, answer: str, wrong_answers: Sequence[str]) -> AnsweredQuestion:
    """Return an open question, or one with choices: the right answer and wrong ones."""
    if not wrong_answers or rng.random() >= _OFFERED:
        return AnsweredQuestion(text, (answer,))
    wrong = shuffled(rng, wrong_answers, int(rng.integers(1, _MOST_CHOICES)))
    return AnsweredQuestion(text, (answer,), tuple(shuffled(rng, [answer, *wrong])))


def _be(region: PictureRegion) -> str:
    return "are" if is_plural(region.label) else "is"


def _absent(layout: PictureLayout, rng: Rng, count: int) -> list[str]:
    """Return names of the vocabulary that nothing in the picture could be called."""
    present = {region.label for region in (*layout.things, *layout.stuff)}
    names: list[str] = []
    for name in shuffled(rng, layout.vocabulary, 8 * count):
        if len(names) < count and not any(alike(name, other) for other in present):
            names.append(name)
    return names


def _references(layout: PictureLayout, rng: Rng) -> list[tuple[PictureRegion, str]]:
    names = [(thing, reference(rng, layout, thing)) for thing in shuffled(rng, layout.things)]
    return [(thing, name) for thing, name in names if name]


def _yes_or_no(layout: PictureLayout, rng: Rng, yes: bool) -> AnsweredQuestion | None:
    kinds = shuffled(rng, (_is_related, _is_coloured, _is_there, _is_there))
    for kind in (*kinds, _is_there):
        text = kind(layout, rng, yes)
        if text:
            return _question(rng, text, "yes" if yes else "no", ["no" if yes else "yes"])
    return None


def _is_there(layout: PictureLayout, rng: Rng, yes: bool) -> str:
    names = layout.kinds() if yes else _absent(layout, rng, 1)
    if not names:
        return ""
    name = pick(rng, names)
    verb = "are" if is_plural(name) else "is"
    ends = ("", "", " in the picture", " here")
    if rng.random() < 0.15:
        return f"can you see {indefinite(name)}?"
    return f"{verb} there {indefinite(name)}{pick(rng, ends)}?"


def _is_related(layout: PictureLayout, rng: Rng, yes: bool) -> str:
    named = _references(layout, rng)
    for relation in shuffled(rng, RELATIONS):
        for region, name in named:
            for other, other_name in named:
                if region is other or not relation.holds(region, other):
                    continue
                if not yes and relation is NEXT:
                    continue
                stated = relation if yes else _OPPOSITE[relation]
                return f"{_be(region)} {name} {pick(rng, stated.words)} {other_name}?"
    return ""


def _is_coloured(layout: PictureLayout, rng: Rng, yes: bool) -> str:
    for thing in shuffled(rng, layout.things):
        if thing.colour and layout.is_only(thing):
            colour = thing.colour if yes else pick(rng, _other_colours(thing))
            return f"{_be(thing)} the {thing.label} {colour}?"
    return ""


def _other_colours(region: PictureRegion) -> list[str]:
    """Colours that the region certainly has not and that are not close to its own."""
    return [
        word
        for word in COLOURS
        if word != region.colour
        and frozenset((word, region.colour)) not in NEAR
        and region.is_not(word)
    ]


def _what_related(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    for target, name in _references(layout, rng):
        others = [
            thing for thing in layout.things if thing is not target and not thing.encloses(target)
        ]
        for relation in shuffled(rng, RELATIONS):
            holding = [thing for thing in others if relation.holds(thing, target)]
            failing = [thing for thing in others if relation.fails(thing, target)]
            if not holding:
                continue
            answer = pick(rng, holding).label
            words = pick(rng, relation.words)
            wrong = {thing.label for thing in failing} - {
                thing.label for thing in layout.things if thing not in failing
            }
            wrong = {label for label in sorted(wrong) if not alike(label, answer)}
            if len({thing.label for thing in holding}) == 1 and len(holding) + len(failing) == len(
                others
            ):
                text = f"what is {words} {name}?"
                return _question(rng, text, answer, [*sorted(wrong), *_absent(layout, rng, 2)])
            if wrong:
                text = f"which of these is {words} {name}?"
                options = shuffled(rng, sorted(wrong), int(rng.integers(1, _MOST_CHOICES)))
                return AnsweredQuestion(text, (answer,), tuple(shuffled(rng, [answer, *options])))
    return None


def _what_on(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    for thing, name in _references(layout, rng):
        if thing.on:
            other_surfaces = {region.label for region in layout.stuff} - {thing.on}
            text = f"what {_be(thing)} {name} on?"
            return _question(
                rng, text, thing.on, [*sorted(other_surfaces), *_absent(layout, rng, 2)]
            )
    return None


def _what_coloured(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    for thing in shuffled(rng, layout.things):
        others = [other for other in layout.things if other is not thing]
        if thing.colour and all(other.is_not(thing.colour) for other in others):
            wrong = {other.label for other in others if not alike(other.label, thing.label)}
            text = pick(rng, ("what is {}?", "which object is {}?", "what is the {} object?"))
            return _question(rng, text.format(thing.colour), thing.label, sorted(wrong))
    return None


def _what_behind(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    labels = sorted({region.label for region in layout.stuff})
    if len(labels) != 1 or sum(region.area for region in layout.stuff) < 0.3:
        return None
    return _question(rng, "what is in the background?", labels[0], _absent(layout, rng, 3))


def _where(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    for thing, name in _references(layout, rng):
        place = _place(thing)
        if place:
            text = pick(rng, ("where {} {}?", "where {} {}?", "where in the picture {} {}?"))
            other_places = [other for other in PLACES if other != place]
            return _question(rng, text.format(_be(thing), name), place, other_places)
    return None


def _place(region: PictureRegion) -> str:
    x, low, high = region.centre[0], region.low[0], region.high[0]
    if x <= ANSWER_SIDE and high <= SIDE_CLEAR:
        return "left"
    if 1 - x <= ANSWER_SIDE and 1 - low <= SIDE_CLEAR:
        return "right"
    return "middle" if abs(x - 0.5) <= MIDDLE and high - low <= ANSWER_MIDDLE_WIDTH else ""


def _how_many(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    present = layout.kinds()
    countable = [
        label
        for label in present
        if has_plural(label)
        and len(layout.of(label)) <= MOST_COUNTED
        and not any(other != label and alike(label, other) for other in present)
    ]
    several = [label for label in countable if len(layout.of(label)) > 1]
    options = several if several and rng.random() < 0.8 else countable
    if not options:
        return None
    if not several and rng.random() < _LONE_UNASKED:
        return None
    label = pick(rng, options)
    count = len(layout.of(label))
    ends = ("are there", "are there", "can you see", "are in the picture")
    near = [NUMBERS[n] for n in range(1, MOST_COUNTED + 1) if n != count]
    return _question(rng, f"how many {plural_name(label)} {pick(rng, ends)}?", NUMBERS[count], near)


def _colour(layout: PictureLayout, rng: Rng) -> AnsweredQuestion | None:
    for thing in shuffled(rng, layout.things):
        if thing.colour and layout.is_only(thing):
            text = f"what colour {_be(thing)} the {thing.label}?"
            return _question(rng, text, thing.colour, _other_colours(thing))
    return None
