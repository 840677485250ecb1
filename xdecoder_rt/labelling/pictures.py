"""The pictures that are to be labelled: of folders, their sub-folders, lists, videos and files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from xdecoder_rt.atomic import atomic_writer, make_folder, real_path
from xdecoder_rt.errors import ArgumentError, ImageError, quoted
from xdecoder_rt.files.folder import SUB_FOLDERS, list_images
from xdecoder_rt.files.formats import HEAD_SIZE, image_format
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.streams.video import VideoFile

__all__ = ["Picture", "PictureList", "find_pictures"]

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
)
LIST_SUFFIX = ".txt"
FRAMES = "frames"
_LONGEST_LIST = 1 << 28
_JPEG_QUALITY = 95
_WHOLE = "whole"


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        key: its name among all, a relative path with ``/``; stays the same from run to run.
        path: its file.
    """

    key: str
    path: str


@dataclass(frozen=True)
class PictureList:
    """The pictures of a run, each once.

    Attributes:
        pictures: in their order.
        left_out: how many other things the folders hold, by kind.
        failures: what could not be read of videos, in words.
    """

    pictures: tuple[Picture, ...]
    left_out: dict[str, int]
    failures: tuple[str, ...]


def find_pictures(
    sources: Sequence[str],
    output: Path,
    every: int = 1,
    progress: Callable[[str], None] = lambda text: None,
) -> PictureList:
    """Return the pictures of what a user named.

    A folder stands for all pictures and videos in it and below it, ``output`` left out; a text file
    for those that it names, a line each, relative to its own folder. Frames of videos are written
    to ``output/frames/`` as JPEG, so that what is labelled can be trained on.

    Args:
        sources: folders, lists, videos and images. Keys of several begin with the source's name.
        output: the folder of the run.
        every: of a video, each so-manyth frame.
        progress: called with a line before a video is read.

    Raises:
        ImageError: there is no such source, or it holds no pictures.
        MissingExtraError: a video needs PyAV.
        ArgumentError: the frames cannot be written.
    """
    found = _Finding(output, every, progress)
    names = _source_names(sources)
    for source, name in zip(sources, names, strict=True):
        found.add_source(source, name)
    if not found.paths:
        raise ImageError(
            f"There are no pictures in {quoted(', '.join(sources), 200)}",
            expected="image files, videos, or folders of these",
        )
    pictures = tuple(Picture(key, path) for key, path in found.paths.items())
    return PictureList(pictures, dict(found.left_out), tuple(found.failures))


class _Finding:
    """Gathers pictures by their keys."""

    def __init__(self, output: Path, every: int, progress: Callable[[str], None]) -> None:
        self.paths: dict[str, str] = {}
        self.left_out = Counter[str]()
        self.failures: list[str] = []
        self._real_paths: set[str] = set()
        self._output = output
        self._every = every
        self._progress = progress

    def add_source(self, source: str, name: str) -> None:
        if os.path.isdir(source):
            self._add_folder(Path(source), name)
        elif not os.path.isfile(source):
            raise ImageError(
                f"There is no folder, list, video or image {quoted(source, 200)}",
                expected="one that exists",
            )
        elif Path(source).suffix.lower() == LIST_SUFFIX and not _is_image(source):
            for line in _lines(Path(source)):
                self._add_file(Path(source).parent / line, _joined_key(name, _key_of(line)))
        else:
            self._add_file(Path(source), _joined_key(name, Path(source).name))

    def _add_folder(self, root: Path, name: str) -> None:
        own = real_path(self._output)
        for folder, below, files in os.walk(root):
            below[:] = sorted(
                entry
                for entry in below
                if not entry.startswith(".") and real_path(Path(folder, entry)) != own
            )
            listed = list_images(Path(folder))
            self.left_out.update({k: n for k, n in listed.left_out.items() if k != SUB_FOLDERS})
            videos = [file for file in sorted(files) if _is_video(file)]
            for video in videos:
                self.left_out[Path(video).suffix.lower()] -= 1
            for path in (*listed.images, *(Path(folder, video) for video in videos)):
                relative = path.relative_to(root).as_posix()
                self._add_file(path, _joined_key(name, relative))
        self.left_out = +self.left_out

    def _add_file(self, path: Path, key: str) -> None:
        if _is_video(path.name):
            self._add_video(path, key)
            return
        real = str(real_path(path))
        if real in self._real_paths:
            return
        self._real_paths.add(real)
        self.paths[_distinct(key, self.paths)] = str(path)

    def _add_video(self, path: Path, key: str) -> None:
        folder = self._output / FRAMES / key
        try:
            self._cut(path, folder, key)
        except OSError as error:
            raise ArgumentError(
                f"The frames of {quoted(str(path), 200)} cannot be written: "
                f"{error.strerror or error}",
                fix="make room there, or choose another folder; the same command then goes on",
            ) from error
        for frame in list_images(folder).images:
            self.paths[f"{key}/{frame.name}"] = str(frame)

    def _cut(self, path: Path, folder: Path, key: str) -> None:
        """Write the frames of a video that are not there yet."""
        from PIL import Image

        status = path.stat()
        mark = f"{status.st_size} {status.st_mtime_ns} {self._every}\n".encode()
        done = folder / _WHOLE
        if done.is_file() and done.read_bytes() == mark:
            return
        if done.is_file():
            raise ArgumentError(
                f"The frames of {quoted(str(path), 200)} are there already, of another video or of "
                "another --every",
                fix="choose another folder to write to",
            )
        make_folder(folder)
        self._progress(f"reading the frames of {key}")
        video = VideoFile(path, None)
        try:
            for number, frame in enumerate(video):
                target = folder / f"{number:06d}.jpg"
                if number % self._every or target.exists():
                    continue
                with atomic_writer(target) as file:
                    Image.fromarray(frame.pixels).save(
                        file, format="JPEG", quality=_JPEG_QUALITY, subsampling=0
                    )
        finally:
            video.close()
        self.failures += [str(failure) for failure in video.failures]
        with atomic_writer(done) as file:
            file.write(mark)


def _source_names(sources: Sequence[str]) -> list[str]:
    """Return what keys of each source begin with: nothing for the only one."""
    if len(sources) == 1:
        return [""]
    names: list[str] = []
    for source in sources:
        is_file = os.path.isfile(source) and Path(source).suffix.lower() != LIST_SUFFIX
        base = "" if is_file else Path(os.path.abspath(source)).stem
        names.append(_distinct(base, names) if base else "")
    return names


def _distinct(name: str, used: Sequence[str] | dict[str, str]) -> str:
    """Return a name, with a number before its suffix where it is in use."""
    number, path = 1, PurePosixPath(name)
    while name in used:
        number += 1
        name = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    return name


def _joined_key(name: str, key: str) -> str:
    return f"{name}/{key}" if name else key


def _key_of(line: str) -> str:
    """Return a relative path for what a list names, which may lead anywhere."""
    parts = PureWindowsPath(line).parts if "\\" in line else PurePosixPath(line).parts
    kept = [part for part in parts if part not in ("..", ".") and not part.endswith(("/", "\\"))]
    return "/".join(kept) or "picture"


def _lines(path: Path) -> Iterator[str]:
    try:
        with open_regular(path) as file:
            data = file.read(_LONGEST_LIST)
    except OSError as error:
        raise ImageError(
            f"The list {quoted(str(path), 200)} cannot be read: {error.strerror or error}"
        ) from error
    if b"\0" in data:
        raise ImageError(
            f"{quoted(str(path), 200)} is no list of pictures", expected="a path in each line"
        )
    for line in os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _is_image(path: str) -> bool:
    with open_regular(path) as file:
        return image_format(file.read(HEAD_SIZE)) is not None
