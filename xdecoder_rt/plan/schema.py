"""The JSON Schema of ``manifest.json``, from the declarations that the reader itself goes by.

``python -m xdecoder_rt.plan.schema docs/manifest.schema.json`` writes it. What a schema cannot say
(members that are referred to and listed, sizes that agree) the reader checks in addition.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.json_reader import ITEMS_LIMIT, TEXT_LIMIT, Node, node_of
from xdecoder_rt.plan.manifest import FORMAT_VERSION, Manifest

__all__ = ["DIALECT", "described", "manifest_schema", "schema_of"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ROLE = re.compile(r":\w+:`[~!]?([^`]*)`")


def manifest_schema() -> dict[str, Any]:
    """Return the schema that every manifest of this format version is valid under."""
    return {
        "$schema": DIALECT,
        "title": f"manifest.json of a plan, format version {FORMAT_VERSION}",
        **schema_of(node_of(Manifest, null_is_absent=True)),
    }


def schema_of(node: Node) -> dict[str, Any]:
    """Return the schema of what a declaration asks for."""
    rule = node.rule
    if rule.one_of is not None:
        return {"enum": list(rule.one_of)}
    if node.base in (int, float):
        bounds = {
            "minimum": rule.low,
            "maximum": rule.high,
            "exclusiveMinimum": rule.above,
            "exclusiveMaximum": rule.below,
        }
        kind = "integer" if node.base is int else "number"
        return {"type": kind, **{key: bound for key, bound in bounds.items() if bound is not None}}
    if node.base is bool:
        return {"enum": [False, True, 0, 1]} if rule.lenient else {"type": "boolean"}
    if node.base is str:
        least = {"minLength": rule.least} if rule.least else {}
        form = {} if rule.form is None else {"pattern": f"^(?:{rule.form})$"}
        return {"type": "string", **least, "maxLength": rule.most or TEXT_LIMIT, **form}
    if node.base is tuple:
        (item,) = node.inner
        least = {"minItems": rule.least} if rule.least else {}
        most = rule.most or ITEMS_LIMIT
        return {"type": "array", "items": schema_of(item), **least, "maxItems": most}
    if node.base is Mapping:
        key, item = node.inner
        return {
            "type": "object",
            "propertyNames": schema_of(key),
            "additionalProperties": schema_of(item),
            "maxProperties": rule.most or ITEMS_LIMIT,
        }
    if node.base is typing.Union:
        return _any_of([schema_of(kind) for kind in node.inner], node.option)
    return _schema_of_dataclass(node) if node.fields else {}


def _schema_of_dataclass(node: Node) -> dict[str, Any]:
    summary, about = described(node.base)
    properties = {}
    for field in node.fields:
        schema = schema_of(field.node)
        if field.nullable and field.node.base is not typing.Union:
            schema = _any_of([schema], True)
        text = {"description": about[field.name]} if field.name in about else {}
        properties[field.key] = {**text, **schema}
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": [field.key for field in node.fields if field.required],
        "additionalProperties": not node.option,
    }


def _any_of(schemas: list[dict[str, Any]], nullable: bool) -> dict[str, Any]:
    schemas = [*schemas, {"type": "null"}] if nullable else schemas
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def described(kind: type) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a class's docstring, and what it says of each attribute."""
    text = _ROLE.sub(r"\1", inspect.getdoc(kind) or "").replace("``", "`")
    about, _, attributes = text.partition("\nAttributes:\n")
    entries = re.findall(r"^    (\w+): ((?:.+\n?)(?:^     +.+\n?)*)", attributes, re.MULTILINE)
    summary = " ".join(about.split("\n\n")[0].split())
    return summary, {name: " ".join(words.split()) for name, words in entries}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the manifest's schema to a file."""
    parser = argparse.ArgumentParser(prog="python -m xdecoder_rt.plan.schema", description=__doc__)
    parser.add_argument("file", help="such as docs/manifest.schema.json")
    text = json.dumps(manifest_schema(), ensure_ascii=False, indent=1) + "\n"
    with atomic_writer(parser.parse_args(argv).file) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
