"""The splits, and the names of things that belong to training, and those that are kept from it."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.lexicons.furniture import furniture_lexicon
from xdecoder_rt.scenes.lexicons.stamps import stamp_lexicon
from xdecoder_rt.scenes.names import canonical, held_out
from xdecoder_rt.scenes.sprites import lexicon

__all__ = ["SPLITS", "Split", "novel_names"]

Split = Literal["train", "val", "novel"]
SPLITS: tuple[Split, ...] = ("train", "val", "novel")


@lru_cache(maxsize=1)
def novel_names() -> frozenset[str]:
    """Return the held-out names of drawings, workcells, photographs and furniture.

    They depend on the built-in lists of names only, never on what a machine has. A name that
    drawings or workcells have is decided among these alone: sources that came later change nothing
    about what was trained and measured before.
    """
    first = {canonical(d.name) for d in lexicon()} | set(WORKCELL_NAMES)
    later = {s.name for s in stamp_lexicon()} | {f.name for f in furniture_lexicon()}
    return held_out(first) | (held_out(first | later) - first)
