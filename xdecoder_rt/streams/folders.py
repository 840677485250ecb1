"""Images as a stream: a folder, a pattern of names, a folder that others write into."""

from __future__ import annotations

import glob
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.errors import ImageError, XDecoderError, quoted
from xdecoder_rt.files.folder import FolderImages, list_images, natural_order
from xdecoder_rt.files.formats import IMAGE_SUFFIXES
from xdecoder_rt.image import load_image
from xdecoder_rt.streams.timed import TimedFrame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ImageFiles", "WatchedFolder", "images_in", "matching"]

_NUMBER = re.compile(r"%(?:0[1-9])?d")
_POLL_SECONDS = 0.05
_PARTIAL_SECONDS = 2.0


def images_in(folder: Path) -> FolderImages:
    """Return the images of a folder, at least one, and how much else it holds.

    Raises:
        ImageError: the folder holds no images, or cannot be read.
    """
    found = list_images(folder)
    if not found.images:
        raise ImageError(
            f"The folder {quoted(str(folder), 200)} holds no images"
            + (f" (left out: {found.remark})" if found.remark else ""),
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES),
        )
    return found


def matching(pattern: str) -> tuple[Path, ...] | None:
    """Return the files of a pattern in the order of their names, numbers by value.

    Args:
        pattern: ``shots/*.jpg``, or ``shots/frame_%05d.png`` as FFmpeg has it.

    Returns:
        The files; None for a text that is no pattern.

    Raises:
        ImageError: there is no such file.
    """
    folder, name = os.path.split(pattern)
    number = _NUMBER.search(name)
    if number:
        begin, end = name[: number.start()], name[number.end() :]
        width = int(number[0][2:-1] or 1) if number[0] != "%d" else 1
        form = re.compile(re.escape(begin) + rf"([0-9]{{{width},}})" + re.escape(end))
        try:
            names = [found for found in os.listdir(folder or ".") if form.fullmatch(found)]
        except OSError:
            names = []
        paths = [Path(folder, found) for found in names]
    elif glob.has_magic(pattern):
        paths = [Path(found) for found in glob.glob(pattern) if os.path.isfile(found)]
    else:
        return None
    if not paths:
        raise ImageError(
            f"No file is named as {quoted(pattern, 200)}",
            expected="a pattern of images that are there: shots/*.jpg or shots/%05d.png",
        )
    return tuple(sorted(paths, key=natural_order))


class ImageFiles:
    """Image files, one after the other.

    Args:
        name: for people.
        files: at least one.
        fps: frames a second to show them at.
    """

    is_live = False

    def __init__(self, name: str, files: Sequence[Path], fps: float) -> None:
        self.name = name
        self.fps = fps
        self.failures: list[XDecoderError] = []
        self._files = files
        self.announced: int | None = len(files)

    @property
    def missing(self) -> int:
        """Images that could not be read so far."""
        return len(self.failures)

    def __iter__(self) -> Iterator[TimedFrame]:
        """Read one image after the other; broken ones go to `failures`."""
        for number, path in enumerate(self._files):
            try:
                yield TimedFrame(load_image(path), number / self.fps)
            except ImageError as error:
                self.failures.append(error)

    def stop(self) -> None:
        """Do nothing: files do not make their reader wait."""

    def close(self) -> None:
        """Do nothing: nothing is held."""


class WatchedFolder:
    """A folder that images are written into: those that are there, then each as it is finished.

    A file that cannot be read yet is tried again while it grows; one that has not changed for two
    seconds is damaged. A file that is written anew under its name is a new frame. A frame's time is
    when it was seen.

    Args:
        path: the folder.
        fps: the pace that is announced.

    Raises:
        ImageError: the folder cannot be read.
    """

    is_live = True
    announced: int | None = None

    def __init__(self, path: Path, fps: float) -> None:
        self.name = f"folder {path}, watched"
        self.fps = fps
        self.failures: list[XDecoderError] = []
        self._path = path
        self._stopped = threading.Event()
        self._given: dict[Path, tuple[int, ...]] = {}
        self._partial: dict[Path, tuple[tuple[int, ...], float]] = {}
        list_images(path)

    @property
    def missing(self) -> int:
        """Images that could not be read so far."""
        return len(self.failures)

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield images until it is stopped or the folder is gone."""
        start: float | None = None
        while not self._stopped.is_set():
            try:
                files = list_images(self._path).images
            except ImageError as error:
                self.failures.append(error)
                return
            # Only what is there is remembered: memory does not grow with what was.
            for known in (self._given, self._partial):
                for path in known.keys() - set(files):
                    del known[path]
            for path in files:
                frame = self._finished(path)
                if frame is not None:
                    now = time.perf_counter()
                    start = now if start is None else start
                    yield TimedFrame(frame, now - start)
                if self._stopped.is_set():
                    return
            self._stopped.wait(_POLL_SECONDS)

    def _finished(self, path: Path) -> npt.NDArray[np.uint8] | None:
        """Return an image that is new and whole, else None."""
        try:
            status = path.stat()
        except OSError:
            return None
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._given.get(path) == state:
            return None
        try:
            pixels = load_image(path)
        except ImageError as error:
            known = self._partial.get(path)
            if known is None or known[0] != state:
                self._partial[path] = (state, time.monotonic())
            elif time.monotonic() - known[1] > _PARTIAL_SECONDS:
                self.failures.append(error)
                self._given[path] = state
            return None
        self._partial.pop(path, None)
        self._given[path] = state
        return pixels

    def stop(self) -> None:
        """End the iteration, from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """End the iteration."""
        self.stop()
