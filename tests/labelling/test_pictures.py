"""Which pictures a run is about, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from command_line import save_picture

from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.labelling.pictures import find_pictures


def keys(*sources: Path, output: Path) -> list[str]:
    found = find_pictures([str(source) for source in sources], output)
    return [picture.key for picture in found.pictures]


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    (folder / "day 2" / "left").mkdir(parents=True)
    save_picture(folder / "10.png")
    save_picture(folder / "9.png")
    save_picture(folder / "day 2" / "a.png")
    save_picture(folder / "day 2" / "left" / "a.jpg")
    (folder / "notes.csv").write_text("x")
    return folder


def test_folders_are_entered_and_pictures_keep_their_relative_paths(
    shots: Path, tmp_path: Path
) -> None:
    found = find_pictures([str(shots)], tmp_path / "out")
    assert [p.key for p in found.pictures] == ["9.png", "10.png", "day 2/a.png", "day 2/left/a.jpg"]
    assert found.left_out == {".csv": 1}


def test_the_folder_that_is_written_to_is_no_source(shots: Path) -> None:
    (shots / "out" / "images").mkdir(parents=True)
    save_picture(shots / "out" / "images" / "copy.png")
    assert "out/images/copy.png" not in keys(shots, output=shots / "out")


def test_several_sources_are_told_apart_by_their_names(shots: Path, tmp_path: Path) -> None:
    other = tmp_path / "more" / "shots"
    other.mkdir(parents=True)
    save_picture(other / "9.png")
    assert "shots/9.png" in keys(shots, other, output=tmp_path / "out")
    assert "shots-2/9.png" in keys(shots, other, output=tmp_path / "out")


def test_a_picture_that_is_named_twice_is_labelled_once(shots: Path, tmp_path: Path) -> None:
    assert len(keys(shots, shots / "9.png", output=tmp_path / "out")) == 4


def test_a_list_names_pictures_relative_to_itself(shots: Path, tmp_path: Path) -> None:
    outside = save_picture(tmp_path / "outside.png")
    (shots / "list.txt").write_text(f"# mine\n9.png\n\nday 2/a.png\n{outside}\n../outside.png\n")
    found = keys(shots / "list.txt", output=tmp_path / "out")
    assert found[:2] == ["9.png", "day 2/a.png"] and len(found) == 3
    assert not os.path.isabs(found[2]) and ".." not in found[2]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="There are no pictures"):
        keys(tmp_path / "empty", output=tmp_path / "out")
    with pytest.raises(ImageError, match="There is no folder, list, video or image"):
        keys(tmp_path / "gone", output=tmp_path / "out")
    (tmp_path / "list.txt").write_bytes(b"a\0b")
    with pytest.raises(ImageError, match="is no list of pictures"):
        keys(tmp_path / "list.txt", output=tmp_path / "out")


def save_video(path: Path, frames: int = 6) -> None:
    av = pytest.importorskip("av", reason="videos need the extra video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 30 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_frames_of_a_video_are_pictures_and_written_once(tmp_path: Path) -> None:
    save_video(tmp_path / "drive.mp4")
    output = tmp_path / "out"
    found = find_pictures([str(tmp_path / "drive.mp4")], output, every=2)
    assert [p.key for p in found.pictures] == [f"drive.mp4/{n:06d}.jpg" for n in (0, 2, 4)]
    before = [os.stat(p.path).st_mtime_ns for p in found.pictures]
    again = find_pictures([str(tmp_path / "drive.mp4")], output, every=2)
    assert again == found
    assert [os.stat(p.path).st_mtime_ns for p in again.pictures] == before


def test_frames_that_are_missing_of_an_interrupted_cut_are_written(tmp_path: Path) -> None:
    save_video(tmp_path / "drive.mp4")
    output = tmp_path / "out"
    found = find_pictures([str(tmp_path)], output)
    os.unlink(found.pictures[3].path)
    os.unlink(Path(found.pictures[0].path).parent / "whole")
    assert find_pictures([str(tmp_path)], output) == found


def test_frames_of_another_step_are_not_mixed(tmp_path: Path) -> None:
    save_video(tmp_path / "drive.mp4")
    find_pictures([str(tmp_path / "drive.mp4")], tmp_path / "out")
    with pytest.raises(ArgumentError, match="another --every"):
        find_pictures([str(tmp_path / "drive.mp4")], tmp_path / "out", every=2)
