"""Which model of the furniture libraries shows what.

`furniture_names.tsv` names the models of Debian's `sweethome3d-furniture` by their identity in
the libraries' catalogues. The names were written from the catalogues' and checked against
renderings; sockets, road markings, sets of several things and what only a title tells apart are
left out. A person is named twice: by what the catalogue says, and as a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from xdecoder_rt.scenes.names import canonical

__all__ = ["Furniture", "furniture_lexicon"]


@dataclass(frozen=True)
class Furniture:
    """A model.

    Attributes:
        identity: As the catalogue has it, "Scopia#chair3".
        name: What it shows: a lower-case English noun phrase, canonical.
    """

    identity: str
    name: str


@lru_cache(maxsize=1)
def furniture_lexicon() -> tuple[Furniture, ...]:
    """Return all named models, sorted by identity and name."""
    table = resources.files(__package__).joinpath("furniture_names.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in table.splitlines() if line)
    models = {Furniture(identity, canonical(name)) for identity, name in rows}
    return tuple(sorted(models, key=lambda model: (model.identity, model.name)))
