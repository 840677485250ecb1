"""What a model may be calibrated on, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.errors import DatasetError


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


def test_a_video(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="videos need the extra video")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    for i in range(5):
        writer.write(np.full((32, 32, 3), 50 * i, np.uint8))
    writer.release()
    with pytest.warns(UserWarning, match="has 5 images"):
        found = CalibrationSet.open(path)
    levels = [int(image.mean()) for image in found.read([1, 4])]
    assert abs(levels[0] - 50) < 10 and abs(levels[1] - 200) < 10


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
