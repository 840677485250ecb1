"""The journal of a run: a line for each finished picture, from which data sets are written.

``labels.jsonl`` begins with a line of what was asked. Every other line is the whole result of one
picture, appended when it is finished, so a run may end at any moment: a line that was not
finished is cut off, and its picture asked again. One process at a time may write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import HAS_LOCKS, lock, make_folder
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.labelling.record import Record

__all__ = ["JOURNAL", "Journal"]

JOURNAL = "labels.jsonl"
_BEGIN = b'{"xdecoder_rt":"labels",'
_LONGEST_LINE = 1 << 28


class Journal:
    """The journal of a folder, open for one run; a context manager.

    Args:
        folder: of the run; made if need be.
        settings: what is asked, as plain values; a journal of others is refused.

    Raises:
        ArgumentError: the folder cannot be written, another process labels into it, or it was
            begun with other settings.
        DatasetError: what is there is no journal.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / JOURNAL
        self._places: dict[str, int] = {}
        self._doubts: dict[str, float] = {}
        header = {"xdecoder_rt": "labels", "version": 1, "settings": settings}
        try:
            make_folder(folder)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._end = self._read(json.loads(json.dumps(header)))
            if self._end == 0:
                self._append(header)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __len__(self) -> int:
        """The number of pictures that are finished."""
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def append(self, values: dict[str, Any]) -> None:
        """Add the result of a picture, as :meth:`Record.to_dict` gives it; a second is dropped.

        Raises:
            ArgumentError: the disk is full, or the like; what was written of it is taken back.
        """
        key = values["key"]
        if key in self:
            return
        doubt = Record.from_dict(values).doubt
        place = self._end
        self._append(values)
        self._places[key], self._doubts[key] = place, doubt

    def records(self, keys: Iterable[str]) -> Iterator[Record]:
        """Read the results of pictures, one after the other, in the order of `keys`."""
        with open_regular(self.path) as file:
            for key in keys:
                file.seek(self._places[key])
                yield Record.from_dict(json.loads(file.readline(_LONGEST_LINE)))

    def most_doubtful(self, keys: Iterable[str], most: int) -> list[str]:
        """Return keys of the most doubtful pictures, these first."""
        return sorted(keys, key=lambda key: -self._doubts[key])[:most]

    def close(self) -> None:
        """Bring everything to the disk and let others write."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            os.close(self._descriptor)

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def _lock(self) -> None:
        # On Windows nothing keeps two runs apart.
        if HAS_LOCKS and not lock(self._descriptor):
            raise ArgumentError(
                f"Another process labels into {quoted(str(self.path.parent), 200)}",
                fix="wait for its end, or choose another folder",
            )

    def _read(self, header: dict[str, Any]) -> int:
        """Take note of finished pictures, cut off what is unfinished; return where the file ends.

        A line that is no result is left alone, and its picture asked again.
        """
        end = 0
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
                if end == 0:
                    self._check_header(_parsed(line), header)
                else:
                    self._note(_parsed(line), end)
                end += len(line)
            if end == 0 and line[: len(_BEGIN)] != _BEGIN[: len(line)]:
                self._check_header(None, header)
        try:
            os.ftruncate(self._descriptor, end)
        except OSError as error:
            raise self._unwritable(error) from error
        return end

    def _note(self, values: object, place: int) -> None:
        try:
            record = Record.from_dict(values)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            return
        self._places[record.key], self._doubts[record.key] = place, record.doubt

    def _check_header(self, values: object, header: dict[str, Any]) -> None:
        if not isinstance(values, dict) or values.get("xdecoder_rt") != "labels":
            raise DatasetError(
                f"{quoted(str(self.path), 200)} is no journal of labels",
                fix="choose another folder to write to",
            )
        if values == header:
            return
        before, now = values.get("settings"), header["settings"]
        names = [n for n in now if not isinstance(before, dict) or before.get(n) != now[n]]
        raise ArgumentError(
            f"{quoted(str(self.path.parent), 200)} was begun with another "
            f"{names[0] if names else 'version'}",
            expected="the same plan, words and options as then",
            fix="repeat the command as it was, or choose another folder",
        )

    def _append(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(values, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self._end + written)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise self._unwritable(error) from error
        self._end += len(line)

    def _unwritable(self, error: OSError) -> ArgumentError:
        return ArgumentError(
            f"{quoted(str(self.path), 200)} cannot be written: {error.strerror or error}",
            fix="make room there; the same command then goes on where this one ended",
        )


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
