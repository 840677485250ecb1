"""Referring expressions, each true of exactly the segments that it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xdecoder_rt.datasets.items import Phrase
from xdecoder_rt.scenes.language.choosing import Rng, pick, shuffled
from xdecoder_rt.scenes.language.english import has_plural, plural_name
from xdecoder_rt.scenes.language.layout import RELATIONS, PictureLayout, PictureRegion

__all__ = ["MOST_PHRASES", "phrases", "reference"]

MOST_PHRASES: Final = 8
SIDE_APART: Final = 0.15
"""The outermost of a kind is called so if the next one's centre is this far from its own ..."""
SIDE_WITHIN: Final = 0.45
"""... and its own lies within this share of the picture from that side."""
ALONE_WITHIN: Final = 0.36
"""The only one of a kind is said to be on a side if its centre is this close to it ..."""
ALONE_CLEAR: Final = 0.55
"""... and its box stays within this share of the picture."""
MIDDLE_WITHIN: Final = 0.08
"""In the middle is what has its centre within this distance of the picture's ..."""
PHRASE_MIDDLE_WIDTH: Final = 0.5
"""... and is no wider than this ..."""
MIDDLE_OTHERS: Final = 0.2
"""... if the others of the kind are this far from it."""
LARGER: Final = 1.6
"""The largest or smallest of a kind differs by this factor, in its pixels and in its box."""

_MOST_OF_ONE: Final = 2
_WITHOUT_ARTICLE: Final = 0.15
_WEIGHTS: Final = {
    "name": 9.0, "place": 5.0, "relation": 4.0, "colour": 4.0, "group": 2.0, "stuff": 1.5,
    "size": 1.5,
}  # fmt: skip
_SIDES: Final = (("left", "right"), ("top", "bottom"))
_OUTERMOST: Final = {"top": "topmost", "bottom": "lowest"}
_PhrasesBySort = dict[str, list[Phrase]]


def _the(rng: Rng, noun: str) -> str:
    """Return the noun with "the", or rarely without: people type both."""
    return noun if rng.random() < _WITHOUT_ARTICLE else f"the {noun}"


def phrases(layout: PictureLayout, rng: Rng) -> tuple[Phrase, ...]:
    """Write some referring expressions, of several sorts, in varied words.

    No more than `MOST_PHRASES`, and no segment is alone the subject of more than two. None is
    written whose truth hangs on less than the margins of this module and of `layout`.
    """
    candidates: _PhrasesBySort = {sort: [] for sort in _WEIGHTS}
    for label in shuffled(rng, layout.kinds()):
        if not layout.is_clear(label):
            continue
        regions = layout.of(label)
        if len(regions) == 1:
            candidates["name"].append(Phrase(_the(rng, label), (regions[0].id,)))
            candidates["place"].extend(_place_of_the_only(rng, regions[0]))
        elif not has_plural(label):
            continue  # of "corn" or "scissors" nobody can tell how many are meant
        else:
            candidates["group"].extend(_all_of(rng, layout, label, regions))
            candidates["place"].extend(_places(rng, label, regions))
            candidates["size"].extend(_sizes(rng, label, regions))
        candidates["colour"].extend(_by_colour(rng, layout, label, regions))
        candidates["relation"].extend(_related(rng, layout, label, regions))
    for label in dict.fromkeys(region.label for region in layout.stuff):
        if layout.is_clear(label):
            ids = tuple(region.id for region in layout.of(label))
            candidates["stuff"].append(Phrase(_the(rng, label), ids))
    return tuple(_mixed(rng, candidates))


def _mixed(rng: Rng, candidates: _PhrasesBySort) -> list[Phrase]:
    remaining = {
        sort: shuffled(rng, expressions) for sort, expressions in candidates.items() if expressions
    }
    selection: dict[str, Phrase] = {}
    subjects: dict[tuple[int, ...], int] = {}
    while remaining and len(selection) < MOST_PHRASES:
        at = float(rng.random()) * sum(_WEIGHTS[sort] for sort in remaining)
        for sort in remaining:
            at -= _WEIGHTS[sort]
            if at < 0:
                break
        phrase = remaining[sort].pop()
        if not remaining[sort]:
            del remaining[sort]
        if phrase.text not in selection and subjects.get(phrase.ids, 0) < _MOST_OF_ONE:
            selection[phrase.text] = phrase
            subjects[phrase.ids] = subjects.get(phrase.ids, 0) + 1
    return list(selection.values())


def _place_of_the_only(rng: Rng, region: PictureRegion) -> list[Phrase]:
    expressions = []
    for axis, sides in enumerate(_SIDES):
        x, low, high = region.centre[axis], region.low[axis], region.high[axis]
        for side, near, far in ((sides[0], x, high), (sides[1], 1 - x, 1 - low)):
            if near <= ALONE_WITHIN and far <= ALONE_CLEAR:
                expressions.append(Phrase(_at_side(rng, region.label, side), (region.id,)))
    if _in_the_middle(region) and region.centre[1] > 0.25 and region.centre[1] < 0.75:
        expressions.append(Phrase(_the(rng, f"{region.label} in the middle"), (region.id,)))
    return expressions


def _at_side(rng: Rng, label: str, side: str) -> str:
    if side in ("top", "bottom"):
        return _the(rng, f"{label} at the {side}")
    return _the(rng, f"{label} on the {side}{pick(rng, ('', '', ' side'))}")


def _in_the_middle(region: PictureRegion) -> bool:
    return (
        abs(region.centre[0] - 0.5) <= MIDDLE_WITHIN
        and region.high[0] - region.low[0] <= PHRASE_MIDDLE_WIDTH
    )


def _places(rng: Rng, label: str, regions: Sequence[PictureRegion]) -> list[Phrase]:
    expressions = []
    for axis, sides in enumerate(_SIDES):
        order = sorted(regions, key=lambda region: region.centre[axis])
        for side, outer, following in (
            (sides[0], order[0], order[1]),
            (sides[1], order[-1], order[-2]),
        ):
            x = outer.centre[axis] if side == sides[0] else 1 - outer.centre[axis]
            apart = abs(outer.centre[axis] - following.centre[axis])
            if apart < SIDE_APART or x > SIDE_WITHIN:
                continue
            expressions.append(Phrase(_outermost(rng, label, side, len(regions)), (outer.id,)))
    middle = [region for region in regions if _in_the_middle(region)]
    if len(middle) == 1 and all(
        region is middle[0] or abs(region.centre[0] - middle[0].centre[0]) >= MIDDLE_OTHERS
        for region in regions
    ):
        expressions.append(Phrase(_the(rng, f"{label} in the middle"), (middle[0].id,)))
    return expressions


def _outermost(rng: Rng, label: str, side: str, count: int) -> str:
    if side in ("top", "bottom"):
        return _the(rng, f"{label} at the {side}" if count == 2 else f"{_OUTERMOST[side]} {label}")
    if count > 2 or rng.random() < 0.2:
        return _the(rng, pick(rng, (f"{side}most {label}", f"{label} on the far {side}")))
    if rng.random() < 0.25:
        return _the(rng, f"{side} {label}")
    return _at_side(rng, label, side)


def _sizes(rng: Rng, label: str, regions: Sequence[PictureRegion]) -> list[Phrase]:
    def box(region: PictureRegion) -> float:
        return (region.high[0] - region.low[0]) * (region.high[1] - region.low[1])

    order = sorted(regions, key=lambda region: region.area)
    small, large = order[0], order[-1]
    expressions = []
    two = len(order) == 2
    if all(
        large.area >= LARGER * other.area and box(large) >= LARGER * box(other)
        for other in order[:-1]
    ):
        words = ("largest", "biggest", "larger", "bigger")[: 4 if two else 2]
        expressions.append(Phrase(_the(rng, f"{pick(rng, words)} {label}"), (large.id,)))
    if not small.touches_edge and all(
        other.area >= LARGER * small.area and box(other) >= LARGER * box(small)
        for other in order[1:]
    ):
        words = ("smallest", "smallest", "smaller")[: 3 if two else 2]
        expressions.append(Phrase(_the(rng, f"{pick(rng, words)} {label}"), (small.id,)))
    return expressions


def _all_of(
    rng: Rng, layout: PictureLayout, label: str, regions: Sequence[PictureRegion]
) -> list[Phrase]:
    many = plural_name(label)
    if any(many == other.label for other in layout.stuff + layout.things):
        return []
    ids = tuple(region.id for region in regions)
    number = "both" if len(ids) == 2 else "all the"
    words = (f"the {many}", f"the {many}", f"all {many}", f"{number} {many}", f"every {label}")
    expressions = [Phrase(pick(rng, words), ids)]
    for colour in dict.fromkeys(region.colour for region in regions if region.colour):
        coloured = [region for region in regions if region.colour == colour]
        others = [region for region in regions if region.colour != colour]
        if len(coloured) > 1 and others and all(other.is_not(colour) for other in others):
            ids = tuple(region.id for region in coloured)
            expressions.append(Phrase(_the(rng, f"{colour} {many}"), ids))
    return expressions


def _by_colour(
    rng: Rng, layout: PictureLayout, label: str, regions: Sequence[PictureRegion]
) -> list[Phrase]:
    return [
        Phrase(_the(rng, f"{region.colour} {label}"), (region.id,))
        for region in regions
        if layout.is_told_by_colour(region)
    ]


def _related(
    rng: Rng, layout: PictureLayout, label: str, regions: Sequence[PictureRegion]
) -> list[Phrase]:
    """At most one phrase for each relation: of the label's regions it is true of one alone."""
    expressions = []
    targets = [other for other in shuffled(rng, layout.things) if other.label != label]
    for relation in RELATIONS:
        for target in targets:
            name = reference(rng, layout, target)
            holding = [region for region in regions if relation.holds(region, target)]
            if not name or len(holding) != 1:
                continue
            if all(region is holding[0] or relation.fails(region, target) for region in regions):
                words = f"{label} {pick(rng, relation.words)} {name}"
                expressions.append(Phrase(_the(rng, words), (holding[0].id,)))
                break
    return expressions


def reference(rng: Rng, layout: PictureLayout, region: PictureRegion) -> str:
    """Return a short name that means only the region, with "the"; "" if there is none."""
    has_own_colour = layout.is_told_by_colour(region)
    if layout.is_only(region):
        return (
            f"the {region.colour} {region.label}"
            if has_own_colour and rng.random() < 0.2
            else (f"the {region.label}")
        )
    return f"the {region.colour} {region.label}" if has_own_colour else ""
