"""Compiled models that a library keeps in a folder, believed only with their digests.

A library that reads its compiled models back trusts every byte: a damaged one ends the process or
gives wrong results. So each graph has a private folder, beside whose files lies a list of their
SHA-256; a file that is not listed, or is another by now, is removed before the library looks.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from xdecoder_rt.atomic import atomic_writer, check_private, private_folder
from xdecoder_rt.errors import warn_caller

__all__ = ["ModelBlobs"]

_DIGESTS = "sha256"
# Directories of which this process has warned: a plan has many graphs.
_WARNED: set[Path] = set()


class ModelBlobs:
    """The folder of one graph's compiled models.

    Args:
        directory: folder of all caches.
        library: whose models they are.
        graph: name of the graph.
        size: bytes of its model; with the name, enough that a folder holds few files.
    """

    def __init__(self, directory: Path, library: str, graph: str, size: int) -> None:
        self._directory = directory
        name = re.sub(r"[^A-Za-z0-9_]", "_", graph)[:100]
        self._folder = directory / library / f"{name}-{size}"
        self._known: dict[str, str] = {}

    def folder(self) -> Path | None:
        """Return the folder, with nothing in it that cannot be believed; None if it cannot be used.

        One warning says why, unless the whole directory cannot be used: the text cache says that.
        """
        try:
            private_folder(self._directory)
        except OSError:
            return None
        try:
            private_folder(self._folder.parent)
            private_folder(self._folder)
            self._known = self._sound()
        except (OSError, ValueError) as error:
            if self._directory not in _WARNED:
                _WARNED.add(self._directory)
                warn_caller(
                    f"Compiled models are not kept in {self._folder} ({error}); they are compiled "
                    "whenever they are needed. Remove what is there, or set cache_dir"
                )
            return None
        return self._folder

    def seal(self) -> None:
        """List the digests of what the library has written since `folder`."""
        try:
            found = {path.name: path for path in self._files()}
            if found.keys() <= self._known.keys():
                return
            digests = {name: self._known.get(name) or _digest(path) for name, path in found.items()}
            with atomic_writer(self._folder / _DIGESTS, private=True) as file:
                file.writelines(f"{digests[name]} {name}\n".encode() for name in sorted(digests))
            self._known = digests
        except (OSError, ValueError):  # what is not listed is compiled again
            return

    def _sound(self) -> dict[str, str]:
        """Remove what is not listed as it is, and return the digests of what stays."""
        listed: dict[str, str] = {}
        check_private(self._folder / _DIGESTS)
        if (self._folder / _DIGESTS).exists():
            for line in (self._folder / _DIGESTS).read_text("utf-8", "replace").splitlines():
                digest, _, name = line.partition(" ")
                listed[name] = digest
        sound = {}
        for path in self._files():
            try:
                check_private(path)
                is_sound = path.name in listed and _digest(path) == listed[path.name]
            except OSError:
                is_sound = False
            if is_sound:
                sound[path.name] = listed[path.name]
            else:
                path.unlink()
        return sound

    def _files(self) -> list[Path]:
        # Names that begin with a dot are files that are being written.
        return [
            path
            for path in self._folder.iterdir()
            if path.name != _DIGESTS and not path.name.startswith(".")
        ]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
