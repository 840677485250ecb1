"""Compiled models that a library keeps in a folder, believed only with their digests.

A library that reads its compiled models back trusts every byte: a damaged one ends the process or
gives wrong results. So each model is a file of its own that begins with the SHA-256 of what
follows, among it the key that tells the model from every other; a file that is not as it was
written, or was written for another key, is removed and its model compiled again. What is given out
is a copy in memory whose digest was checked: changing the file later changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.atomic import atomic_writer, check_private, private_folder
from xdecoder_rt.errors import warn_caller

__all__ = ["Blob", "ModelBlobs"]

# What comes before a model takes a multiple of this, so that its weights lie where they would in a
# file of its own.
_PAGE = 4096
# Models of one graph: for a few plans, each with a few forms of calls.
_MOST_KEPT = 24
# Directories of which this process has warned: a plan has many graphs.
_WARNED: set[Path] = set()


@dataclass(frozen=True, eq=False)
class Blob:
    """A compiled model.

    Attributes:
        inputs: names of what its graph takes.
        outputs: names of what it gives, in order; compiling merges names.
        model: uint8, what the library exported.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: npt.NDArray[np.uint8]


class ModelBlobs:
    """The compiled models of one graph.

    Args:
        directory: folder of all caches.
        library: whose models they are.
        graph: name of the graph.
    """

    def __init__(self, directory: Path, library: str, graph: str) -> None:
        self._directory = directory
        name = re.sub(r"[^A-Za-z0-9_]", "_", graph)[:100]
        self._folder = directory / library / name

    def read(self, key: str) -> Blob | None:
        """Return the model of a key, as it was written; None if there is none.

        Args:
            key: hexadecimal digits.
        """
        if not self._is_usable():
            return None
        path = self._path(key)
        try:
            check_private(path)
            blob = _parsed(np.fromfile(path, np.uint8), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            blob = None
        if blob is None:
            with contextlib.suppress(OSError):
                path.unlink()
        return blob

    def write(self, key: str, inputs: Sequence[str], outputs: Sequence[str], model: bytes) -> None:
        """Keep the model of a key; the oldest of many go. Where that fails, nothing is kept."""
        if not self._is_usable():
            return
        about = {"key": key, "inputs": list(inputs), "outputs": list(outputs)}
        line = json.dumps(about).encode()
        size = hashlib.sha256().digest_size * 2 + 1 + len(line) + 1
        head = line + b" " * (-size % _PAGE) + b"\n"
        digest = hashlib.sha256(head)
        digest.update(model)
        with contextlib.suppress(OSError):
            with atomic_writer(self._path(key), private=True) as file:
                file.write(digest.hexdigest().encode() + b"\n" + head)
                file.write(model)
            for path in self._by_age()[:-_MOST_KEPT]:
                path.unlink()

    def latest(self, beginning: str) -> str | None:
        """Return the key of the model that was used or written last, of keys with a beginning."""
        if not self._is_usable():
            return None
        names = [path.stem for path in self._by_age() if path.name.startswith(beginning)]
        return names[-1] if names else None

    def remove(self, key: str) -> None:
        """Throw the model of a key away: its library does not take it."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def note_use(self, key: str) -> None:
        """Make a key the `latest`."""
        with contextlib.suppress(OSError):
            os.utime(self._path(key))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.blob"

    def _by_age(self) -> list[Path]:
        aged = []
        for path in self._folder.glob("*.blob"):
            with contextlib.suppress(OSError):  # another process removes them, too
                aged.append((path.lstat().st_mtime_ns, path.name, path))
        return [path for _, _, path in sorted(aged)]

    def _is_usable(self) -> bool:
        """Whether the folder is this user's alone, made if need be.

        One warning says why not, unless the whole directory cannot be used: the text cache says
        that.
        """
        try:
            private_folder(self._directory)
        except OSError:
            return False
        try:
            private_folder(self._folder.parent)
            private_folder(self._folder)
        except OSError as error:
            if self._directory not in _WARNED:
                _WARNED.add(self._directory)
                warn_caller(
                    f"Compiled models are not kept in {self._folder} ({error}); they are compiled "
                    "whenever they are needed. Remove what is there, or set cache_dir"
                )
            return False
        return True


def _parsed(data: npt.NDArray[np.uint8], key: str) -> Blob | None:
    """Return what a file holds; None if it is not as it was written, or of another key."""
    digits = hashlib.sha256().digest_size * 2
    digest = hashlib.sha256(data.data[digits + 1 :]).hexdigest()
    if digest.encode() + b"\n" != bytes(data[: digits + 1]):
        return None
    # A file whose digest is right is trusted no further than what it must have.
    head = bytes(data[digits + 1 : digits + 1 + (1 << 20)])
    end = head.find(b"\n") + 1
    about: Any = json.loads(head[:end])
    if not isinstance(about, dict) or about.get("key") != key:
        return None
    names: list[Any] = [about.get(which) for which in ("inputs", "outputs")]
    if not all(isinstance(one, list) and all(isinstance(n, str) for n in one) for one in names):
        return None
    inputs, outputs = (tuple(one) for one in names)
    return Blob(inputs, outputs, data[digits + 1 + end :])
