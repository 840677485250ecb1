"""Sources of frames, by what a user calls them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from xdecoder_rt.errors import ImageError, XDecoderError, quoted
from xdecoder_rt.streams.address import SCHEMES, open_address
from xdecoder_rt.streams.camera import camera_number, open_camera
from xdecoder_rt.streams.folders import ImageFiles, WatchedFolder, images_in, matching
from xdecoder_rt.streams.pipeline import csi_pipeline, is_pipeline, open_pipeline
from xdecoder_rt.streams.reconnect import Tell, in_silence
from xdecoder_rt.streams.timed import TimedFrame
from xdecoder_rt.streams.video import VideoFile

__all__ = ["FOLDER_FPS", "SOURCES", "FrameSource", "open_frames"]

FOLDER_FPS = 10.0
SOURCES = (
    "a camera's number (0 is the first), a video file, a folder of images, a pattern "
    "(shots/*.jpg, shots/%05d.png), watch:FOLDER, rtsp:// or http://, csi://0, or a GStreamer "
    'pipeline ("v4l2src ! videoconvert")'
)


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

    def stop(self) -> None:
        """Make the iteration end soon, from any thread; what waits for a frame waits no longer."""

    def close(self) -> None:
        """Let go of the device, file or connection; not while another thread reads."""


def open_frames(text: str, fps: float | None = None, tell: Tell = in_silence) -> FrameSource:
    """Open what a user named.

    Cameras, addresses and pipelines are opened again when they are lost.

    Args:
        text: one of `SOURCES`.
        fps: the pace of a video or of images; None takes the video's own, or 10 for images.
        tell: told in a line when a live stream is lost and when it is back.

    Raises:
        ImageError: there is nothing of that name, or it cannot be read.
        ArgumentError: what follows ``csi://`` is no camera.
        MissingExtraError: OpenCV (cameras) or PyAV (all other moving pictures) is not installed.

    Example:
        >>> frames = open_frames("shots", fps=5)
        >>> [(frame.pixels.shape, frame.seconds) for frame in frames]
        [((480, 640, 3), 0.0), ((480, 640, 3), 0.2)]
        >>> frames.close()
    """
    number = camera_number(text)
    if number is not None:
        return open_camera(number, tell)
    scheme, colon, rest = text.partition(":")
    if scheme.lower() in SCHEMES and rest.startswith("//"):
        return open_address(text, tell)
    if scheme.lower() == "csi" and rest.startswith("//"):
        return open_pipeline(csi_pipeline(text), f"camera {text}", tell)
    path = Path(text)
    if os.path.isdir(path):
        return ImageFiles(f"folder {path}", images_in(path).images, fps or FOLDER_FPS)
    if os.path.lexists(path):
        return VideoFile(path, fps)
    if scheme == "watch" and colon:
        return WatchedFolder(Path(rest), fps or FOLDER_FPS)
    if is_pipeline(text):
        return open_pipeline(text, "pipeline", tell)
    files = matching(text)
    if files is not None:
        return ImageFiles(f"images {text}", files, fps or FOLDER_FPS)
    raise ImageError(f"There is no video or folder {quoted(text, 200)}", expected=SOURCES)
