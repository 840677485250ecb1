"""What a model may be calibrated on, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.errors import DatasetError, ImageError


def folder_of(path: Path, count: int) -> Path:
    path.mkdir(exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(path / f"{i:03}.png")
    return path


def test_a_folder_of_images(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="has 3 images"):
        found = CalibrationSet.open(folder_of(tmp_path / "few", 3))
    assert found.labels is None and found.frames == 3
    assert [int(image[0, 0, 0]) for image in found.read([0, 2])] == [0, 2]


def test_a_hundred_images_draw_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert CalibrationSet.open(folder_of(tmp_path / "many", 100)).frames == 100
    assert not recwarn.list


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        CalibrationSet.open(tmp_path)


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a labelled folder, a folder of images, or a video"):
        CalibrationSet.open(tmp_path / "nothing")


def test_labels_that_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no labels"):
        CalibrationSet.open(folder_of(tmp_path / "plain", 2), labelled=True)


def write_video(path: Path, levels: Sequence[int], codec: str, rate: int = 10) -> Path:
    """Write a video of plain grey frames, ten a second, that announces `rate`."""
    av = pytest.importorskip("av", reason="videos need the extra video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        clock = Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = clock
        for number, level in enumerate(levels):
            pixels = np.full((48, 64, 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 100 * number, clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        pytest.param("clip.mp4", "mpeg4", 10, id="MP4, which announces its frames"),
        pytest.param("clip.webm", "libvpx", 1000, id="a browser's WebM, which announces 1000 fps"),
        pytest.param("clip.mkv", "mpeg4", 1000, id="Matroska"),
        pytest.param("clip.avi", "mpeg4", 10, id="AVI"),
    ],
)
def test_a_video_has_as_many_images_as_frames(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    path = write_video(tmp_path / name, [40 * i for i in range(6)], codec, rate)
    with pytest.warns(UserWarning, match="has 6 images"):
        found = CalibrationSet.open(path)
    levels = [image.mean() for image in found.read([1, 5])]
    assert abs(levels[0] - 40) < 10 and abs(levels[1] - 200) < 10


@pytest.mark.parametrize(("name", "codec"), [("clip.webm", "libvpx"), ("clip.mkv", "mpeg4")])
def test_a_video_that_is_cut_off_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, [10 * (i % 20) for i in range(40)], codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(ImageError, match="is not whole"):
        CalibrationSet.open(path)


def test_a_frame_that_does_not_come_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [0, 50], "mpeg4")
    images = CalibrationSet(path, (), None, 3)
    with pytest.raises(ImageError, match="Frame 2 of .*clip.mp4"):
        list(images.read([0, 2]))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need the extra video")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(ImageError, match="cannot be opened"):
        CalibrationSet.open(tmp_path / "clip.mp4")


def test_the_digest_knows_its_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", 2)
    with pytest.warns(UserWarning):
        before = CalibrationSet.open(folder).digest
        Image.new("RGB", (9, 9)).save(folder / "002.png")
        assert CalibrationSet.open(folder).digest != before


@given(st.integers(1, 400), st.integers(1, 200))
def test_a_choice_is_even_and_the_parts_do_not_meet(frames: int, count: int) -> None:
    images = CalibrationSet(Path("none"), (), None, frames)
    first, second = images.chosen(count), images.chosen(count, part=1)
    assert len(first) == min(count, frames) and first == sorted(set(first))
    assert all(0 <= number < frames for number in (*first, *second))
    if frames >= 2 * count:
        assert not set(first) & set(second)


@given(st.integers(1, 600), st.integers(1, 300), st.integers(1, 200))
def test_accuracy_is_judged_by_images_that_gave_no_ranges_while_there_are_any(
    frames: int, calibrating: int, judging: int
) -> None:
    images = CalibrationSet(Path("none"), (), None, frames)
    used = images.chosen(calibrating)
    judges = images.others(used, judging)
    assert judges == sorted(set(judges)) and all(0 <= number < frames for number in judges)
    assert len(judges) == min(judging, frames)
    assert len(set(judges) & set(used)) == max(0, len(judges) - (frames - len(used)))
