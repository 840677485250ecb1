"""The list of images of a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from xdecoder_rt.cli.images import ImageList


def test_what_folders_hold_beside_images_is_said_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "more").mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(tmp_path / name / "a.jpe", "JPEG")
    (tmp_path / "two" / "b.HEIC").write_bytes(b"")
    images = ImageList.read([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [Path(path).name for path in images.paths] == ["a.jpe", "a.jpe"]
    assert images.left_out == {"sub-folders": 2, ".heic": 1}
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "left out 1 sub-folders",
        "left out 1 .heic, 1 sub-folders",
    ]
