"""Whether a video file ends before its container does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["is_cut"]

# Matroska's elements that hold all others; a browser writes both without a size.
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def is_cut(file: BinaryIO, form: str) -> bool:
    """Whether the last part of a container is longer than the file.

    A recording that was stopped, or a download that was, often announces neither frames nor
    duration; what it begins and does not end tells.

    Args:
        file: the video, seekable; its position changes.
        form: FFmpeg's name of its format; False for those that have no such parts.
    """
    size = file.seek(0, os.SEEK_END)
    walks: dict[str, Callable[[BinaryIO, int], int]] = {
        "mov": _end_of_boxes,
        "matroska": _end_of_elements,
        "avi": _end_of_chunk,
    }
    walk = walks.get(form.partition(",")[0])
    return walk is not None and walk(file, size) > size


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last top-level box of an MP4 or MOV ends."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return size + 1
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: up to the end; others are damage, which shows elsewhere
            return size
        place += length
    return place


def _end_of_elements(file: BinaryIO, size: int) -> int:
    """Return where the last element of a Matroska or WebM file ends."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        id_length, size_length = _width(head[0]), 1
        if id_length <= 4 and len(head) > id_length:
            size_length = _width(head[id_length])
        if len(head) < id_length + size_length:
            return size + 1
        if id_length > 4 or size_length > 8:  # damage, which shows elsewhere
            return size
        place += id_length + size_length
        if int.from_bytes(head[:id_length], "big") in (_SEGMENT, _CLUSTER):
            continue
        field = int.from_bytes(head[id_length : id_length + size_length], "big")
        place += field & ((1 << 7 * size_length) - 1)
    return place


def _end_of_chunk(file: BinaryIO, size: int) -> int:
    """Return where the first RIFF chunk of an AVI ends; 0 and -1 are those of a live writer."""
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    return size if length in (0, 0xFFFFFFFF) else 8 + length


def _width(first: int) -> int:
    """Return the bytes of a variable-length number by its first byte; 9 for none."""
    return 9 - first.bit_length()
