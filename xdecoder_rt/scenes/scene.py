"""A generated scene, and the source of its randomness."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIZES", "Rng", "Scene", "scene_generator", "scene_size", "unit_hash"]

Rng = np.random.Generator

SIZES: tuple[tuple[int, int], ...] = (
    (336, 448),
    (336, 448),
    (360, 448),
    (320, 448),
    (384, 448),
    (256, 448),
    (448, 448),
    (448, 336),
)
"""The (height, width) that scenes get when no size is asked for; one is drawn per scene."""

_LEAST_SHARE = 0.0007
_LEAST_PIXELS = 16


@dataclass
class Scene:
    """A picture and its labels.

    Attributes:
        image: uint8 RGB [h, w, 3].
        ids: uint8 [h, w]; 0 is unlabelled.
        labels: Label of each id in `ids`.
        colours: Colour word that a segment was painted by, where it was. Texts do not use it: they
            name the colour that is seen in the picture.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    labels: dict[int, str]
    colours: dict[int, str] = field(default_factory=dict)

    def drop_small(self, minimum: int | None = None) -> None:
        """Unlabel segments too small to be recognised, and renumber the others from 1.

        Args:
            minimum: Fewest visible pixels of a segment that is kept; None takes a fixed share of
                the picture, 105 pixels of 448 x 336.
        """
        if minimum is None:
            minimum = max(_LEAST_PIXELS, int(_LEAST_SHARE * self.ids.size))
        counts = np.bincount(self.ids.ravel(), minlength=256)
        table = np.zeros(256, np.uint8)
        labels: dict[int, str] = {}
        colours: dict[int, str] = {}
        for old, label in sorted(self.labels.items()):
            if counts[old] >= minimum:
                new = len(labels) + 1
                table[old] = new
                labels[new] = label
                if old in self.colours:
                    colours[new] = self.colours[old]
        self.ids = table[self.ids]
        self.labels, self.colours = labels, colours


def scene_generator(domain: str, split: str, seed: int, index: int) -> np.random.Generator:
    """Return the random generator of one scene.

    It depends on nothing but the arguments, so a scene is the same whichever process draws it.
    """
    digest = hashlib.sha256(f"{domain}/{split}/{seed}/{index}".encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def scene_size(rng: np.random.Generator, size: tuple[int, int] | None) -> tuple[int, int]:
    """`size`, or one of `SIZES` at random: (height, width)."""
    drawn = SIZES[int(rng.integers(len(SIZES)))]
    return drawn if size is None else size


def unit_hash(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on the text alone: for splits that never change."""
    digest = hashlib.sha256(f"{salt}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
