"""Pickles are read as plain data: the same as loading them, and nothing in them ever runs."""

from __future__ import annotations

import contextlib
import datetime
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.datasets.documents import read_value
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.files import plain_pickle
from xdecoder_rt.files.plain_pickle import MAX_DEPTH, parse_pickle

PROTOCOLS = range(6)

_KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(),
)


def _plain(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(_KEYS, inner),
            inner.map(lambda shared: [shared, {"again": shared}]),
        ),
    )


@given(_plain(_KEYS), st.sampled_from(PROTOCOLS))
def test_plain_data_is_read_as_loading_reads_it(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    read = parse_pickle(data, "x.p")
    assert read == pickle.loads(data) == value
    assert repr(read) == repr(value)  # types too: 1 == True == 1.0


@given(_plain(st.binary()), st.sampled_from((3, 4, 5)))
def test_bytes_are_read(value: object, protocol: int) -> None:
    assert repr(parse_pickle(pickle.dumps(value, protocol), "x.p")) == repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_long_lists_and_shared_parts_are_read(protocol: int) -> None:
    shared = {"tokens": ["the", "left", "one"]}
    value = [shared] * 3000 + [{str(i): i for i in range(3000)}, "x" * 70_000]
    read = parse_pickle(pickle.dumps(value, protocol), "x.p")
    assert read == value
    assert isinstance(read, list)
    assert read[0] is read[2999]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        # As Python 2 wrote them.
        (
            b"(lp0\n(dp1\nS'sent'\np2\nS'it\\'s'\np3\nsS'ref_id'\np4\nL7L\nsa.",
            [{"sent": "it's", "ref_id": 7}],
        ),
        (b"\x80\x02]q\x00(U\x03catq\x01T\x04\x00\x00\x00caf\x65X\x02\x00\x00\x00\xc3\xa9e.", None),
        (b"\x80\x02U\x05caf\xc3\xa9.", "café"),
        (b"(I1\nI01\n(I2\nttp0\n.", (1, True, (2,))),
    ],
)
def test_the_forms_of_python_2_are_read(data: bytes, value: object) -> None:
    if value is None:
        value = ["cat", "cafe", "é"]
    assert parse_pickle(data, "x.p") == value


class _Command:
    """Runs a command when its pickle is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_command_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "was_run"
    data = pickle.dumps([{"ref_id": _Command(marker)}], protocol)
    with pytest.raises(DatasetError, match=r"x\.p is more than data: (STACK_)?GLOBAL at byte"):
        parse_pickle(data, "x.p")
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "the attack itself must work, or this test shows nothing"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [_Command, datetime.date(2000, 1, 1), 1j, range(3)])
def test_classes_and_their_objects_are_refused(value: object, protocol: int) -> None:
    with pytest.raises(DatasetError, match="GLOBAL at byte"):
        parse_pickle(pickle.dumps([value], protocol), "x.p")


@pytest.mark.parametrize(
    ("data", "opcode"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"),
        (b"(S'true'\nios\nsystem\n.", "INST"),
        (b"(cos\nsystem\nS'true'\no.", "GLOBAL"),
        (b"\x8c\x02os\x8c\x06system\x93.", "STACK_GLOBAL"),
        (b"N)R.", "REDUCE"),
        (b"N}b.", "BUILD"),
        (b"(No.", "OBJ"),
        (b"N)\x81.", "NEWOBJ"),
        (b"N)}\x92.", "NEWOBJ_EX"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"P1\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"\x8f.", "EMPTY_SET"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"NN0.", "POP"),
        (b"N2.", "DUP"),
    ],
)
def test_every_opcode_that_is_more_than_data_is_refused(data: bytes, opcode: str) -> None:
    with pytest.raises(DatasetError, match=f"more than data: {opcode} at byte"):
        parse_pickle(data, "x.p")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a whole pickle"),
        (b"not a pickle at all", "not a whole pickle"),
        (b"\x80\x04\x95", "not a whole pickle"),
        (b"\xff.", "not a whole pickle"),
        (b"S'\\xff'\n.", "not a whole pickle"),
        (b"U\x01\xff.", "not a whole pickle"),
        (b"X\xff\xff\xff\x7fab.", "not a whole pickle"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "not a whole pickle"),
        (b"I" + b"9" * 5000 + b"\n.", "not a whole pickle|more than 64 bits"),
        (b"\x8a\x09" + b"\xff" * 8 + b"\x01.", "an integer of more than 64 bits"),
        (b"\x80\x06N.", "of protocol 6.* Expected 0 to 5"),
        (b".", "does not end with one value"),
        (b"NN.", "does not end with one value"),
        (b"(N.", "does not end with one value"),
        (b"t.", "closes a mark that it did not set"),
        (b"e.", "closes a mark that it did not set"),
        (b"a.", "takes a value where there is none"),
        (b"]a.", "takes a value where there is none"),
        (b"p0\n.", "takes a value where there is none"),
        (b"(a.", "takes a value where there is none"),
        (b"}Na.", "appends to what is no list"),
        (b"]NNs.", "sets an item of what is no dictionary"),
        (b"}(NNNu.", "sets an item of what is no dictionary"),
        (b"}]Ns.", "a container as a dictionary's key"),
        (b"}NN\x86Ns.", "a container as a dictionary's key"),
        (b"Np-1\n.", "memo index -1"),
        (b"g3\n.", "recalls the memo's 3"),
        (b"]q\x00h\x00a.", "already lies in another, or itself"),
        (b"]q\x00]h\x00ah\x00Na.", "already lies in another, or itself"),
        (b"}q\x00Nh\x00s.", "already lies in another, or itself"),
    ],
)
def test_a_broken_pickle_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        parse_pickle(data, "x.p")
    assert str(error.value).startswith("x.p ")


def test_a_list_that_contains_itself_is_refused() -> None:
    cycle: list[object] = []
    cycle.append({"again": cycle})
    for protocol in PROTOCOLS:
        with pytest.raises(DatasetError, match="already lies in another, or itself"):
            parse_pickle(pickle.dumps(cycle, protocol), "x.p")


def test_every_truncation_is_refused() -> None:
    for protocol in PROTOCOLS:
        data = pickle.dumps([{"ref_id": 1, "sentences": [{"sent": "the cup"}]}], protocol)
        for end in range(len(data)):
            with pytest.raises(DatasetError):
                parse_pickle(data[:end], "x.p")


@given(st.data())
def test_whatever_the_bytes_only_plain_data_or_our_error_come_of_them(data: st.DataObject) -> None:
    whole = pickle.dumps([{"a": (1, 2.5, None)}, "b"], data.draw(st.sampled_from(PROTOCOLS)))
    broken = bytearray(whole)
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)
    ):
        broken[place] = byte
    with contextlib.suppress(DatasetError):
        repr(parse_pickle(bytes(broken), "x.p"))


@pytest.mark.parametrize(
    "data",
    [
        b"(" * 100_000,  # marks
        b"]" + b"]q\x00" * 50_000 + b"a" * 50_000 + b".",  # lists within lists
        b")" + b"\x85" * 100_000 + b".",  # tuples within tuples
        b"]" + b"q\x00]h\x00a" * 1000 + b".",  # through the memo
    ],
)
def test_deep_nesting_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError, match=f"nested too deeply.*at most {MAX_DEPTH} levels"):
        parse_pickle(data, "x.p")


def test_the_deepest_nesting_allowed_is_read() -> None:
    value: list[object] = []
    for _ in range(MAX_DEPTH - 1):
        value = [value, 0]
    assert parse_pickle(pickle.dumps(value, 4), "x.p") == value
    with pytest.raises(DatasetError, match="nested too deeply"):
        parse_pickle(pickle.dumps([value], 4), "x.p")


def test_a_huge_memo_index_takes_no_memory() -> None:
    assert parse_pickle(b"Nr\xff\xff\xff\xff.", "x.p") is None
    assert parse_pickle(b"Np" + b"9" * 18 + b"\n.", "x.p") is None


def test_a_part_doubled_again_and_again_takes_no_time() -> None:
    # Thirty levels of [below, below]: a billion elements if they were written out.
    data = b"]" + b"".join(b"q%c](h%ch%ce" % (i, i, i) for i in range(MAX_DEPTH - 2))
    with pytest.raises(DatasetError, match="uses its parts again and again"):
        parse_pickle(data + b".", "x.p")


def test_size_and_length_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_pickle, "MAX_OPCODES", 100)
    assert parse_pickle(b"](" + b"N" * 96 + b"e.", "x.p") == [None] * 96
    with pytest.raises(DatasetError, match="too long.* at most 100 opcodes"):
        parse_pickle(b"](" + b"N" * 97 + b"e.", "x.p")
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 50)
    with pytest.raises(DatasetError, match="has 51 bytes. Expected at most 50"):
        parse_pickle(b"N" * 51, "x.p")
    with (tmp_path / "sparse.p").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DatasetError, match="has 1,099,511,627,776 bytes"):
        read_value(tmp_path / "sparse.p")
