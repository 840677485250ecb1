"""A bank of pictures on disk: what goes in comes out, and what is damaged is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounded import cost
from PIL import Image

pytest.importorskip("cv2", reason="banks need opencv-python-headless")

from xdecoder_rt.errors import DatasetError
from xdecoder_rt.scenes.bank.store import BANK_INDEX, PICTURES, Bank, BankWriter
from xdecoder_rt.training.sources import open_dataset

Change = Callable[[dict[str, Any]], None]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def bank_copy(tiny_bank: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "bank"
    copy.mkdir()
    for name in (BANK_INDEX, PICTURES):
        (copy / name).write_bytes((tiny_bank / name).read_bytes())
    return copy


def edit(folder: Path, change: Change) -> Path:
    index = json.loads((folder / BANK_INDEX).read_text())
    change(index)
    (folder / BANK_INDEX).write_text(json.dumps(index))
    return folder


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cut_out = rng.integers(0, 256, (9, 7, 4), np.uint8)
    image = rng.integers(0, 256, (8, 12, 3), np.uint8)
    ids = rng.integers(0, 4, (8, 12), np.uint8)
    writer = BankWriter(frozenset({"floor"}))
    writer.cut_out("cup", True, png(cut_out))
    writer.scene({1: "floor", 3: "cup"}, png(image), png(ids))
    writer.photograph(png(image[::-1]))
    assert writer.summary().startswith("1 cut-outs of 1 names, 1 scenes, 1 photographs")
    writer.write(tmp_path / "a" / "bank")
    bank = Bank(tmp_path / "a" / "bank")
    assert bank.stuff == {"floor"}
    assert [(c.name, c.drawn) for c in bank.by_name["cup"]] == [("cup", True)]
    assert np.array_equal(bank.pixels(bank.cut_outs[0].picture, 4), cut_out)
    shown, labelled = bank.scene(bank.scenes[0])
    assert np.array_equal(shown, image)
    assert np.array_equal(labelled, np.where(ids == 2, 0, ids))  # 2 has no label
    assert bank.scenes[0].labels == {1: "floor", 3: "cup"}
    assert np.array_equal(bank.pixels(bank.photographs[0], 3), image[::-1])


def test_a_picture_without_transparency_is_an_opaque_cut_out(tiny_bank: Path) -> None:
    bank = Bank(tiny_bank)
    pixels = bank.pixels(bank.photographs[0], 4)
    assert pixels.shape[2] == 4
    assert (pixels[..., 3] == 255).all()


def test_a_bank_written_again_replaces_the_first(tmp_path: Path) -> None:
    for name in ("cup", "box"):
        writer = BankWriter()
        writer.cut_out(name, True, png(np.zeros((4, 4, 4), np.uint8)))
        writer.photograph(png(np.zeros((4, 4, 3), np.uint8)))
        writer.write(tmp_path)
    assert set(Bank(tmp_path).by_name) == {"box"}
    assert {path.name for path in tmp_path.iterdir()} == {BANK_INDEX, PICTURES}


def test_a_folder_without_a_bank_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="scenes bank"):
        Bank(tmp_path)


def test_a_bank_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        BankWriter().write(tmp_path / "file" / "bank")


def _version(index: dict[str, Any]) -> None:
    index["format_version"] = 99


def _outside(index: dict[str, Any]) -> None:
    index["cut_outs"][0]["picture"] = [0, 10**9]


def _negative(index: dict[str, Any]) -> None:
    index["photographs"][0]["picture"] = [-1, 5]


def _empty_span(index: dict[str, Any]) -> None:
    index["scenes"][0]["ids"] = [0, 0]


def _past_the_end(index: dict[str, Any]) -> None:
    offset, size = index["cut_outs"][-1]["picture"]
    index["cut_outs"][-1]["picture"] = [offset + 10**5, size]


def _no_id(index: dict[str, Any]) -> None:
    index["scenes"][0]["labels"] = {"one": "floor"}


def _large_id(index: dict[str, Any]) -> None:
    index["scenes"][0]["labels"] = {"256": "floor"}


def _no_name(index: dict[str, Any]) -> None:
    index["cut_outs"][0]["name"] = 5


def _no_list(index: dict[str, Any]) -> None:
    index["scenes"] = {}


def _nothing_in_it(index: dict[str, Any]) -> None:
    index["cut_outs"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_version, "another format version"),
        (_outside, "two integers"),
        (_negative, "two integers"),
        (_empty_span, "does not have"),
        (_past_the_end, "two integers|does not have"),
        (_no_id, "is no id"),
        (_large_id, "is no id"),
        (_no_name, "a text"),
        (_no_list, "a list"),
        (_nothing_in_it, "nothing to compose"),
    ],
)
def test_a_hostile_index_is_refused(bank_copy: Path, change: Change, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Bank(edit(bank_copy, change))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"stuff": NaN}', b"\xff"])
def test_an_index_that_is_no_json_is_refused(bank_copy: Path, text: bytes) -> None:
    (bank_copy / BANK_INDEX).write_bytes(text)
    with pytest.raises(DatasetError, match="damaged"):
        Bank(bank_copy)


def test_pictures_cut_off_are_refused(bank_copy: Path) -> None:
    data = (bank_copy / PICTURES).read_bytes()
    (bank_copy / PICTURES).write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=PICTURES):
        Bank(bank_copy)


def test_a_damaged_picture_is_named_when_it_is_read(bank_copy: Path) -> None:
    data = bytearray((bank_copy / PICTURES).read_bytes())
    data[:] = b"\0" * len(data)
    (bank_copy / PICTURES).write_bytes(bytes(data))
    bank = Bank(bank_copy)
    with pytest.raises(DatasetError, match="damaged at byte 0"):
        bank.pixels(bank.cut_outs[0].picture, 4)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_picture_of_other_channels_is_refused(tmp_path: Path, channels: int) -> None:
    writer = BankWriter()
    grey = channels == 4
    other = np.zeros((4, 4) if grey else (4, 4, 3), np.uint8)
    writer.cut_out("cup", True, png(other))
    writer.photograph(png(other))
    writer.write(tmp_path)
    bank = Bank(tmp_path)
    with pytest.raises(DatasetError, match=f"of {channels} channels"):
        bank.pixels(bank.cut_outs[0].picture, channels)


def test_an_enormous_picture_is_refused(tmp_path: Path) -> None:
    writer = BankWriter()
    writer.cut_out("cup", True, png(np.zeros((2, 2100, 4), np.uint8)))
    writer.photograph(png(np.zeros((4, 4, 3), np.uint8)))
    writer.write(tmp_path)
    bank = Bank(tmp_path)
    with pytest.raises(DatasetError, match="damaged"):
        bank.pixels(bank.cut_outs[0].picture, 4)


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    writer = BankWriter()
    writer.cut_out("cup", True, png(np.zeros((4, 4, 4), np.uint8)))
    writer.scene({1: "cup"}, png(np.zeros((6, 8, 3), np.uint8)), png(np.ones((6, 7), np.uint8)))
    writer.write(tmp_path)
    bank = Bank(tmp_path)
    with pytest.raises(DatasetError, match="8 x 6 pixels, its labels are 7 x 6"):
        bank.scene(bank.scenes[0])


def test_a_bank_is_opened_like_any_data_set(tiny_bank: Path) -> None:
    source = open_dataset(tiny_bank)
    assert source.stuff == {"floor", "grass"}
    assert {"cup", "ball", "sphere", "table"} <= set(source.vocabulary)
    assert len(source.items) == 1_000_000


def test_a_small_file_of_an_enormous_picture_costs_nothing(tmp_path: Path) -> None:
    side = 11_000
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "PNG")
    assert len(file.getvalue()) < 1 << 20
    writer = BankWriter()
    writer.cut_out("cup", False, file.getvalue())
    writer.photograph(file.getvalue())
    writer.write(tmp_path / "bank")
    imports = "from pathlib import Path\nfrom xdecoder_rt.scenes.bank.store import Bank\nimport cv2"
    call = "bank = Bank(Path(sys.argv[1])); bank.pixels(bank.photographs[0], 1)"
    result = cost(imports, call, tmp_path / "bank")
    assert "damaged at byte" in result.text
    assert result.mebibytes < 32


@pytest.mark.parametrize("name", ["bank.json", "pictures.bin"])
def test_a_pipe_instead_of_a_file_is_refused_and_not_waited_for(bank_copy: Path, name: str) -> None:
    (bank_copy / name).unlink()
    os.mkfifo(bank_copy / name)
    with pytest.raises(DatasetError, match="named pipe"):
        Bank(bank_copy)


@pytest.mark.parametrize("change", ["cut", "replaced", "gone"])
def test_a_bank_that_changes_while_it_is_open_is_refused(bank_copy: Path, change: str) -> None:
    """Its pictures were mapped: one that was cut ended the process."""
    bank = Bank(bank_copy)
    path = bank_copy / "pictures.bin"
    last = max((one.picture for one in bank.cut_outs), key=lambda span: span.offset)
    assert bank.pixels(last, 4).ndim == 3
    content = path.read_bytes()
    if change == "cut":
        os.truncate(path, 10)
    else:
        path.unlink()
    if change == "replaced":
        path.write_bytes(content[::-1])
    with pytest.raises(DatasetError, match="cannot be read" if change == "gone" else "has changed"):
        bank.pixels(last, 4)


def test_a_bank_goes_to_another_process_as_it_is(tiny_bank: Path) -> None:
    bank = Bank(tiny_bank)
    again = pickle.loads(pickle.dumps(bank))
    span = bank.cut_outs[0].picture
    np.testing.assert_array_equal(again.pixels(span, 4), bank.pixels(span, 4))
    assert len(pickle.dumps(bank)) < 64 << 10
