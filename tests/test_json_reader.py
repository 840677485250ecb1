"""JSON from strangers becomes what a dataclass declares, or an error that says where and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.errors import DatasetError, PlanError, XDecoderError
from xdecoder_rt.json_reader import (
    JsonFault,
    Rule,
    check_fields,
    node_of,
    parse_json,
    read_object,
    read_part,
)


@dataclass(frozen=True)
class Wheel:
    spokes: Annotated[int, Rule(low=1, high=64)]
    label: str = "wheel"


@dataclass(frozen=True)
class Cart:
    name: Annotated[str, Rule(least=1, most=8)]
    wheels: Annotated[tuple[Wheel, ...], Rule(most=4)]
    weight: Annotated[float, Rule(above=0, high=100)] = 1.0
    colour: Annotated[str, Rule(one_of=("red", "blue"))] = "red"
    serial: Annotated[
        str, Rule(form="[0-9]{3}", wording=("three digits", "texts of three digits"))
    ] = "000"
    size: tuple[int, int] = (0, 0)
    open: bool = True
    crowd: Annotated[bool, Rule(lenient=True)] = False
    parts: Mapping[str, Wheel] = field(default_factory=dict)
    limits: Annotated[tuple[float, ...], Rule(least=1)] = (0.0,)
    load: Annotated[int | None, Rule(key="loadKg")] = None
    note: str | tuple[int, ...] = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    raw: Annotated[Any, Rule(unread=True)] = None
    made: Annotated[int, Rule(low=1, stated=True)] = 1


GOOD: dict[str, Any] = {"name": "cart", "wheels": [{"spokes": 12}], "made": 1}


def read(document: Any, **options: bool) -> Cart:
    return read_object(parse_json(json.dumps(document), "cart", 1 << 20), Cart, "cart", **options)


def refusal(document: Any, **options: bool) -> str:
    with pytest.raises(PlanError) as caught:
        read(document, **options)
    return str(caught.value)


def test_a_document_becomes_what_is_declared() -> None:
    cart = read(
        GOOD
        | {"weight": 2, "size": [3, 4], "parts": {"spare": {"spokes": 1, "label": "é"}}}
        | {"crowd": 1, "loadKg": None, "note": [1], "extra": {"a": [None, 1.5]}, "raw": [[]]}
    )
    assert cart == Cart(
        name="cart",
        wheels=(Wheel(12),),
        weight=2.0,
        size=(3, 4),
        parts={"spare": Wheel(1, "é")},
        crowd=True,
        note=(1,),
        extra={"a": [None, 1.5]},
        raw=[[]],
    )
    assert type(cart.weight) is float
    assert read(GOOD | {"later": 1}) == read(GOOD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "cart: name is ''. Expected a text of 1 to 8 characters."),
        ({"name": "x" * 9}, "name is 'xxxxxxxxx'."),
        ({"name": "\ud800"}, "name is"),
        ({"name": None}, "name is null."),
        ({"name": ["x"]}, "name is a list."),
        ({"wheels": {}}, "wheels is an object. Expected a list of JSON objects."),
        ({"wheels": [{"spokes": 3}, 3]}, "wheels[1] is 3. Expected a JSON object."),
        ({"wheels": [{}]}, "wheels[0].spokes is missing."),
        ({"wheels": [{"spokes": 0}]}, "wheels[0].spokes is 0. Expected an integer from 1 to 64."),
        ({"wheels": [{"spokes": True}]}, "spokes is True."),
        ({"wheels": [{"spokes": 3.0}]}, "spokes is 3.0."),
        ({"wheels": [{"spokes": 10**4000}]}, "spokes is an enormous integer."),
        ({"wheels": [{"spokes": 3}] * 5}, "wheels has 5 items."),
        ({"weight": 0}, "weight is 0. Expected a number above 0 to 100."),
        ({"weight": 1e999}, "not valid JSON (Infinity is not a JSON number)"),
        ({"weight": True}, "weight is True."),
        ({"colour": "pink"}, "colour is 'pink'. Expected one of 'red', 'blue'."),
        ({"serial": "12"}, "serial is '12'. Expected three digits."),
        ({"serial": "123\n"}, "serial is"),
        ({"size": [1]}, "size has 1 items. Expected a list of two integers."),
        ({"size": [1, "2"]}, "size[1] is '2'. Expected a list of two integers."),
        ({"open": 1}, "open is 1. Expected true or false."),
        ({"crowd": 2}, "crowd is 2."),
        ({"parts": {"a b": 3}}, "parts.'a b' is 3."),
        ({"parts": []}, "parts is a list."),
        ({"limits": []}, "limits is empty. Expected a list of numbers, at least 1."),
        ({"loadKg": "x"}, "loadKg is 'x'. Expected an integer."),
        ({"note": 1}, "note is 1."),
        ({"note": ["x"]}, "note[0] is 'x'. Expected a list of integers."),
        ({"extra": {"a": 1 << 60}}, "extra.a is"),
        ({"made": 0}, "made is 0. Expected an integer from 1."),
    ],
)
def test_what_is_wrong_is_named_by_its_path(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(GOOD | changes)


def test_a_field_that_must_be_stated_has_its_default_only_in_code() -> None:
    assert "made is missing" in refusal({"name": "cart", "wheels": []})


def test_null_and_unknown_keys_are_met_as_the_format_says() -> None:
    nulls = GOOD | {"weight": None, "open": None}
    assert "weight is null" in refusal(nulls)
    assert read(nulls, null_is_absent=True) == read(GOOD)
    assert "made is null" in refusal(GOOD | {"made": None}, null_is_absent=True)
    assert "has the unknown key 'z'" in refusal(GOOD | {"z": 1}, refuse_unknown=True)
    inner = GOOD | {"wheels": [{"spokes": 1, "z": 1}]}
    assert "wheels[0] has the unknown key 'z'" in refusal(inner, refuse_unknown=True)


def test_plain_values_have_a_depth() -> None:
    deep: Any = 1
    for _ in range(16):
        deep = {"a": deep}
    assert read(GOOD | {"extra": deep}).extra == deep
    assert "extra.a is an object" in refusal(GOOD | {"extra": {"a": deep}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is not valid JSON"),
        (b"{", "it is not valid JSON"),
        (b"\xff", "it is not valid JSON"),
        (b'{"a": 1, "a": 1}', "the key 'a' stands twice in one object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b"9" * 10_000, "it is not valid JSON"),
        (b" " * 200_000, "it has 200,000 bytes. Expected at most 100,001."),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_json_is_refused_by_the_error_of_the_format(data: bytes, message: str) -> None:
    for error in (PlanError, DatasetError):
        with pytest.raises(error) as caught:
            parse_json(data, "it", 100_001, error)
        assert message in str(caught.value)


def test_the_root_is_an_object() -> None:
    with pytest.raises(DatasetError, match="cart holds a list. Expected a JSON object"):
        read_object([], Cart, "cart", DatasetError)
    with pytest.raises(JsonFault):
        read_part([], Cart)


def test_an_instance_made_in_code_is_checked_by_the_same_rules() -> None:
    check_fields(Wheel(3), XDecoderError)
    with pytest.raises(XDecoderError, match=r"cart\.spokes is 65. Expected an integer from 1 to"):
        check_fields(Wheel(65), XDecoderError, "cart.")


def test_a_declaration_that_json_cannot_hold_is_the_programmers_mistake() -> None:
    @dataclass
    class Wrong:
        values: set[int]

    with pytest.raises(TypeError, match="describes nothing in JSON"):
        node_of(Wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*GOOD]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(Cart.__dataclass_fields__)), JSON))
def test_whatever_the_values_a_cart_or_our_error_comes_of_them(changes: dict[str, Any]) -> None:
    try:
        cart = read_object({**GOOD, **changes}, Cart, "cart")
    except PlanError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(cart, Cart)
