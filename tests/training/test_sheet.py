"""Sheets of a data set's pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.items import Phrase
from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.training.sheet import main, write_sheet


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    with LabelledFolderWriter(tmp_path / "data", ["cup"]) as writer:
        for side in (40, 60, 80):
            ids = np.zeros((side, 80), np.uint8)
            ids[10:30, 20:60] = 1
            image = np.zeros((side, 80, 3), np.uint8)
            writer.add(image, ids, {1: "cup"}, phrases=[Phrase("the cup", (1,))])
    return LabelledFolder.open(tmp_path / "data")


def test_a_sheet_shows_borders_and_keeps_the_grid(folder: LabelledFolder, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.jpg"
    write_sheet(folder, out, count=9, columns=2, width=100)
    with Image.open(out) as image:
        assert image.format == "JPEG"
        assert image.width == 2 * 104 + 4
        pixels = np.asarray(image).astype(int)
    yellow = pixels[..., 0] - pixels[..., 2] > 40
    assert yellow.sum() > 100


def test_the_command_draws_a_sheet(
    folder: LabelledFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.jpg"
    assert main([str(folder.root), str(out), "--count", "2", "--width", "80"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    assert out.exists()
    assert main([str(tmp_path / "none"), str(out)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_former_command_draws_it_too_and_names_the_new_one(
    folder: LabelledFolder, tmp_path: Path
) -> None:
    command = "xdecoder_rt.training.scenes sheet data sheet.jpg --count 1"
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "sheet.jpg: 1 pictures\n", done.stderr
    assert "python -m xdecoder_rt.training.sheet" in done.stderr
    assert (tmp_path / "sheet.jpg").exists()


def test_numbers_out_of_range_and_unwritable_places_are_refused(
    folder: LabelledFolder, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="count is 0"):
        write_sheet(folder, tmp_path / "a.jpg", count=0)
    with pytest.raises(ArgumentError, match="width is 9"):
        write_sheet(folder, tmp_path / "a.jpg", width=9)
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_sheet(folder, tmp_path / "file" / "a.jpg", width=64)
