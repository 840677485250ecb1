"""The JSON Schema in the docs says of a manifest what the reader goes by."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from xdecoder_rt.errors import PlanError
from xdecoder_rt.json_reader import JsonFault
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.schema import main, manifest_schema

ROOT = Path(__file__).parents[2]
DOCUMENT = json.loads((ROOT / "tests/data/manifest.json").read_text())
VALIDATOR = Draft202012Validator(manifest_schema())
ABSENT = object()
VALUES = [ABSENT, None, True, -1, 1, 1 << 70, 0.5, 1e300, "", "x" * 9999, [], [[]], {}, {"a": 1}]
# What nobody can describe: a schema takes any content.
FREE_FORM = ("accuracy", "calibration")


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value[:1])
    inner = [path for key, item in items for path in paths(item, (*prefix, key))]
    return [prefix, *inner] if prefix else inner


def altered(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    if value is ABSENT:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document


def breaks_a_declaration(document: dict[str, Any]) -> bool:
    """Whether the reader refuses a value, rather than what several say together."""
    try:
        Manifest.from_json(json.dumps(document).encode())
    except PlanError as error:
        return isinstance(error.__cause__, JsonFault)
    return False


def test_the_schema_in_the_docs_is_up_to_date(tmp_path: Path) -> None:
    main([str(tmp_path / "schema.json")])
    written = (ROOT / "docs/manifest.schema.json").read_text()
    assert written == (tmp_path / "schema.json").read_text(), (
        "python -m xdecoder_rt.plan.schema docs/manifest.schema.json"
    )


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(manifest_schema())


def test_manifests_are_valid(tiny_plan: Path) -> None:
    VALIDATOR.validate(DOCUMENT)
    with Plan.open(tiny_plan) as plan:
        VALIDATOR.validate(json.loads(plan.manifest.to_json()))


def test_what_each_attribute_means_is_told() -> None:
    text = manifest_schema()["properties"]["text"]
    assert text["description"] == "How words become embeddings."
    background = "the name whose embedding is the void class."
    assert text["properties"]["background"]["description"] == background


DECLARED = [path for path in paths(DOCUMENT) if len(path) == 1 or path[0] not in FREE_FORM]


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: ".".join(map(str, path)))
def test_the_reader_and_the_schema_refuse_the_same_values(path: tuple[Any, ...]) -> None:
    for value in VALUES:
        document = altered(path, value)
        refused = breaks_a_declaration(document)
        # Another whole number is another version to the reader, and no number 1 to the schema.
        if path != ("format_version",):
            assert VALIDATOR.is_valid(document) != refused, (path, value)
