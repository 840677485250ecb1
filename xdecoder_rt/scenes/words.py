"""Every word that a generated scene may use for what it shows."""

from __future__ import annotations

from xdecoder_rt.scenes.backdrop import BACKDROP_STUFF
from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.names import synonyms
from xdecoder_rt.scenes.sprites import lexicon

__all__ = ["scene_words"]


def scene_words() -> list[str]:
    """Return names and synonyms of things and stuff, held-out ones too, in the alphabet's order."""
    names = {drawing.name for drawing in lexicon()} | set(WORKCELL_NAMES)
    return sorted(
        {word for name in names for word in synonyms(name)} | BACKDROP_STUFF | {"background"}
    )
