"""The images of a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from xdecoder_rt.errors import ImageError
from xdecoder_rt.files.folder import list_images
from xdecoder_rt.streams.folders import images_in


def save(path: Path, form: str = "JPEG") -> None:
    Image.new("RGB", (4, 3)).save(path, form)


@pytest.mark.timeout(20)
def test_what_can_be_read_is_taken_and_the_rest_is_counted(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.jpe", "c.JPG", "frame10", "frame9.dat"):
        save(tmp_path / name)
    save(tmp_path / "d.pgm", "PPM")
    (tmp_path / "e.png").write_bytes(b"damaged")
    (tmp_path / "f.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "README").write_text("no image")
    (tmp_path / "more").mkdir()
    save(tmp_path / "._a.jpg")
    os.mkfifo(tmp_path / "pipe")
    found = list_images(tmp_path)
    assert [path.name for path in found.images] == [
        *("a.jfif", "b.jpe", "c.JPG", "d.pgm", "e.png", "frame9.dat", "frame10")
    ]
    assert found.left_out == {
        **{".heic": 1, ".txt": 1, "hidden": 1, "sub-folders": 1, "without a suffix": 2}
    }
    assert found.remark == "1 .heic, 1 .txt, 1 hidden, 1 sub-folders, 2 without a suffix"


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "f.HEIC").write_bytes(b"")
    with pytest.raises(ImageError, match=r"holds no images \(left out: 1 \.heic\)"):
        images_in(tmp_path)
