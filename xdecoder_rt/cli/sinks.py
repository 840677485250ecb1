"""Destinations of a demo's pictures: a window, a folder, a video."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xdecoder_rt.cli.output import check_writable
from xdecoder_rt.cli.pictures import write_picture
from xdecoder_rt.errors import ArgumentError, quoted, require

if TYPE_CHECKING:
    from PIL import Image

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_SCREEN_SHARE = 0.9


class Sink(Protocol):
    """Takes pictures one after the other."""

    def show(self, picture: Image.Image, index: int) -> bool:
        """Take a picture.

        Args:
            picture: RGB.
            index: the frame's place in the stream, dropped frames counted.

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
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(
                f"The folder {quoted(str(path), 200)} cannot be made: {error.strerror or error}"
            ) from error
        self._path = path
        check_writable(self._file(0), "the pictures")

    def show(self, picture: Image.Image, index: int) -> bool:
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
    file takes its name when it is finished.

    Args:
        path: the file; .mp4, .avi or .mkv.
        fps: frames a second of the stream.

    Raises:
        ArgumentError: the file cannot be written.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        check_writable(path, "the video")
        self._cv2: Any = require("cv2", "video")
        self._path = path
        # The ending tells OpenCV which container to write.
        self._temporary = path.with_name(f".{secrets.token_hex(6)}.tmp{path.suffix.lower()}")
        self._fps = fps
        self._writer: Any = None
        self._size = (0, 0)
        self._previous: Any = None
        self._frame_count = 0

    def show(self, picture: Image.Image, index: int) -> bool:
        """Repeat the picture before for the frames between, then add this one."""
        import numpy as np

        if self._writer is None:
            self._open((picture.width // 2 * 2, picture.height // 2 * 2), index)
        # Every frame of a video has the size of its first.
        fitted = picture if picture.size == self._size else picture.resize(self._size)
        frame = self._cv2.cvtColor(np.asarray(fitted), self._cv2.COLOR_RGB2BGR)
        while self._previous is not None and self._frame_count < index:
            self._add(self._previous)
        self._add(frame)
        self._previous = frame
        return True

    def close(self, *, keep: bool) -> None:
        """Finish the file and give it its name; an empty or unwanted one is removed."""
        if self._writer is None:
            return
        self._writer.release()
        if keep and self._temporary.is_file() and self._temporary.stat().st_size:
            os.replace(self._temporary, self._path)
        else:
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _open(self, size: tuple[int, int], index: int) -> None:
        codec = self._cv2.VideoWriter_fourcc(*CODECS[self._path.suffix.lower()])
        self._size, self._frame_count = size, index
        self._writer = self._cv2.VideoWriter(str(self._temporary), codec, self._fps, size)
        if not self._writer.isOpened():
            raise ArgumentError(
                f"OpenCV cannot write the video {quoted(str(self._path), 200)}",
                expected=f"one of {', '.join(CODECS)}, and a picture of at least 2 x 2 pixels",
                fix="name a folder to get pictures instead",
            )

    def _add(self, frame: Any) -> None:
        self._writer.write(frame)
        self._frame_count += 1


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

    def show(self, picture: Image.Image, index: int) -> bool:
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
    if suffix in CODECS and not path.is_dir():
        return Video(path, fps)
    if suffix and not path.is_dir() and not target.endswith(os.sep):
        raise ArgumentError(
            f"{quoted(target, 200)} is neither a folder nor a video",
            expected=f"a name without an ending for a folder, or one of {', '.join(CODECS)}",
        )
    return Folder(path)
