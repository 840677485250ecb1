"""Sources of frames: a camera, a video, a folder of images."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from xdecoder_rt.errors import ImageError, XDecoderError, printable, quoted, require
from xdecoder_rt.files.folder import FolderImages, list_images
from xdecoder_rt.files.formats import IMAGE_SUFFIXES
from xdecoder_rt.streams.timed import TimedFrame
from xdecoder_rt.streams.video import VideoFile

FOLDER_FPS = 10.0
_CAMERA_FPS = 30.0


class FrameSource(Protocol):
    """A stream of frames.

    Attributes:
        name: for people.
        fps: frames a second of the stream as it happens.
        is_live: whether frames come when they want to, not when they are read.
        announced: frames that there should be; None where nothing says so.
        failures: why, in words.
    """

    name: str
    fps: float
    is_live: bool
    announced: int | None
    failures: list[XDecoderError]

    @property
    def missing(self) -> int:
        """Frames that could not be read, or not whole, so far; of a video, known at its end."""

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield the frames in their order."""

    def close(self) -> None:
        """Let go of the device or file."""


def open_frames(text: str, fps: float | None = None) -> FrameSource:
    """Open what a user named.

    Args:
        text: a camera's number, a video file, or a folder of images.
        fps: the pace of a video or folder; None takes the video's own, or 10 for a folder.

    Raises:
        ImageError: there is nothing of that name, or it cannot be read.
        MissingExtraError: OpenCV (cameras) or PyAV (videos) is needed and not installed.
    """
    if re.fullmatch(r"[0-9]{1,3}", text) and not os.path.exists(text):
        return Camera(int(text))
    path = Path(text)
    if os.path.isdir(path):
        return ImageFolder(path, fps or FOLDER_FPS)
    if not os.path.lexists(path):
        raise ImageError(
            f"There is no video or folder {quoted(text, 200)}",
            expected="a camera's number (0 is the first), a video file, or a folder of images",
        )
    return VideoFile(path, fps)


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


class ImageFolder:
    """The images of a folder, in the order of `images_in`.

    Args:
        path: the folder.
        fps: frames a second to show them at.

    Raises:
        ImageError: the folder holds no images, or cannot be read.
    """

    is_live = False

    def __init__(self, path: Path, fps: float) -> None:
        self.name = f"folder {path}"
        self.fps = fps
        self.failures: list[XDecoderError] = []
        self._files = images_in(path).images
        self.announced: int | None = len(self._files)

    @property
    def missing(self) -> int:
        """Images that could not be read so far."""
        return len(self.failures)

    def __iter__(self) -> Iterator[TimedFrame]:
        """Read one image after the other; broken ones go to `failures`."""
        from xdecoder_rt.image import load_image

        for number, path in enumerate(self._files):
            try:
                yield TimedFrame(load_image(path), number / self.fps)
            except ImageError as error:
                self.failures.append(error)

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Camera:
    """A camera, read with OpenCV.

    Args:
        number: the camera's.

    Raises:
        ImageError: it cannot be opened.
        MissingExtraError: OpenCV is not installed.
    """

    is_live = True
    announced: int | None = None
    missing = 0

    def __init__(self, number: int) -> None:
        # Read when OpenCV is imported: its own messages say nothing to a user.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        self._cv2: Any = require("cv2", "video")
        self.name = f"camera {number}"
        self.failures: list[XDecoderError] = []
        self._capture = self._cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ImageError(
                f"The {printable(self.name, 200)} cannot be opened",
                expected="a connected camera that no other program uses",
            )
        rate = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        self.fps = rate if 1.0 <= rate <= 1000.0 else _CAMERA_FPS

    def __iter__(self) -> Iterator[TimedFrame]:
        """Read until the camera ends or is closed; a frame's time is when it came."""
        start: float | None = None
        while True:
            is_read, frame = self._capture.read()
            if not is_read:
                return
            now = time.perf_counter()
            start = now if start is None else start
            yield TimedFrame(self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB), now - start)

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()
