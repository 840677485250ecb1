"""JSON Schemas of what commands write with ``--json``, from the declarations of the documents."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union

from xdecoder_rt.cli.documents import DOCUMENTS, kind_of
from xdecoder_rt.cli.documents.plans import ManifestDocument
from xdecoder_rt.plan.schema import DIALECT, described, manifest_schema

__all__ = ["document_schema"]

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
_SCHEMA, _COMPLETE = "schema", "complete"


def document_schema(command: str) -> dict[str, Any]:
    """Return the schema that every document of a command is valid under.

    No object has keys beside those that it declares. A document with ``"complete": false`` may lack
    any of them.

    Args:
        command: a key of `xdecoder_rt.cli.documents.DOCUMENTS`.
    """
    forms = [_whole(form, kind_of(command)) for form in DOCUMENTS[command]["forms"]]
    title = {"$schema": DIALECT, "title": f"xdecoder-rt {command} --json, {kind_of(command)}"}
    return {**title, **(forms[0] if len(forms) == 1 else {"anyOf": forms})}


def _whole(form: Any, kind: str) -> dict[str, Any]:
    """Return the schema of a whole document: its keys, its kind, and whether it is complete."""
    schema = _object(form)
    required = schema.pop("required")
    schema["properties"] = {
        _SCHEMA: {"description": "The form and its version.", "const": kind},
        **schema["properties"],
        _COMPLETE: {
            "description": "False where an error or a signal cut the work short.",
            "type": "boolean",
        },
    }
    cut = {"properties": {_COMPLETE: {"const": False}}, "required": [_COMPLETE]}
    return {
        **schema,
        "required": [_SCHEMA],
        "if": cut,
        "then": {},
        "else": {"required": required},
    }


def _schema(kind: Any) -> dict[str, Any]:
    """Return the schema of a declared type."""
    if kind is Any:
        return {}
    if kind is ManifestDocument:
        return {key: value for key, value in manifest_schema().items() if key != "$schema"}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is type(None):
        return {"type": "null"}
    if typing.is_typeddict(kind):
        return _object(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _any_of([_schema(one) for one in inner])
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0])}
    if origin is dict and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1])}
    raise TypeError(f"{kind} has no schema")


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def _object(form: Any) -> dict[str, Any]:
    """Return the schema of a TypedDict, with what its docstring says of it and of its keys."""
    summary, about = described(form)
    properties = {}
    for name, kind in typing.get_type_hints(form).items():
        text = {"description": about[name]} if name in about else {}
        properties[name] = {**text, **_schema(kind)}
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": sorted(form.__required_keys__),
        "additionalProperties": False,
    }
