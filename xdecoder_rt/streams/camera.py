"""Cameras, read with OpenCV."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xdecoder_rt.errors import ImageError, printable, require
from xdecoder_rt.streams.reconnect import LiveStream, Tell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["camera_number", "open_camera"]


def camera_number(text: str) -> int | None:
    """Return the number of a camera named by it or by its device (``/dev/video2``), or None."""
    if re.fullmatch(r"[0-9]{1,3}", text) and not os.path.exists(text):
        return int(text)
    device = re.fullmatch(r"/dev/video([0-9]{1,3})", text)
    return int(device[1]) if device else None


def open_camera(number: int, tell: Tell) -> LiveStream:
    """Open a camera; one that is unplugged is opened again when it is back.

    Args:
        number: the camera's.
        tell: see `LiveStream`.

    Raises:
        ImageError: it cannot be opened.
        MissingExtraError: OpenCV is not installed.
    """
    # Read when OpenCV is imported: its own messages say nothing to a user.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    cv2 = require("cv2", "video")
    return LiveStream(f"camera {number}", lambda: _Camera(cv2, number), tell)


class _Camera:
    """A camera that is open.

    Args:
        cv2: OpenCV's module.
        number: the camera's.

    Raises:
        ImageError: it cannot be opened.
    """

    is_over = False

    def __init__(self, cv2: Any, number: int) -> None:
        self._cv2 = cv2
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ImageError(
                f"The {printable(f'camera {number}', 200)} cannot be opened",
                expected="a connected camera that no other program uses",
            )
        # The driver's queue holds the past.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 1.0 <= rate <= 1000.0 else None

    def frames(self) -> Iterator[tuple[npt.NDArray[np.uint8], float | None]]:
        """Read until the camera is lost; a frame's time is when it came."""
        while True:
            is_read, frame = self._capture.read()
            if not is_read:
                raise ImageError("it gives no more frames")
            yield self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB), time.perf_counter()

    def stop(self) -> None:
        """Do nothing: the next frame or the driver ends the wait."""

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()
