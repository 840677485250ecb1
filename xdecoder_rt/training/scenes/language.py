"""Phrases and captions for a generated scene, from its labels and where they lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from xdecoder_rt.evaluation.labelled_folder import Phrase
from xdecoder_rt.training.scenes.scene import Scene

__all__ = ["captions", "indefinite", "phrases", "plural"]

_MOST_PHRASES = 6

# fmt: off
_UNCOUNTED: Final = frozenset({
    "bacon", "bamboo", "beer", "bread", "butter", "cheese", "corn", "dna", "fire", "fondue",
    "garlic", "honey", "knitting", "lasagna", "lemonade", "milk", "money", "paper", "pasta",
    "popcorn", "salad", "salami", "soap", "spaghetti", "toast", "yarn",
})
_IRREGULAR: Final = {
    "aircraft": "aircraft", "bison": "bison", "deer": "deer", "dice": "dice", "die": "dice",
    "domino": "dominoes", "foot": "feet", "knife": "knives", "leaf": "leaves", "loaf": "loaves",
    "mouse": "mice", "potato": "potatoes", "sheep": "sheep", "shelf": "shelves",
    "tomato": "tomatoes", "tooth": "teeth", "wolf": "wolves",
}
# fmt: on
_SINGULAR_S: Final = ("ss", "us", "is", "os", "lens", "gps")
_VOWEL_SOUND: Final = ("hour", "x-ray")
_CONSONANT_SOUND: Final = ("uni", "us", "eu", "ukulele", "one")


def _always_plural(name: str) -> bool:
    last = name.split()[-1]
    return last.endswith("s") and not last.endswith(_SINGULAR_S)


def indefinite(name: str) -> str:
    """`name` with "a" or "an", or nothing where an article would be wrong."""
    if name in _UNCOUNTED or (_always_plural(name) and " of " not in name):
        return name
    vowel = name[0] in "aeiou" and not name.startswith(_CONSONANT_SOUND)
    return f"{'an' if vowel or name.startswith(_VOWEL_SOUND) else 'a'} {name}"


def plural(name: str) -> str:
    """More than one `name`: of "loaf of bread" the first noun changes, of "toy car" the last."""
    if " of " in name:
        head, rest = name.split(" of ", 1)
        return f"{plural(head)} of {rest}"
    if name in _UNCOUNTED or _always_plural(name):
        return name
    *before, last = name.split(" ")
    if last in _IRREGULAR or last.endswith("fish"):
        last = _IRREGULAR.get(last, last)
    elif last.endswith("man") and last != "human":
        last = f"{last[:-3]}men"
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return " ".join([*before, last])


def phrases(scene: Scene, stuff: Collection[str], rng: np.random.Generator) -> tuple[Phrase, ...]:
    """Referring expressions, each true of exactly the segments it names.

    The only one of a kind is "the mug", or "the red cube" where its colour is certain. Of several
    of a kind the outermost are "the mug on the left" and "the mug on the right", a clearly larger
    one is "the largest mug", and together they are "the mugs".
    """
    by_label: dict[str, list[int]] = {}
    for identity, label in scene.labels.items():
        if label not in stuff:
            by_label.setdefault(label, []).append(identity)
    result: list[Phrase] = []
    for label, ids in by_label.items():
        if len(ids) > 1:
            result.extend(_told_apart(scene, label, ids))
            continue
        colour = scene.colours.get(ids[0], "")
        coloured = bool(colour) and rng.random() < 0.5
        result.append(Phrase(f"the {colour} {label}" if coloured else f"the {label}", (ids[0],)))
    if len(result) <= _MOST_PHRASES:
        return tuple(result)
    kept = sorted(rng.choice(len(result), _MOST_PHRASES, replace=False).tolist())
    return tuple(result[i] for i in kept)


def _told_apart(scene: Scene, label: str, ids: Sequence[int]) -> list[Phrase]:
    width = scene.ids.shape[1]
    across, area = {}, {}
    for identity in ids:
        columns = np.nonzero(scene.ids == identity)[1]
        across[identity] = float(columns.mean()) / width
        area[identity] = columns.size
    found = [Phrase(f"the {plural(label)}", tuple(ids))]
    order = sorted(ids, key=lambda i: across[i])
    if across[order[1]] - across[order[0]] > 0.1:
        found.append(Phrase(f"the {label} on the left", (order[0],)))
    if across[order[-1]] - across[order[-2]] > 0.1:
        found.append(Phrase(f"the {label} on the right", (order[-1],)))
    by_area = sorted(ids, key=lambda i: area[i])
    if area[by_area[-1]] > 1.5 * area[by_area[-2]]:
        found.append(Phrase(f"the largest {label}", (by_area[-1],)))
    return found


def captions(scene: Scene, stuff: Collection[str], rng: np.random.Generator) -> tuple[str, ...]:
    """One sentence naming what is in the scene; none if nothing is labelled."""
    counts: dict[str, int] = {}
    for label in scene.labels.values():
        counts[label] = counts.get(label, 0) + 1
    things = [name for name in counts if name not in stuff]
    behind = [name for name in counts if name in stuff]
    if not things:
        return (f"a picture of {_listed(behind)}",) if behind else ()
    order = rng.permutation(len(things)).tolist()
    listed = _listed([_counted(things[i], counts[things[i]]) for i in order])
    if behind and rng.random() < 0.7:
        upright = "wall" in behind[0] or behind[0] in ("sky", "leaves")
        return (f"{listed} {'in front of' if upright else 'on'} the {behind[0]}",)
    return (listed if rng.random() < 0.5 else f"a scene with {listed}",)


def _counted(name: str, count: int) -> str:
    if count == 1:
        return indefinite(name)
    if plural(name) == name:
        return f"several {name}" if _always_plural(name) else f"some {name}"
    number = ("two", "three", "four")[count - 2] if count <= 4 else "several"
    return f"{number} {plural(name)}"


def _listed(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
