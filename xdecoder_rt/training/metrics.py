"""The record of a run: one JSON object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.json_reader import parse_json

Record = dict[str, Any]
_LINE_LIMIT = 1 << 20
SEGMENTATION_LOSSES = ("classification", "mask", "dice", "image")
TEXT_LOSSES = ("grounding", "phrase_mask", "phrase_dice", "retrieval", "caption", "answer")
LOSSES = ("total", *SEGMENTATION_LOSSES, *TEXT_LOSSES, "distillation")
VALIDATION = "validation/"
"""Beginning of the keys that a validation writes."""
ENTROPY = "entropy"
"""End of the keys of measures that are no shares from 0 to 1."""


def is_validation(record: Record) -> bool:
    """Return whether a record is a validation's."""
    return any(key.startswith(VALIDATION) for key in record)


def read_metrics(path: Path) -> list[Record]:
    """Return the records of a file, in order; none where there is no file.

    A last line cut off by a crash is left out.
    """
    if not os.path.isfile(path):
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = parse_json(line, "a line", _LINE_LIMIT, DatasetError, non_finite=True)
        except DatasetError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


class MetricsLog:
    """Appends records to a file.

    Args:
        path: the file.
        last_step: records of later steps are dropped: a resumed run repeats them.
        writes: whether this process keeps the file; the others of a run only remember.

    Attributes:
        records: all records, in order.
    """

    def __init__(self, path: Path, last_step: int, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.records: list[Record] = []
        if not writes:
            return
        self.records = [r for r in read_metrics(path) if r["step"] <= last_step]
        with atomic_writer(path) as file:
            file.write("".join(map(_line, self.records)).encode())

    def append(self, record: Record) -> None:
        """Write one record; it must have an integer ``step``."""
        self.records.append(record)
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"
