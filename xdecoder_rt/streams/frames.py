"""Sources of frames: a camera, a video, a folder of images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xdecoder_rt.errors import ImageError, XDecoderError, printable, quoted, require
from xdecoder_rt.files.folder import FolderImages, list_images
from xdecoder_rt.files.formats import IMAGE_SUFFIXES
from xdecoder_rt.files.regular import open_regular

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Pixels = npt.NDArray[np.uint8]

FOLDER_FPS = 10.0
_CAMERA_FPS = 30.0


class FrameSource(Protocol):
    """A stream of frames.

    Attributes:
        name: for people.
        fps: frames a second of the stream as it happens.
        is_live: whether frames come when they want to, not when they are read.
        failures: frames that could not be read and were skipped.
    """

    name: str
    fps: float
    is_live: bool
    failures: list[XDecoderError]

    def __iter__(self) -> Iterator[_Pixels]:
        """RGB frames, uint8 ``[H, W, 3]``."""

    def close(self) -> None:
        """Let go of the device or file."""


def open_frames(text: str, fps: float | None = None) -> FrameSource:
    """Open what a user named.

    Args:
        text: a camera's number, a video file, or a folder of images.
        fps: the pace of a video or folder; None takes the video's own, or 10 for a folder.

    Raises:
        ImageError: there is nothing of that name, or it cannot be read.
        MissingExtraError: OpenCV is needed and not installed.
    """
    if re.fullmatch(r"[0-9]{1,3}", text) and not Path(text).exists():
        return Capture(int(text), f"camera {text}", None)
    path = Path(text)
    if path.is_dir():
        return ImageFolder(path, fps or FOLDER_FPS)
    if not path.exists():
        raise ImageError(
            f"There is no video or folder {quoted(text, 200)}",
            expected="a camera's number (0 is the first), a video file, or a folder of images",
        )
    try:
        open_regular(path).close()  # OpenCV waits for ever on a named pipe
    except OSError as error:
        raise ImageError(
            f"The video {quoted(text, 200)} cannot be read: {error.strerror}",
            expected="a video file, or a camera's number (2 is /dev/video2)",
        ) from error
    return Capture(text, f"video {path.name}", fps)


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

    def __iter__(self) -> Iterator[_Pixels]:
        """Read one image after the other; broken ones go to `failures`."""
        from xdecoder_rt.image import load_image

        for path in self._files:
            try:
                yield load_image(path)
            except ImageError as error:
                self.failures.append(error)

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Capture:
    """A camera or a video, read with OpenCV.

    Args:
        device: a camera's number or a file.
        name: for people.
        fps: the pace of a video; None takes its own.

    Raises:
        ImageError: it cannot be opened.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, device: int | str, name: str, fps: float | None) -> None:
        # Read when OpenCV is imported: its and FFmpeg's own messages say nothing to a user.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._cv2: Any = require("cv2", "video")
        self.name = name
        self.failures: list[XDecoderError] = []
        self.is_live = isinstance(device, int)
        self._capture = self._cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise ImageError(
                f"The {printable(name, 200)} cannot be opened",
                expected="a connected camera that no other program uses"
                if self.is_live
                else "a video file that OpenCV reads",
            )
        video_fps = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        self.fps = fps or (video_fps if 1.0 <= video_fps <= 1000.0 else _CAMERA_FPS)

    def __iter__(self) -> Iterator[_Pixels]:
        """Read until the stream ends or is closed."""
        while True:
            is_read, frame = self._capture.read()
            if not is_read:
                return
            yield self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Let go of the device or file."""
        self._capture.release()
