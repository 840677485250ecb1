"""GStreamer pipelines, cameras on CSI among them, through a ``gst-launch-1.0`` of the system.

No wheel contains GStreamer, so a child runs the pipeline and sends raw frames, with their time
stamps, as Matroska, which PyAV reads.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from xdecoder_rt.errors import ArgumentError, ImageError, quoted, require
from xdecoder_rt.streams.reconnect import LiveStream, Tell
from xdecoder_rt.streams.video import moving_pictures, upright

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["csi_pipeline", "is_pipeline", "open_pipeline"]

_PROGRAM = "gst-launch-1.0"
_OWN_SINK = re.compile(r"!\s*(appsink|autovideosink|fakesink|fdsink)\b[^!]*$")
# Both GStreamer and FFmpeg have I420 in Matroska; the queue lets go of the oldest frame.
_TO_FRAMES = (
    "queue max-size-buffers=2 leaky=downstream ! videoconvert ! video/x-raw,format=I420 ! "
    "matroskamux streamable=true ! fdsink fd=1"
)
_SILENCE_SECONDS = 15.0
_CSI = {"width": 1280, "height": 720, "fps": 30, "flip": 0}


def is_pipeline(text: str) -> bool:
    """Whether a text is a pipeline: elements joined by exclamation marks."""
    return " ! " in text


def csi_pipeline(address: str) -> str:
    """Return NVIDIA's pipeline of a camera on CSI.

    Args:
        address: ``csi://0``, with ``?width=1920&height=1080&fps=30&flip=2`` where it is not the
            usual 1280, 720, 30 and 0 (`flip` is `flip-method` of ``nvvidconv``).

    Raises:
        ArgumentError: it is none.
    """
    parts = urlsplit(address)
    try:
        given = {name: int(value) for name, value in parse_qsl(parts.query, strict_parsing=True)} \
            if parts.query else {}  # fmt: skip
        number = int(parts.netloc)
        if not given.keys() <= _CSI.keys() or not 0 <= number < 64:
            raise ValueError
    except ValueError as error:
        raise ArgumentError(
            f"{quoted(address, 200)} is no camera on CSI",
            expected="csi:// and its number, with width, height, fps and flip: "
            "csi://0?width=1920&height=1080&fps=30",
        ) from error
    form = _CSI | given
    return (
        f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),format=NV12,"
        f"width={form['width']},height={form['height']},framerate={form['fps']}/1 ! "
        f"nvvidconv flip-method={form['flip']} ! video/x-raw,format=BGRx"
    )


def open_pipeline(pipeline: str, name: str, tell: Tell) -> LiveStream:
    """Run a pipeline and read its frames.

    Args:
        pipeline: in the words of ``gst-launch-1.0``, ending in raw video; a sink at its end is
            taken off.
        name: for people.
        tell: see `LiveStream`.

    Raises:
        ImageError: GStreamer is not there, or the pipeline gives no frames.
        MissingExtraError: PyAV is not installed.
    """
    av = require("av", "video")
    try:
        words = [*shlex.split(_OWN_SINK.sub("", pipeline).strip()), "!", *_TO_FRAMES.split()]
    except ValueError as error:
        raise ImageError(
            f"The pipeline {quoted(pipeline, 200)} cannot be read: {str(error).lower()}"
        ) from error
    return LiveStream(name, lambda: _Pipeline(av, words, pipeline), tell)


class _Pipeline:
    """A pipeline that runs.

    Args:
        av: PyAV's module.
        words: of ``gst-launch-1.0``.
        pipeline: for people.

    Raises:
        ImageError: see `open_pipeline`.
    """

    def __init__(self, av: Any, words: list[str], pipeline: str) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise ImageError(
                f"The pipeline {quoted(pipeline, 200)} needs {_PROGRAM}, which is not there",
                fix="install GStreamer: apt install gstreamer1.0-tools gstreamer1.0-plugins-good",
            )
        self._av = av
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            [program, "-q", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._messages,
        )
        assert self._child.stdout is not None
        self._pipe = _Pipe(self._child.stdout.fileno())
        self._container: Any = None
        try:
            self._container = av.open(self._pipe, format="matroska")
            self._stream = moving_pictures(self._container, "pipeline", av)
        except (av.error.FFmpegError, ValueError, TimeoutError, ImageError) as error:
            reason = self._reason() or str(error)
            self.close()
            raise ImageError(
                f"The pipeline {quoted(pipeline, 200)} gives no frames: {reason}",
                expected=f"a pipeline that {_PROGRAM} runs and that ends in raw video",
            ) from error
        rate = self._stream.average_rate
        self.fps = float(rate) if rate and 1.0 <= rate <= 1000.0 else None

    @property
    def is_over(self) -> bool:
        """Whether the pipeline came to its end by itself, without an error."""
        return self._child.returncode == 0

    def frames(self) -> Iterator[tuple[npt.NDArray[np.uint8], float | None]]:
        """Yield frames as the pipeline gives them."""
        try:
            for frame in self._container.decode(self._stream):
                yield upright(frame), frame.time
        except (self._av.error.FFmpegError, TimeoutError) as error:
            raise ImageError(self._reason() or str(error)) from error
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(2.0)
        if self._child.returncode and not self._pipe.is_stopped:
            raise ImageError(self._reason() or f"{_PROGRAM} ended with {self._child.returncode}")

    def stop(self) -> None:
        """Make the reader wait no longer."""
        self._pipe.is_stopped = True

    def close(self) -> None:
        """End the child and wait for it."""
        if self._container is not None:
            self._container.close()
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(2.0)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()
        self._messages.close()

    def _reason(self) -> str:
        """Return GStreamer's first error, in a line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(0.5)
        self._messages.seek(0)
        text = self._messages.read(1 << 16).decode(errors="replace")
        found = re.search(r"(?:ERROR|erroneous pipeline)[^:\n]*: (.+)", text)
        return found[1].strip() if found else ""


class _Pipe:
    """The reading end of the child's output: a read that ends, whatever the child does."""

    def __init__(self, descriptor: int) -> None:
        self.is_stopped = False
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        """Return what has come, at least a byte; none at the end.

        Raises:
            TimeoutError: nothing came for long.
        """
        until = time.monotonic() + _SILENCE_SECONDS
        while not self.is_stopped:
            if select.select([self._descriptor], [], [], 0.1)[0]:
                return os.read(self._descriptor, size)
            if time.monotonic() > until:
                raise TimeoutError(f"no frame came for {_SILENCE_SECONDS:g} s")
        return b""
