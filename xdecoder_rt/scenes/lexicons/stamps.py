"""Which stamp of Debian's `tuxpaint-stamps-default` shows what.

`stamp_names.tsv` names the stamps that are photographs of one thing. The names were written by
hand from each stamp's sentence and checked against its picture: drawings, symbols, scenery and
pictures of several things are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from xdecoder_rt.scenes.names import canonical

__all__ = ["Stamp", "stamp_lexicon"]


@dataclass(frozen=True)
class Stamp:
    """A photograph of one thing without its surroundings.

    Attributes:
        path: PNG file, relative to the folder of the stamps, with `/`.
        name: What it shows: a lower-case English noun phrase, canonical.
    """

    path: str
    name: str


@lru_cache(maxsize=1)
def stamp_lexicon() -> tuple[Stamp, ...]:
    """Return all named stamps, sorted by path."""
    table = resources.files(__package__).joinpath("stamp_names.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if line)
    return tuple(
        sorted((Stamp(path, canonical(name)) for path, name in rows), key=lambda s: s.path)
    )
