"""``xdecoder-rt data inspect`` tells of a data set what would spoil a training."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.cli import main
from xdecoder_rt.datasets.inspection import likeness
from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter
from xdecoder_rt.scenes.bank.store import BankWriter

pytest.importorskip("torch", reason="training's data sets need the extra train")


def scene(seed: int) -> np.ndarray:
    """A picture that is recognised again: a few blocks of random colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return blocks.repeat(20, axis=0).repeat(20, axis=1)


def save_folder(path: Path, *seeds: int) -> Path:
    ids = np.zeros((120, 160), np.uint8)
    ids[20:80, 30:90] = 1
    with LabelledFolderWriter(path, ("mug", "bin", "floor"), ("floor",)) as writer:
        for seed in seeds:
            writer.add(scene(seed), ids, {1: "mug"}, captions=["a mug"])
        tiny = np.zeros_like(ids)
        tiny[0, :3] = 1
        writer.add(scene(100 + seeds[0]), tiny, {1: "mug"})
        writer.add(scene(200 + seeds[0]), np.zeros_like(ids), {})
    return path


def inspected(target: Path, *sources: Path) -> tuple[int, dict[str, Any]]:
    code = main(["data", "inspect", *map(str, sources), "--json", str(target)])
    return code, json.loads(target.read_text())


def test_classes_sizes_empty_and_tiny_ones_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_folder(tmp_path / "train", 1, 2)
    code, document = inspected(tmp_path / "found.json", folder)
    found = document["sources"][str(folder)]
    assert code == 0 and found["images"] == 4 and document["duplicates"] == []
    mugs = {"images": 3, "segments": 3, "median_share": 3600 / 19200}
    assert found["classes"]["mug"] == mugs and found["classes"]["bin"]["segments"] == 0
    assert found["sizes"] == [[120, 160, 4]] and found["texts"] == {"captions": 2}
    assert len(found["empty"]) == 1 and list(found["small_segments"].values()) == [1]
    text = capsys.readouterr().out
    assert "never there: bin, floor" in text and "1 image without a segment" in text


def test_an_image_in_two_sets_is_told_though_it_was_scaled_and_compressed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = save_folder(tmp_path / "train", 1, 2), save_folder(tmp_path / "val", 3)
    code, _ = inspected(tmp_path / "found.json", train, val)
    assert code == 0
    other = tmp_path / "masks"
    (other / "masks").mkdir(parents=True)
    (other / "images").mkdir()
    Image.fromarray(scene(2)).resize((320, 240)).save(other / "images" / "a.jpg", quality=70)
    Image.new("L", (320, 240), 1).save(other / "masks" / "a.png")
    (other / "labelmap.txt").write_text("background:0,0,0::\nmug:128,0,0::\n")
    capsys.readouterr()
    code, document = inspected(tmp_path / "found.json", train, other)
    assert code == 1 and len(document["duplicates"]) == 1
    assert "in two data sets" in capsys.readouterr().out


def test_what_is_broken_is_told_and_the_rest_is_counted(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "train", 1, 2)
    shutil.copy(folder / "panoptic" / "000003.png", folder / "panoptic" / "000000.png")
    (folder / "images" / "000001.png").write_bytes(b"hello")
    code, document = inspected(tmp_path / "found.json", folder)
    found = document["sources"][str(folder)]
    assert code == 1 and len(found["broken"]) == 2 and found["images"] == 4


def save_bank(path: Path) -> Path:
    """A thing to paste, and a picture to paste it on."""
    writer = BankWriter()
    for add, shape in (
        (lambda file: writer.cut_out("mug", True, file), (60, 60, 4)),
        (writer.photograph, (120, 160, 3)),
    ):
        file = io.BytesIO()
        pixels = np.random.default_rng(0).integers(128, 256, shape, np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        add(file.getvalue())
    writer.write(path)
    return path


def test_the_scenes_of_a_bank_are_not_composed_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="banks need opencv-python-headless")
    monkeypatch.setattr("xdecoder_rt.cli.data._SCENES_OF_A_BANK", 3)
    bank = save_bank(tmp_path / "bank")
    _, document = inspected(tmp_path / "found.json", bank)
    assert document["sources"][str(bank)]["images"] == 3
    assert "its first 3 scenes" in capsys.readouterr().err
    folder = save_folder(tmp_path / "train", 1, 2)
    assert main(["data", "inspect", str(folder), "--limit", "2"]) == 0
    assert "2 images" in capsys.readouterr().out


def test_a_sheet_is_drawn(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "train", 1, 2)
    sheet = tmp_path / "sheet.jpg"
    assert main(["data", "inspect", str(folder), "-o", str(sheet), "--count", "3"]) == 0
    with Image.open(sheet) as image:
        assert image.format == "JPEG"


def test_pictures_without_structure_are_not_taken_for_one_another() -> None:
    assert likeness(np.full((40, 40, 3), 90, np.uint8)) is None
    first, second = likeness(scene(1)), likeness(scene(2))
    assert first is not None and second is not None and (first != second).sum() > 20
