"""Calibration sets: images like those that a model will see, with labels for its accuracy."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.datasets.labelled_folder import ANNOTATIONS, LabelledFolder
from xdecoder_rt.errors import DatasetError, ImageError, quoted
from xdecoder_rt.files.folder import list_images
from xdecoder_rt.image import RgbImage, load_image
from xdecoder_rt.streams.video import VideoFile

FEW_IMAGES = 100
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")


@dataclass(frozen=True)
class CalibrationSet:
    """Images that a model is calibrated on.

    Attributes:
        path: the folder or the video.
        images: the image files; empty for a video.
        labels: the labelled folder, where it is one.
        frames: how many images or video frames there are.
    """

    path: Path
    images: tuple[Path, ...]
    labels: LabelledFolder | None
    frames: int

    @classmethod
    def open(cls, path: Path, *, labelled: bool = False) -> CalibrationSet:
        """Read what is there; fewer than 100 images draw a warning.

        Args:
            path: a labelled folder (one with annotations.json), a folder of images, or a video.
            labelled: whether labels are needed.

        Raises:
            DatasetError: there is no such set, it is empty or broken, or it lacks labels.
            ImageError: a video cannot be read, or is not whole.
            MissingExtraError: a video is given and PyAV is not installed.
        """
        name = quoted(str(path), 200)
        if os.path.isdir(path) and os.path.isfile(path / ANNOTATIONS):
            folder = LabelledFolder.open(path)
            result = cls(
                path, tuple(item.image for item in folder.items), folder, len(folder.items)
            )
        elif os.path.isdir(path):
            images = list_images(path).images
            result = cls(path, images, None, len(images))
        elif os.path.isfile(path) and path.suffix.lower() in VIDEO_SUFFIXES:
            result = cls(path, (), None, _video_length(path))
        else:
            raise DatasetError(
                f"{name} is no calibration set",
                expected="a labelled folder, a folder of images, or a video",
            )
        if result.frames == 0:
            raise DatasetError(
                f"The calibration set {name} is empty",
                expected="a few hundred images like those that the model will see",
            )
        if labelled and result.labels is None:
            raise DatasetError(
                f"The calibration set {name} has no labels",
                expected=f"a labelled folder, with {ANNOTATIONS}",
            )
        if result.frames < FEW_IMAGES:
            warnings.warn(
                f"The calibration set {name} has {result.frames} images; ranges found on fewer "
                f"than {FEW_IMAGES} may not hold for others",
                stacklevel=2,
            )
        return result

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the files' names, sizes and times of change, for the caches."""
        digest = hashlib.sha256()
        for file in self.images or (self.path,):
            facts = file.stat()
            digest.update(f"{file}\n{facts.st_size}\n{facts.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def chosen(self, count: int, part: int = 0) -> list[int]:
        """Return the numbers of `count` images, spread evenly; other parts take others, if any.

        Args:
            count: at most so many.
            part: 0 or 1; while there are twice as many images the two do not meet.
        """
        count = min(count, self.frames)
        step = self.frames / count
        shift = step / 2 if part else 0.0
        return sorted({min(self.frames - 1, int(i * step + shift)) for i in range(count)})

    def others(self, used: Collection[int], count: int) -> list[int]:
        """Return the numbers of `count` images that are not among `used`, spread evenly.

        Where there are too few of them the rest are used ones, spread evenly too.

        Args:
            used: numbers of images.
            count: at most so many.
        """
        known = set(used)
        fresh = [number for number in range(self.frames) if number not in known]
        taken = _spread(fresh, count)
        return sorted(taken + _spread(sorted(known), count - len(taken)))

    def read(self, numbers: Sequence[int]) -> Iterator[RgbImage]:
        """Yield the images of some numbers in rising order: RGB uint8 ``[H, W, 3]``.

        Raises:
            ImageError: one of them cannot be read.
        """
        if self.images:
            for number in numbers:
                yield load_image(self.images[number])
        else:
            yield from _video_frames(self.path, numbers)


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """Return `count` of some numbers at even distances, or all of them."""
    count = min(count, len(numbers))
    return [numbers[int((i + 0.5) * len(numbers) / count)] for i in range(count)]


def _video_length(path: Path) -> int:
    """Return how many frames there are: what the container announces may be a guess, or nothing."""
    video = VideoFile(path, fps=None)
    try:
        if video.announced is not None:
            return video.announced
        frames = sum(1 for _ in video)
    finally:
        video.close()
    if video.failures:
        raise video.failures[0]
    return frames


def _video_frames(path: Path, numbers: Sequence[int]) -> Iterator[RgbImage]:
    requested = set(numbers)
    video = VideoFile(path, fps=None)
    try:
        for number, frame in enumerate(video):
            if number in requested:
                requested.remove(number)
                yield frame.pixels
            if not requested:
                return
    finally:
        video.close()
    if requested:
        raise ImageError(
            f"Frame {min(requested)} of {quoted(str(path), 200)} cannot be read",
            expected="a whole video",
        ) from next(iter(video.failures), None)
