"""A plan of format version 1, as the last release to write it did: two sizes, and one for texts."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parents[1] / "data" / "version_1.plan.xz"
SIZES = ((32, 32), (32, 64))
TEXT_SIZE = (64, 64)


@cache
def version_1_bytes() -> bytes:
    """Return the file: random weights, and words of nine merges ("mug", "hand", "the", "red")."""
    return lzma.decompress(_FILE.read_bytes())
