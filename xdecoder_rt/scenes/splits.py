"""The names of things that belong to training, and those that are kept from it."""

from __future__ import annotations

from functools import lru_cache

from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.names import canonical, held_out
from xdecoder_rt.scenes.sprites import lexicon

__all__ = ["novel_names"]


@lru_cache(maxsize=1)
def novel_names() -> frozenset[str]:
    """Return the held-out names of both domains.

    They depend on the built-in lists of names only, never on which drawings a machine has.
    """
    return held_out({canonical(d.name) for d in lexicon()} | set(WORKCELL_NAMES))
