"""Phrases and captions for a generated scene, from its labels and where they lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from xdecoder_rt.evaluation.labelled_folder import Phrase
from xdecoder_rt.training.scenes.names import indefinite
from xdecoder_rt.training.scenes.scene import Scene

__all__ = ["captions", "phrases"]

_MOST_PHRASES = 6


def phrases(
    scene: Scene, stuff: Collection[str], rng: np.random.Generator
) -> tuple[Phrase, ...]:
    """Referring expressions, each true of exactly the segments it names.

    One of a kind is "the mug"; of several of a kind, the outermost are told apart by side
    ("the mug on the left"), the largest by size, and all together are "the mugs"-like "every mug".
    """
    by_label: dict[str, list[int]] = {}
    for identity, label in scene.labels.items():
        if label not in stuff:
            by_label.setdefault(label, []).append(identity)
    result: list[Phrase] = []
    for label, ids in by_label.items():
        if len(ids) == 1:
            colour = scene.colours.get(ids[0])
            coloured = colour is not None and rng.random() < 0.5
            result.append(Phrase(f"the {colour} {label}" if coloured else f"the {label}",
                                 (ids[0],)))
            continue
        result.extend(_told_apart(scene, label, ids))
    if len(result) <= _MOST_PHRASES:
        return tuple(result)
    kept = sorted(rng.choice(len(result), _MOST_PHRASES, replace=False).tolist())
    return tuple(result[i] for i in kept)


def _told_apart(scene: Scene, label: str, ids: Sequence[int]) -> list[Phrase]:
    height, width = scene.ids.shape
    centres, areas = {}, {}
    for identity in ids:
        rows, columns = np.nonzero(scene.ids == identity)
        centres[identity] = (float(columns.mean()) / width, float(rows.mean()) / height)
        areas[identity] = rows.size
    found = [Phrase(f"every {label}", tuple(ids))]
    across = sorted(ids, key=lambda i: centres[i][0])
    if centres[across[1]][0] - centres[across[0]][0] > 0.1:
        found.append(Phrase(f"the {label} on the left", (across[0],)))
    if centres[across[-1]][0] - centres[across[-2]][0] > 0.1:
        found.append(Phrase(f"the {label} on the right", (across[-1],)))
    by_area = sorted(ids, key=lambda i: areas[i])
    if areas[by_area[-1]] > 1.5 * areas[by_area[-2]]:
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
        place = "in front of" if "wall" in behind[0] or behind[0] == "sky" else "on"
        return (f"{listed} {place} {_listed([f'the {name}' for name in behind[:1]])}",)
    return (listed if rng.random() < 0.5 else f"a scene with {listed}",)


def _counted(name: str, count: int) -> str:
    if count == 1:
        return indefinite(name)
    return f"{'two' if count == 2 else 'several'} of the kind {name}"


def _listed(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
