"""Destinations of a demo's pictures: a window, a folder, a video."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xdecoder_rt.atomic import make_folder
from xdecoder_rt.cli.pictures import write_picture
from xdecoder_rt.errors import ArgumentError, quoted, require
from xdecoder_rt.files.output_file import check_writable, unwritable, writer

if TYPE_CHECKING:
    from PIL import Image

# Container and codec by a name's end. AVI has one rate; the others give each picture its time.
CODECS = {".mp4": ("mp4", "mpeg4"), ".avi": ("avi", "mjpeg"), ".mkv": ("matroska", "mpeg4")}
_PIXEL_FORMATS = {"mpeg4": "yuv420p", "mjpeg": "yuvj420p"}
# All common rates divide it, and MPEG-4 takes no finer clock than 65535.
_TICKS = 60_000
_QUALITY = 3 * 118  # quantizer 3 of 1 to 31, in FFmpeg's lambdas
_AVI_FPS = (0.01, 120.0)
_SCREEN_SHARE = 0.9


class Sink(Protocol):
    """Takes pictures one after the other."""

    def show(self, picture: Image.Image, index: int, seconds: float | None = None) -> bool:
        """Take a picture.

        Args:
            picture: RGB.
            index: the frame's place in the stream, dropped frames counted.
            seconds: the frame's time since the stream began; None goes by `index`.

        Returns:
            False when the user wants no more.
        """

    def close(self, *, keep: bool) -> None:
        """Finish; what is unfinished stays only if `keep`."""


class Folder:
    """Writes every picture to a folder, named after its frame's place in the stream.

    Raises:
        ArgumentError: the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            make_folder(path)
        except OSError as error:
            raise ArgumentError(
                f"The folder {quoted(str(path), 200)} cannot be made: {error.strerror or error}"
            ) from error
        self._path = path
        check_writable(self._file(0), "the pictures")

    def show(self, picture: Image.Image, index: int, seconds: float | None = None) -> bool:
        """Write the picture."""
        write_picture(picture, self._file(index))
        return True

    def close(self, *, keep: bool) -> None:
        """Every picture is finished already."""

    def _file(self, index: int) -> Path:
        return self._path / f"frame_{index:06}.jpg"


class Video:
    """Writes pictures to a video that lasts as long as the stream did.

    A picture stays until the next one's time, so dropped frames do not make the video faster. The
    file takes its name when it is finished and on the disk.

    Args:
        path: the file; .mp4, .avi or .mkv.
        fps: frames a second of the stream.

    Raises:
        ArgumentError: the file cannot be written.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        check_writable(path, "the video")
        self._av: Any = require("av", "video")
        self._path = path
        self._form, self._codec = CODECS[path.suffix.lower()]
        self._fps = fps
        self._closing = contextlib.ExitStack()
        self._closing.enter_context(contextlib.suppress(_UnwantedError))
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._first = 0.0
        self._clock = Fraction(1, _TICKS)
        self._tick = -1
        self._previous: Any = None

    def show(self, picture: Image.Image, index: int, seconds: float | None = None) -> bool:
        """Add the picture at its time.

        Raises:
            ArgumentError: the disk is full, or the like.
        """
        import numpy as np

        moment = index / self._fps if seconds is None else seconds
        if self._container is None:
            self._open((picture.width // 2 * 2, picture.height // 2 * 2))
            self._first = moment
        # Every frame of a video has the size of its first.
        fitted = picture if picture.size == self._size else picture.resize(self._size)
        frame = self._av.VideoFrame.from_ndarray(np.asarray(fitted), format="rgb24")
        tick = max(self._tick + 1, round((moment - self._first) / self._clock))
        if self._form == "avi":
            while self._previous is not None and self._tick + 1 < tick:
                self._add(self._previous, self._tick + 1)
        self._add(frame, tick)
        self._previous = frame
        return True

    def close(self, *, keep: bool) -> None:
        """Finish the file and give it its name; an empty or unwanted one is removed.

        Raises:
            ArgumentError: the disk is full, or the like; the file is then removed.
        """
        if not keep:
            with contextlib.suppress(ArgumentError), self._closing:  # it may be full already
                raise _UnwantedError
        elif self._container is not None:
            with self._closing:
                self._mux(None)
                self._container.close()

    def _open(self, size: tuple[int, int]) -> None:
        low, high = _AVI_FPS
        rate = Fraction(min(max(self._fps, low), high)).limit_denominator(1001)
        self._size = size
        file = self._closing.enter_context(writer(self._path, "the video"))
        try:
            if min(size) == 0:
                raise ValueError("the picture is too small")
            self._container = self._av.open(file, "w", format=self._form)
            self._stream = self._container.add_stream(self._codec, rate=rate)
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = _PIXEL_FORMATS[self._codec]
            self._clock = 1 / rate if self._form == "avi" else Fraction(1, _TICKS)
            self._stream.time_base = self._stream.codec_context.time_base = self._clock
            self._stream.codec_context.options = {
                "flags": "+qscale",
                "global_quality": str(_QUALITY),
            }
            self._container.start_encoding()
        except (ValueError, self._av.error.FFmpegError) as error:
            raise ArgumentError(
                f"The video {quoted(str(self._path), 200)} cannot be written: {error}",
                expected=f"one of {', '.join(CODECS)}, and a picture of at least 2 x 2 pixels",
                fix="name a folder to get pictures instead",
            ) from error

    def _add(self, frame: Any, tick: int) -> None:
        frame.pts, frame.time_base = tick, self._clock
        self._mux(frame)
        self._tick = tick

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, self._av.error.FFmpegError) as error:
            raise unwritable(self._path, "the video", error.strerror or str(error)) from error


class _UnwantedError(Exception):
    """A file is not to be kept."""


class PictureWindow:
    """A window of Tk, which comes with Python; OpenCV without a display has none.

    Args:
        title: the window's title.

    Raises:
        ArgumentError: there is no display, or this Python has no Tk.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter

            self._tk: Any = tkinter
            self._root: Any = tkinter.Tk()
        except ImportError as error:
            raise ArgumentError(f"This Python has no tkinter ({error})") from error
        except tkinter.TclError as error:
            raise ArgumentError(f"No window can be opened ({error})") from error
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._is_open = True
        self._root.protocol("WM_DELETE_WINDOW", self._leave)
        for key in ("<Escape>", "<q>"):
            self._root.bind(key, self._leave)

    def show(self, picture: Image.Image, index: int, seconds: float | None = None) -> bool:
        """Show the picture, shrunk to the screen where it is larger."""
        screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
        fitted = picture.copy()
        fitted.thumbnail((int(screen[0] * _SCREEN_SHARE), int(screen[1] * _SCREEN_SHARE)))
        header = f"P6 {fitted.width} {fitted.height} 255 ".encode()
        # The label does not keep its picture alive; the attribute does.
        self._image = self._tk.PhotoImage(data=header + fitted.tobytes(), format="PPM")
        self._label.configure(image=self._image)
        self._root.update()
        return self._is_open

    def close(self, *, keep: bool) -> None:
        """Close the window."""
        with contextlib.suppress(self._tk.TclError):
            self._root.destroy()

    def _leave(self, *_: object) -> None:
        self._is_open = False


def open_output(target: str, fps: float) -> Sink:
    """Return the sink for ``--output``: a video by its ending, otherwise a folder.

    Raises:
        ArgumentError: it cannot be written, or is a picture's name.
    """
    path = Path(target)
    suffix = path.suffix.lower()
    if suffix in CODECS and not os.path.isdir(path):
        return Video(path, fps)
    if suffix and not os.path.isdir(path) and not target.endswith(os.sep):
        raise ArgumentError(
            f"{quoted(target, 200)} is neither a folder nor a video",
            expected=f"a name without an ending for a folder, or one of {', '.join(CODECS)}",
        )
    return Folder(path)
