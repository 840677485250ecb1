"""The table of result fields is complete, up to date, and true of what an engine gives back."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import results
from xdecoder_rt.cli.result_fields import RESULTS, fields_of, main, page, sections_of
from xdecoder_rt.engine import Engine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"
ARRAY = re.compile(r"(bool|u?int\d+|float\d+) \[([^\]]+)\]")
COMMAND = "python -m xdecoder_rt.cli.result_fields docs/results.md"


def test_the_page_is_as_the_docstrings_say(tmp_path: Path) -> None:
    main([str(tmp_path / "results.md")])
    assert (tmp_path / "results.md").read_text() == PAGE.read_text(), f"run: {COMMAND}"


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_every_field_has_its_type_and_what_it_is(kind: type) -> None:
    told = [field.name for field in sections_of(kind)["Attributes"]]
    assert told == [field.name for field in dataclasses.fields(kind)]
    assert [field.name for field in fields_of(kind)] == told
    for field in fields_of(kind):
        assert field.about
        declared = str(kind.__annotations__[field.name])
        assert ("NDArray" in declared or "Floats" in declared) == bool(ARRAY.match(field.type))
        if field.type in ("float", "int") or field.type.startswith("float"):
            assert field.unit, field


def test_no_result_is_left_out() -> None:
    kinds = {getattr(results, name) for name in results.__all__}
    assert {kind for kind in kinds if isinstance(kind, type)} <= set(RESULTS)
    assert all(f"\n## {kind.__name__}\n" in page() for kind in RESULTS)


@pytest.fixture(scope="module")
def found(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Results of the tiny model of every kind."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cache = tmp_path_factory.mktemp("cache")
    with Engine(tiny_plan, "onnxruntime", threads=1, cache_dir=cache) as engine:
        state = engine.encode(image)
        kinds = [
            engine.segment(state, ["mug", "table"], task=task, min_score=0, **thresholds)
            for task, thresholds in (
                ("panoptic", {"object_threshold": 0, "overlap_threshold": 0}),
                ("semantic", {}),
                ("instance", {}),
            )
        ]
        output = engine.run(
            state, refer=["the mug"], caption=True, max_tokens=2, answer="is it?",
            choices=["yes", "no"], embed=True, min_score=0,
        )  # fmt: skip
        ranking, finding = engine.rank([state], ["a mug"]), engine.find([state], "the mug")
    masks = np.zeros((48, 64), np.int32)
    masks[8:40, 8:40] = 1
    info = {"id": 1, "label_id": 0, "label": "mug", "score": 1.0, "area": 1024, "isthing": True}
    things = results.Segmentation(masks, [info])
    (place,) = things.in_space(np.full((48, 64), 1.5), [60, 60, 32, 24])
    assert place is not None
    return [*kinds, output, output.refer[0], output.caption, output.answer, ranking, finding, place,
            place.box]  # fmt: skip


def test_arrays_have_the_types_and_shapes_of_the_table(found: list[Any]) -> None:
    checked = 0
    for result in found:
        for field in fields_of(type(result)):
            value = getattr(result, field.name)
            form = ARRAY.match(field.type)
            if form is None or value is None:
                continue
            sides = form[2].split(", ")
            assert (str(value.dtype), value.ndim) == (form[1], len(sides)), (result, field)
            for side, length in zip(sides, value.shape, strict=True):
                known = {"H": 48, "W": 64}.get(side, int(side) if side.isdecimal() else length)
                assert length == known, field
            checked += 1
    assert checked >= 15


def test_other_fields_have_the_types_of_the_table(found: list[Any]) -> None:
    plain = {"str": str, "int": int, "float": float, "bool": bool}
    for result in found:
        for field in fields_of(type(result)):
            value = getattr(result, field.name)
            if value is not None and field.type in plain:
                assert isinstance(value, plain[field.type]), (field, type(value))


def test_dictionaries_have_the_keys_of_the_table(found: list[Any]) -> None:
    keys = sections_of(results.Segmentation)["Keys of segments_info"]
    segments = [info for result in found[:3] for info in result.segments_info]
    assert segments
    for info in segments:
        assert set(info) == {field.name for field in keys}
