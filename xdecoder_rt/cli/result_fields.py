"""The table of every result's fields, from the docstrings of the results themselves.

``python -m xdecoder_rt.cli.result_fields docs/results.md`` writes the page.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import NamedTuple

from xdecoder_rt import results
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.space.places import Intrinsics, Place, SpaceBox
from xdecoder_rt.streams.timed import TimedFrame

__all__ = ["RESULTS", "Field", "fields_of", "page", "sections_of"]

RESULTS: tuple[type, ...] = (
    results.Segmentation,
    results.Reference,
    results.Caption,
    results.Answer,
    results.Ranking,
    results.Finding,
    results.Output,
    Place,
    SpaceBox,
    Intrinsics,
    TimedFrame,
)
_HEAD = """\
# Fields of results

Find here the type, shape and unit of everything that a call gives back. H and W are the height and
width of the image that was asked about, N counts segments or images, T texts. Boxes are left, top,
right, bottom, the last two exclusive. Every result exists for "nothing found" too, with empty lists
and arrays. In JSON (`to_dict()`, `--json`) masks are COCO's compressed run lengths;
`xdecoder-rt schema` prints the schemas.

This page is made from the docstrings: `python -m xdecoder_rt.cli.result_fields docs/results.md`
"""
_SECTION = re.compile(r"^(Attributes|Keys of (\w+)):\n((?:(?:    .*)?\n?)*)", re.MULTILINE)
_ENTRY = re.compile(
    r"^    (\w+) \(([^;)]+)(?:; ([^)]+))?\): ((?:.+\n?)(?:^     +.+\n?)*)", re.MULTILINE
)
_ROLE = re.compile(r":\w+:`[~!]?([^`]*)`")


class Field(NamedTuple):
    """One field of a result.

    Attributes:
        name: as in Python.
        type: with the shape of an array.
        unit: empty where there is none.
        about: what it is.
    """

    name: str
    type: str
    unit: str
    about: str


def sections_of(kind: type) -> dict[str, list[Field]]:
    """Return the fields of a result and of its dictionaries, as its docstring has them.

    Returns:
        Under ``"Attributes"`` the fields, under ``"Keys of <field>"`` those of a dictionary.
    """
    text = _ROLE.sub(r"\1", inspect.getdoc(kind) or "").replace("``", "`") + "\n"
    return {
        title: [
            Field(name, form, unit, " ".join(about.split()))
            for name, form, unit, about in _ENTRY.findall(body)
        ]
        for title, _, body in _SECTION.findall(text)
    }


def fields_of(kind: type) -> list[Field]:
    """Return the fields of a result in the order of its declaration."""
    told = {field.name: field for field in sections_of(kind).get("Attributes", [])}
    return [told[field.name] for field in dataclasses.fields(kind) if field.name in told]


def page() -> str:
    """Return the page in Markdown."""
    parts = [_HEAD]
    for kind in RESULTS:
        summary = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
        parts.append(f"## {kind.__name__}\n\n{summary} `{kind.__module__}.{kind.__name__}`\n")
        parts.append(_table(fields_of(kind)))
        for title, fields in sections_of(kind).items():
            if title != "Attributes":
                parts.append(f"{title.replace('Keys of ', 'Keys of `')}`:\n")
                parts.append(_table(fields))
    return "\n".join(parts)


def _table(fields: Sequence[Field]) -> str:
    rows = ["| field | type and shape | unit | |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{field.name}` | {field.type} | {field.unit or '–'} | {_sentence(field.about)} |"
        for field in fields
    ]
    return "\n".join(rows) + "\n"


def _sentence(text: str) -> str:
    return text.replace("|", "\\|")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.cli.result_fields", description=__doc__
    )
    parser.add_argument("file", help="such as docs/results.md")
    with atomic_writer(parser.parse_args(argv).file) as file:
        file.write(page().encode())


if __name__ == "__main__":
    main()
