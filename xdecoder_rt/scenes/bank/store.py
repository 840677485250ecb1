"""The bank's two files: ``bank.json`` says what there is, ``pictures.bin`` has the pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import DatasetError, ImageError, quoted, require
from xdecoder_rt.files.image_file import read_header
from xdecoder_rt.files.regular import open_regular, read_regular
from xdecoder_rt.json_reader import INTEGER_LIMIT, Rule, parse_json, read_object

__all__ = ["BANK_INDEX", "Bank", "BankWriter", "CutOut", "LabelledPicture", "Span"]

BANK_INDEX = "bank.json"
PICTURES = "pictures.bin"
BANK_VERSION = 1
_INDEX_LIMIT = 64 << 20
_LARGEST_SIDE = 2048
_MOST_IDS = 255
_MOST_PICTURES = 1 << 24


@dataclass(frozen=True)
class Span:
    """Where a picture's file is among the pictures: first byte and number of bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class CutOut:
    """A thing without its surroundings.

    Attributes:
        name: its canonical name.
        drawn: whether it is a flat drawing rather than a rendering.
        picture: an RGBA picture.
    """

    name: str
    drawn: bool
    picture: Span


@dataclass(frozen=True)
class LabelledPicture:
    """A whole scene.

    Attributes:
        labels: canonical name of each id.
        picture: an RGB picture.
        ids: a PNG of the same size, 8-bit ids; 0 is unlabelled.
    """

    labels: Mapping[int, str]
    picture: Span
    ids: Span


ByteOffset: TypeAlias = Annotated[int, Rule(low=0, high=INTEGER_LIMIT)]


@dataclass(frozen=True)
class _CutOut:
    name: str
    drawn: bool
    picture: tuple[ByteOffset, ByteOffset]


@dataclass(frozen=True)
class _Scene:
    labels: Mapping[str, str]
    picture: tuple[ByteOffset, ByteOffset]
    ids: tuple[ByteOffset, ByteOffset]


@dataclass(frozen=True)
class _Photograph:
    picture: tuple[ByteOffset, ByteOffset]


@dataclass(frozen=True)
class _Index:
    """``bank.json``; a picture is its first byte and number of bytes."""

    format_version: int
    stuff: tuple[str, ...]
    cut_outs: Annotated[tuple[_CutOut, ...], Rule(most=_MOST_PICTURES)]
    scenes: Annotated[tuple[_Scene, ...], Rule(most=_MOST_PICTURES)]
    photographs: Annotated[tuple[_Photograph, ...], Rule(most=_MOST_PICTURES)]


@dataclass
class BankWriter:
    """Collects pictures, then writes a bank.

    Attributes:
        stuff: labels that are stuff.
    """

    stuff: frozenset[str] = frozenset()
    _pictures: bytearray = field(default_factory=bytearray)
    _cut_outs: list[dict[str, Any]] = field(default_factory=list)
    _scenes: list[dict[str, Any]] = field(default_factory=list)
    _photographs: list[list[int]] = field(default_factory=list)

    def cut_out(self, name: str, drawn: bool, file: bytes) -> None:
        """Add a thing; `file` is an RGBA WebP or PNG."""
        self._cut_outs.append({"name": name, "drawn": drawn, "picture": self._add(file)})

    def scene(self, labels: Mapping[int, str], picture: bytes, ids: bytes) -> None:
        """Add a whole scene; `ids` is a PNG."""
        named = {str(number): label for number, label in labels.items()}
        self._scenes.append({"labels": named, "picture": self._add(picture), "ids": self._add(ids)})

    def photograph(self, file: bytes) -> None:
        """Add a picture that shows nothing of the vocabulary."""
        self._photographs.append(self._add(file))

    def bank(self, bank: Bank) -> Iterator[None]:
        """Add everything of another bank, as its files are; yields after each picture.

        Raises:
            DatasetError: it has changed since it was opened.
        """
        for cut_out in bank.cut_outs:
            self.cut_out(cut_out.name, cut_out.drawn, bank.file(cut_out.picture))
            yield
        for scene in bank.scenes:
            self.scene(scene.labels, bank.file(scene.picture), bank.file(scene.ids))
            yield
        for photograph in bank.photographs:
            self.photograph(bank.file(photograph))
            yield

    def summary(self) -> str:
        """Summarise what was added, for people."""
        names = {entry["name"] for entry in self._cut_outs}
        return (
            f"{len(self._cut_outs)} cut-outs of {len(names)} names, {len(self._scenes)} scenes, "
            f"{len(self._photographs)} photographs, {len(self._pictures) / 1e6:.0f} MB"
        )

    def write(self, folder: Path) -> None:
        """Write both files; the index, which makes it a bank, comes last.

        Raises:
            DatasetError: the folder cannot be written.
        """
        index = {
            "format_version": BANK_VERSION,
            "stuff": sorted(self.stuff),
            "cut_outs": self._cut_outs,
            "scenes": self._scenes,
            "photographs": [{"picture": span} for span in self._photographs],
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / BANK_INDEX).unlink(missing_ok=True)
            with atomic_writer(folder / PICTURES) as out:
                out.write(bytes(self._pictures))
            with atomic_writer(folder / BANK_INDEX) as out:
                out.write(json.dumps(index, separators=(",", ":")).encode())
        except OSError as error:
            raise DatasetError(f"{folder} cannot be written: {error.strerror or error}") from error

    def _add(self, file: bytes) -> list[int]:
        offset = len(self._pictures)
        self._pictures += file
        return [offset, len(file)]


class Bank:
    """A bank, opened. Its pictures are read one by one, by any process.

    Args:
        folder: with ``bank.json`` and ``pictures.bin``.

    Attributes:
        stuff: labels that are stuff.
        cut_outs: things.
        scenes: whole scenes.
        photographs: pictures that show nothing of the vocabulary.

    Raises:
        DatasetError: it is not a bank, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            data = read_regular(folder / BANK_INDEX, _INDEX_LIMIT)
            with open_regular(folder / PICTURES) as pictures:
                self._version = _version(pictures)
        except OSError as error:
            raise DatasetError(
                f"{folder} holds no bank of pictures ({error})",
                expected=f"a folder with {BANK_INDEX} and {PICTURES}",
                fix="python -m xdecoder_rt.scenes bank OUT",
            ) from error
        try:
            self._read(
                read_object(
                    parse_json(data, BANK_INDEX, _INDEX_LIMIT, DatasetError),
                    _Index,
                    BANK_INDEX,
                    DatasetError,
                )
            )
        except DatasetError as error:
            raise DatasetError(
                f"{folder} is a damaged bank: {error.what}",
                expected=error.expected,
                fix="make it again",
            ) from error
        if not (self.cut_outs and (self.scenes or self.photographs)):
            raise DatasetError(f"{folder} has nothing to compose scenes of", fix="make it again")

    def _read(self, index: _Index) -> None:
        if index.format_version != BANK_VERSION:
            raise DatasetError(
                f"{BANK_INDEX} is of another format version", expected=f"version {BANK_VERSION}"
            )
        self.stuff = frozenset(index.stuff)
        self.cut_outs = tuple(
            CutOut(entry.name, entry.drawn, self._span(entry.picture)) for entry in index.cut_outs
        )
        self.scenes = tuple(
            LabelledPicture(_labels(entry.labels), self._span(entry.picture), self._span(entry.ids))
            for entry in index.scenes
        )
        self.photographs = tuple(self._span(entry.picture) for entry in index.photographs)

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[CutOut]]:
        """The cut-outs of each name."""
        cut_outs: dict[str, list[CutOut]] = {}
        for cut_out in self.cut_outs:
            cut_outs.setdefault(cut_out.name, []).append(cut_out)
        return cut_outs

    def scene(self, scene: LabelledPicture) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        """Decode a whole scene.

        Returns:
            uint8 RGB ``[h, w, 3]``, and ids ``[h, w]``, 0 where the scene has no label for them.

        Raises:
            DatasetError: they are no such pictures, or differ in size.
        """
        image, ids = self.pixels(scene.picture, 3), self.pixels(scene.ids, 1)
        if image.shape[:2] != ids.shape:
            raise DatasetError(
                f"A scene of {self.folder} is {image.shape[1]} x {image.shape[0]} pixels, its "
                f"labels are {ids.shape[1]} x {ids.shape[0]}",
                fix="make the bank again",
            )
        labelled_ids = np.zeros(256, np.int16)
        labelled_ids[list(scene.labels)] = list(scene.labels)
        return image, labelled_ids[ids]

    def pixels(self, span: Span, channels: int) -> NDArray[np.uint8]:
        """Decode a picture.

        Args:
            span: which.
            channels: 4 for RGBA, 3 for RGB, 1 for ids.

        Returns:
            uint8 ``[h, w, channels]``, or ``[h, w]`` of ids.

        Raises:
            DatasetError: it is no such picture.
        """
        cv2 = require("cv2", "train")
        data = self.file(span)
        # OpenCV decodes whatever a header claims, up to gigabytes.
        pixels = None
        if _is_small(data):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        stored_channels = 1 if pixels is None or pixels.ndim == 2 else pixels.shape[2]
        if channels == 4 and stored_channels == 3:  # WebP leaves out an alpha that hides nothing
            pixels, stored_channels = cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA), 4
        if pixels is None or stored_channels != channels:
            raise DatasetError(
                f"{self.folder / PICTURES} is damaged at byte {span.offset}",
                expected=f"a picture of {channels} channels",
                fix="make the bank again",
            )
        if channels == 1:
            return np.asarray(pixels, np.uint8)
        code = cv2.COLOR_BGRA2RGBA if channels == 4 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(pixels, code), np.uint8)

    def file(self, span: Span) -> bytes:
        """Return a picture's file as it is stored.

        It is read and not mapped: of a mapped file that is cut, a byte that is gone ends the
        process. It is opened each time, so that a bank goes to workers as it is.

        Raises:
            DatasetError: the bank cannot be read, or has changed since it was opened.
        """
        path = self.folder / PICTURES
        try:
            with open_regular(path) as file:
                file.seek(span.offset)
                data = file.read(span.size)
                if _version(file) == self._version and len(data) == span.size:
                    return data
        except OSError as error:
            raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
        raise DatasetError(f"{path} has changed since it was opened", fix="start again")

    def _span(self, place: tuple[int, int]) -> Span:
        offset, size = place
        pictures_size = self._version[0]
        if not size or offset + size > pictures_size:
            raise DatasetError(
                f"{BANK_INDEX} names the bytes {quoted([offset, size])}, which {PICTURES} does "
                "not have",
                expected=f"two integers: first byte and number of bytes, of {pictures_size:,}",
            )
        return Span(offset, size)


def _version(file: BinaryIO) -> tuple[int, int, int]:
    """Return the size of a file, and what tells it from another under its name."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_ino, status.st_mtime_ns


def _is_small(data: bytes) -> bool:
    """Whether a file is an image by its header, of sides that pictures of a bank have."""
    try:
        return max(read_header(data).stored) <= _LARGEST_SIDE
    except ImageError:
        return False


def _labels(names: Mapping[str, str]) -> dict[int, str]:
    for number in names:
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:4]) <= _MOST_IDS):
            raise DatasetError(
                f"{BANK_INDEX}: the label {quoted(number)} is no id",
                expected=f"a number from 1 to {_MOST_IDS}",
            )
    return {int(number): name for number, name in names.items()}
