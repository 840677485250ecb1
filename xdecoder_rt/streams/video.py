"""Video files: every frame with its time, and how many of those announced did not come."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xdecoder_rt.errors import ImageError, XDecoderError, printable, quoted, require
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.streams.cut import is_cut
from xdecoder_rt.streams.timed import Clock, TimedFrame

if TYPE_CHECKING:
    import numpy.typing as npt

# Containers of pictures over time. Play lists, which name other files and addresses, are none.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,ivf,h264,hevc,mjpeg,gif,webp_pipe"
)
_PIXELS_LIMIT = 1 << 27
_USUAL_FPS = 30.0
_PACKETS_MEASURED = 64


class VideoFile:
    """A video file, read with PyAV, frame by frame, upright.

    Attributes:
        name: for people.
        fps: frames a second: the container's word where the first frames keep to it.
        is_live: False.
        announced: frames that the container says there are; None where it says nothing.
        missing: frames that did not come or came damaged; known when it has been read to its end.
        failures: what is missing, in words.

    Args:
        path: a regular file.
        fps: its pace; None goes by the time stamps.

    Raises:
        ImageError: it cannot be opened, or holds no pictures.
        MissingExtraError: PyAV is not installed.
    """

    is_live = False

    def __init__(self, path: Path, fps: float | None) -> None:
        self._av: Any = require("av", "video")
        self.name = f"video {path.name}"
        self.missing = 0
        self.failures: list[XDecoderError] = []
        self._path = path
        self._file = self._open_file()
        try:
            self._container, self._stream = self._open()
            measured = self._measured_fps()
            self._container.close()
            self._is_cut = is_cut(self._file, self._container.format.name)
            self._file.seek(0)
            # Opened again: not every container can be wound back.
            self._container, self._stream = self._open()
        except BaseException:
            self._file.close()
            raise
        self._keeps_time = fps is None
        self.fps = fps or self._likely_fps(measured)
        self.announced = self._announced_frames()

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield frames by their time stamps; at the end, note what is missing."""
        clock = Clock(1.0 / self.fps)
        damaged = lost = shown = 0
        for frame in self._decoded():
            if frame is None:
                lost += 1
                continue
            damaged += bool(frame.is_corrupt)
            seconds = clock.next(frame.time)
            shown += 1
            yield TimedFrame(
                upright(frame), seconds if self._keeps_time else (shown - 1) / self.fps
            )
        self._take_stock(shown, damaged, lost, clock)

    def stop(self) -> None:
        """Do nothing: a file does not make its reader wait."""

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()
        self._file.close()

    def _open_file(self) -> BinaryIO:
        try:
            return open_regular(self._path)
        except OSError as error:
            raise ImageError(
                f"The video {quoted(str(self._path), 200)} cannot be read: {error.strerror}",
                expected="a video file, or a camera's number (2 is /dev/video2)",
            ) from error

    def _open(self) -> tuple[Any, Any]:
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
        try:
            container = self._av.open(self._file, metadata_errors="replace", options=options)
        except (self._av.error.FFmpegError, ValueError) as error:
            raise ImageError(
                f"The {printable(self.name, 200)} cannot be opened",
                expected="a whole video file (MP4, MOV, WebM, MKV, AVI, MPEG-TS, …)",
            ) from error
        return container, moving_pictures(container, self.name, self._av)

    def _measured_fps(self) -> float | None:
        """Return the rate at which the first frames come, by their time stamps."""
        stamps = []
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None:
                    stamps.append(float(packet.pts * self._stream.time_base))
                if len(stamps) == _PACKETS_MEASURED:
                    break
        except self._av.error.FFmpegError:  # what is damaged shows when it is read
            pass
        stamps.sort()
        steps = [b - a for a, b in zip(stamps, stamps[1:], strict=False) if 0 < b - a < math.inf]
        # The mean is shorter where stamps jitter, the median where frames are left out.
        return 1.0 / min(median(steps), sum(steps) / len(steps)) if steps else None

    def _likely_fps(self, measured: float | None) -> float:
        rates = [float(r) for r in (self._stream.average_rate, self._stream.guessed_rate) if r]
        announced = next((r for r in rates if 0.001 <= r <= 1000.0), None)
        if measured is None:
            return announced or _USUAL_FPS
        # Containers that count in milliseconds often announce 1000 frames a second.
        if announced is not None and abs(announced - measured) <= 0.1 * measured:
            return announced
        return measured

    def _announced_frames(self) -> int | None:
        """Return the frames announced, where all of them are meant to be shown."""
        count = int(self._stream.frames)
        form = self._container.format.name
        # A whole AVI counts empty frames, too.
        if count <= 0 or (form == "avi" and not self._is_cut):
            return None
        whole, shown = self._duration(), self._container.duration
        # An edit list leaves out frames that are there.
        if whole and shown and whole > shown / self._av.time_base + 1.0 / self.fps:
            return None
        return count

    def _duration(self) -> float | None:
        """Return the seconds that the video stream is announced to last."""
        stream, container = self._stream, self._container
        if stream.duration:
            return float(stream.duration * stream.time_base)
        tag = re.fullmatch(
            r"([0-9]{1,4}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,12})?)",
            str(stream.metadata.get("DURATION", "")),
        )
        if tag:
            return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
        if container.duration and len(container.streams) == 1:
            return float(container.duration / self._av.time_base)
        return None

    def _decoded(self) -> Iterator[Any]:
        """Yield decoded frames, and None for each packet that cannot be decoded."""
        error_class = self._av.error.FFmpegError
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except error_class:
                self._is_cut = True
                packet = None
            try:
                frames = self._stream.codec_context.decode(packet)
            except self._av.error.EOFError:
                frames = []
            except error_class:
                yield None
                frames = []
            yield from frames
            if packet is None:
                return

    def _take_stock(self, shown: int, damaged: int, lost: int, clock: Clock) -> None:
        """Compare what came with what was announced."""
        duration = self._duration()
        end = clock.end(since_zero="matroska" in self._container.format.name)
        absent = lost
        remarks = []
        if self.announced is not None:
            absent = max(lost, self.announced - shown)
            if absent:
                remarks.append(f"{absent} of {self.announced} frames announced are missing")
        elif duration is not None and duration - end > 1.5 * clock.longest_step:
            absent = max(lost, round((duration - end) * self.fps), 1)
            remarks.append(f"it ends after {end:.2f} of {duration:.2f} s, {absent} frames early")
        elif lost:
            remarks.append(f"frames that cannot be decoded: {lost}")
        if not absent and self._is_cut:
            absent = 1
            remarks.append("it is cut off in the middle of a frame")
        if not absent and not shown:
            absent = 1
            remarks.append("it holds no frame")
        if damaged:
            remarks.append(f"damaged frames: {damaged}")
        self.missing = absent + damaged
        if remarks:
            self.failures.append(
                ImageError(
                    f"The {printable(self.name, 200)} is not whole: {', '.join(remarks)} "
                    f"({shown} frames were read)",
                    fix="get a whole copy of it",
                )
            )


def upright(frame: Any) -> npt.NDArray[np.uint8]:
    """Return a decoded frame of PyAV turned as it is meant to be seen: RGB, uint8 ``[H, W, 3]``."""
    pixels: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def moving_pictures(container: Any, name: str, av: Any) -> Any:
    """Return the first video stream of an open container of PyAV that is no cover picture.

    Args:
        container: of ``av.open``.
        name: for people.
        av: the module.

    Raises:
        ImageError: there is none.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        raise ImageError(
            f"The {printable(name, 200)} holds no moving pictures",
            expected="a file or address with a video stream",
        )
    # The decoder refuses larger frames before it takes memory for them.
    streams[0].codec_context.options = {"max_pixels": str(_PIXELS_LIMIT)}
    return streams[0]
