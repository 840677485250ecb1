"""Sentences that say what a picture shows, in several forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from xdecoder_rt.scenes.language.choosing import Rng, pick, shuffled
from xdecoder_rt.scenes.language.english import counted_name, is_plural, listed
from xdecoder_rt.scenes.language.layout import LEFT, RELATIONS, PictureLayout, PictureRegion

__all__ = ["CAPTIONS", "LEAST_WORDS", "MOST_WORDS", "captions"]

CAPTIONS: Final = 3
LEAST_WORDS: Final = 5
MOST_WORDS: Final = 20

CAPTION_SIDE: Final = 0.33
"""A thing that a caption puts on a side has its centre within this share of the picture."""

_UPRIGHT: Final = frozenset({"wall", "brick wall", "stone wall"})
_COUNTED: Final = frozenset({"carpet", "checkered floor", "floor", "road", *_UPRIGHT})
_MASS: Final = frozenset({
    "concrete", "fabric", "grass", "gravel", "marble", "metal", "sand", "snow", "soil", "water",
    "wood",
})  # fmt: skip
_TRIES: Final = 4
_Form = Callable[[PictureLayout, Rng], str]


def captions(layout: PictureLayout, rng: Rng) -> tuple[str, ...]:
    """Three sentences of 5 to 20 words, no two of one form where the picture allows it.

    They name some of what is there, not always all. A picture without any label gets none.
    """
    if not layout.things:
        return _of_stuff(layout, rng)
    texts: list[str] = []
    forms = shuffled(rng, (_related, _on_surface, _before, _on_sides, _in_order))
    for form in (_list_things, *forms, *_FRAMED):
        for _ in range(_TRIES):
            text = form(layout, rng)
            if text and LEAST_WORDS <= len(text.split()) <= MOST_WORDS and text not in texts:
                texts.append(text)
                break
        if len(texts) == CAPTIONS:
            break
    return tuple(shuffled(rng, texts))


def _counted_labels(rng: Rng, things: Sequence[PictureRegion], most: int) -> list[str]:
    """Return the things counted by label, in random order; no more than `most` labels."""
    parts = []
    for label in shuffled(rng, list(dict.fromkeys(thing.label for thing in things)), most):
        group = [thing for thing in things if thing.label == label]
        colours = {thing.colour for thing in group}
        colour = colours.pop() if len(colours) == 1 and rng.random() < 0.6 else ""
        parts.append(counted_name(label, len(group), colour))
    return parts


def _region_name(rng: Rng, region: PictureRegion) -> str:
    return counted_name(region.label, 1, region.colour if rng.random() < 0.6 else "")


def _backdrop(layout: PictureLayout) -> list[str]:
    labels = dict.fromkeys(region.label for region in layout.stuff)
    return [
        f"a {label}" if label in _COUNTED else "the sky" if label == "sky" else label
        for label in labels
    ]


def _list_things(layout: PictureLayout, rng: Rng) -> str:
    most = int(rng.integers(3, 6))
    parts = _counted_labels(rng, layout.things, most)
    if len(layout.kinds()) > most:
        parts.append("other things")
    frame = ("a scene with {}", "a picture of {}", "{}", "an image showing {}", "a photo of {}")
    return pick(rng, frame).format(listed(parts))


def _related(layout: PictureLayout, rng: Rng) -> str:
    for region in shuffled(rng, layout.things):
        for other in shuffled(rng, layout.things):
            if region.label == other.label:
                continue
            for relation in shuffled(rng, RELATIONS):
                if relation.holds(region, other):
                    verb = pick(rng, ("", "", " are" if is_plural(region.label) else " is"))
                    subject, words = _region_name(rng, region), pick(rng, relation.words)
                    text = f"{subject}{verb} {words} {_region_name(rng, other)}"
                    if region.on and region.on == other.on and rng.random() < 0.8:
                        return f"{text} on {_surface(region.on)}"
                    stuff = _backdrop(layout)
                    if stuff and rng.random() < 0.4:
                        return f"{text}, with {listed(stuff)} in the background"
                    return text
    return ""


def _surface(label: str) -> str:
    return f"a {label}" if label in ("table", "carpet") else f"the {label}"


def _on_surface(layout: PictureLayout, rng: Rng) -> str:
    whole = [  # of some kinds it may be known of one thing only: their number would mislead
        thing
        for thing in layout.things
        if thing.on and all(other.on == thing.on for other in layout.of(thing.label))
    ]
    if not whole:
        return ""
    surface = pick(rng, whole).on
    standing = [thing for thing in whole if thing.on == surface]
    things = listed(_counted_labels(rng, standing, int(rng.integers(2, 5))))
    below = _surface(surface)
    with_it = ("{1} with {0} on it", "there is {1} with {0} on it") if surface == "table" else ()
    frame: str = pick(rng, ("{} on {}", "a picture of {} on {}", *with_it))
    return frame.format(things, below)


def _before(layout: PictureLayout, rng: Rng) -> str:
    stuff = _backdrop(layout)
    if not stuff:
        return ""
    things = listed(_counted_labels(rng, layout.things, int(rng.integers(1, 4))))
    upright = [region.label for region in layout.stuff if region.label in _UPRIGHT]
    if upright and rng.random() < 0.5:
        return f"{things} in front of a {upright[0]}"
    frames = ["{} with {} in the background", "a picture of {} with {} in the background"]
    if len(stuff) == 1 and not is_plural(stuff[0]):
        frames.append("behind {} there is {}")
    if _MASS.issuperset(stuff):
        frames.append("{} against a background of {}")
    return pick(rng, frames).format(things, listed(stuff))


def _on_sides(layout: PictureLayout, rng: Rng) -> str:
    left = [
        thing for thing in layout.things if thing.centre[0] <= CAPTION_SIDE and thing.high[0] <= 0.5
    ]
    right = [
        thing
        for thing in layout.things
        if thing.centre[0] >= 1 - CAPTION_SIDE and thing.low[0] >= 0.5
    ]
    if not left or not right:
        return ""
    left_name, right_name = _region_name(rng, pick(rng, left)), _region_name(rng, pick(rng, right))
    parts = [f"{left_name} on the left", f"{right_name} on the right"]
    return pick(rng, ("{} and {}", "{1} and {0}", "a picture with {} and {}")).format(*parts)


def _in_order(layout: PictureLayout, rng: Rng) -> str:
    row: list[PictureRegion] = []
    for thing in sorted(shuffled(rng, layout.things), key=lambda region: region.centre[0]):
        if not row or LEFT.holds(row[-1], thing):
            row.append(thing)
    if len(row) < 3:
        return ""
    parts = [_region_name(rng, thing) for thing in row[:4]]
    if rng.random() < 0.3:
        return f"from right to left: {listed(parts[::-1])}"
    return f"from left to right: {listed(parts)}"


def _framed(frame: str) -> _Form:
    def form(layout: PictureLayout, rng: Rng) -> str:
        thing = pick(rng, layout.things)
        name = counted_name(thing.label, len(layout.of(thing.label)))
        verb = "is" if len(layout.of(thing.label)) == 1 and not is_plural(thing.label) else "are"
        return frame.format(name=name, verb=verb)

    return form


_FRAMED: Final = tuple(
    _framed(frame)
    for frame in (
        "there {verb} {name} in this picture",
        "{name} can be seen in this picture",
        "this is a picture of {name}",
    )
)


def _of_stuff(layout: PictureLayout, rng: Rng) -> tuple[str, ...]:
    if not layout.stuff:
        return ()
    parts = shuffled(rng, _backdrop(layout))
    return (
        f"a picture of nothing but {listed(parts)}",
        f"there is only {listed(parts)} here",
        f"this picture shows {listed(parts)} and nothing else",
    )
