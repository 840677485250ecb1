"""What OpenAPI says of a request's body, with an example for each call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["EXAMPLES", "body_shape"]

_IMAGE = "/9j/4AAQSkZJRg… (base64 of a JPEG)"
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "segment": {"image": _IMAGE, "words": ["mug", "robot arm"], "stuff": ["floor"]},
    "refer": {"image": _IMAGE, "phrases": ["the red mug left of the plate"]},
    "caption": {"image_id": "Zk3v0a…", "region": [40, 30, 200, 180]},
    "answer": {"image_id": "Zk3v0a…", "question": "is it open?", "choices": ["yes", "no"]},
    "embed": {"image": _IMAGE, "texts": ["a mug on a table"]},
    "rank": {"images": [_IMAGE], "texts": ["a mug on a table", "an empty room"]},
    "run": {"image": _IMAGE, "words": ["mug"], "caption": True, "keep": True, "masks": "png"},
    "images": {"image": _IMAGE},
}


def body_shape(kind: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an OpenAPI operation that describes its body, as JSON and as a form."""
    schema = _inlined(kind.model_json_schema())
    form = {
        "type": "object",
        "properties": {
            "image": {"type": "string", "format": "binary", "description": "an image file"},
            "request": schema,
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": dict(example)},
                "multipart/form-data": {"schema": form},
            },
        }
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that refers to nothing outside of itself."""
    parts = schema.pop("$defs", {})

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return replaced(parts[value["$ref"].rpartition("/")[2]])
            return {name: replaced(inner) for name, inner in value.items()}
        return [replaced(inner) for inner in value] if isinstance(value, list) else value

    result: dict[str, Any] = replaced(schema)
    return result
