"""Commands that take images, one after the other: the list, the engine, texts of results."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xdecoder_rt.cli.output import CommandReport, note
from xdecoder_rt.errors import ImageError, printable
from xdecoder_rt.streams.folders import images_in

if TYPE_CHECKING:
    from xdecoder_rt.engine import Engine

T = TypeVar("T")


@dataclass(frozen=True)
class ImageList:
    """The images of a command line.

    Attributes:
        paths: of every image, those of folders included.
        are_several: whether there are several or a folder was named, however many it holds.
        left_out: how many other things the folders hold, by kind; said on stderr, too.
    """

    paths: list[str]
    are_several: bool
    left_out: dict[str, int]

    @classmethod
    def read(cls, names: Sequence[str]) -> ImageList:
        """Return images as named: files, and folders, which stand for the images in them.

        Raises:
            ImageError: a folder holds no images, or cannot be read.
        """
        paths: list[str] = []
        has_folder = False
        left_out = Counter[str]()
        for name in names:
            if os.path.isdir(name):
                has_folder = True
                found = images_in(Path(name))
                paths += [str(path) for path in found.images]
                left_out.update(found.left_out)
                if found.remark:
                    note(f"{printable(name, 200)}: left out {found.remark}")
            else:
                paths.append(name)
        return cls(paths, has_folder or len(paths) > 1, dict(left_out))


def add_images(parser: argparse.ArgumentParser, option: str) -> None:
    """Add the images, which come before an `option` that takes several values."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help=f"image files, or folders of them (sub-folders are not entered), before {option}",
    )


@contextmanager
def open_engine(args: argparse.Namespace) -> Iterator[Engine]:
    """Open the engine of a command line with the options of `add_plan` and `add_engine`."""
    from xdecoder_rt.engine import Engine

    with Engine(
        args.plan, backend=args.backend, threads=args.threads, cache_dir=args.cache_dir
    ) as engine:
        yield engine


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return the value of a call, and the milliseconds that it took."""
    start = time.perf_counter()
    value = call()
    return value, 1000 * (time.perf_counter() - start)


def ask_all(
    paths: Sequence[str],
    jobs: Sequence[Callable[[], dict[str, Any]]],
    text: Callable[[dict[str, Any], str], str] | None,
    report: CommandReport,
    entries: list[dict[str, Any]],
) -> None:
    """Do a job for each image; one that cannot be read is reported and skipped.

    Args:
        paths: of the images.
        jobs: one an image, each giving its entry of the JSON.
        text: an entry for people; takes a remark on its time, too. None says nothing yet.
        report: where texts go.
        entries: gets one entry an image as it is done; of those skipped, only `image` and `error`.
    """
    is_first = True
    for path, job in zip(paths, jobs, strict=True):
        try:
            entry = job()
        except ImageError as error:
            note(f"error: {error}")
            entries.append({"image": path, "error": str(error)})
        else:
            entries.append(entry)
            if text is not None:
                report.text(text(entry, " with loading the graphs" if is_first else ""))
            is_first = False


def any_failed(entries: Sequence[dict[str, Any]]) -> bool:
    """Whether `ask_all` skipped an image."""
    return any("error" in entry for entry in entries)


def headline(entry: dict[str, Any], finding: str, remark: str) -> str:
    """Return the line that begins an image's text.

    Args:
        entry: with `image`, `height`, `width` and `time_ms`.
        finding: a few words on the results; may be empty.
        remark: on the time.
    """
    return (
        f"{printable(entry['image'], 200)}  {entry['width']} x {entry['height']}, "
        f"{finding}{', ' if finding else ''}{entry['time_ms']:.0f} ms{remark}"
    )


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 segment``, ``2 segments``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
