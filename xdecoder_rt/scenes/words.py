"""Every word that a generated scene may use for what it shows."""

from __future__ import annotations

from xdecoder_rt.scenes.backdrop import BACKDROP_STUFF
from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.lexicons.furniture import furniture_lexicon
from xdecoder_rt.scenes.lexicons.stamps import stamp_lexicon
from xdecoder_rt.scenes.names import synonyms
from xdecoder_rt.scenes.photographs.grounds import GROUND_STUFF
from xdecoder_rt.scenes.sprites import lexicon

__all__ = ["scene_words"]


def scene_words() -> list[str]:
    """Return names and synonyms of things and stuff, held-out ones too, in the alphabet's order."""
    sources = (lexicon(), stamp_lexicon(), furniture_lexicon())
    names = {entry.name for source in sources for entry in source} | set(WORKCELL_NAMES)
    words = {word for name in names for word in synonyms(name)}
    return sorted(words | BACKDROP_STUFF | GROUND_STUFF | {"background"})
