"""The furniture libraries of Debian's `sweethome3d-furniture`: `.sh3f` files, which are ZIPs."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.scenes.interiors.wavefront import read_model
from xdecoder_rt.scenes.lexicons.furniture import Furniture, furniture_lexicon
from xdecoder_rt.scenes.meshes.shapes import Floats64, Part, turned

__all__ = ["FurnitureLibrary"]

_CATALOGUE: Final = "PluginFurnitureCatalog.properties"
_ENTRY = re.compile(r"(id|model|modelRotation)#(\d{1,6})=(.*)")
_LARGEST_MEMBER = 64 << 20


class FurnitureLibrary:
    """The named models of all libraries in a folder.

    Args:
        folder: With `.sh3f` files.

    Attributes:
        models: Those of the named models that are there.

    Raises:
        DatasetError: the folder has no library with any of them, or one is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.root = Path(folder)
        self._places: dict[str, tuple[Path, str, Floats64]] = {}
        for path in sorted(self.root.glob("*.sh3f")):
            for identity, model, rotation in _entries(path):
                self._places.setdefault(identity, (path, model, rotation))
        self.models = tuple(m for m in furniture_lexicon() if m.identity in self._places)
        if not self.models:
            raise DatasetError(
                f"{self.root} has none of the named models",
                expected="furniture libraries of Sweet Home 3D, *.sh3f",
                fix='install Debian\'s package with "sudo apt-get install sweethome3d-furniture"',
            )

    def load(self, model: Furniture) -> list[Part]:
        """Return a model's parts, z up, its front towards -y, in the model's own unit.

        Raises:
            DatasetError: it is damaged.
        """
        path, name, rotation = self._places[model.identity]
        with open_regular(path) as file, _archive(path, file) as archive:

            def member(inner: str) -> bytes:
                return _member(path, archive, inner)

            try:
                parts = read_model(name, member)
            except KeyError as error:
                raise DatasetError(
                    f"{path} has no {quoted(name)}", fix="install it again"
                ) from error
        return [turned(part, rotation) for part in parts]


def _archive(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DatasetError(f"{path} is no library: {error}", fix="install it again") from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes; KeyError where there is none."""
    info = archive.getinfo(name)
    if info.file_size > _LARGEST_MEMBER:
        raise DatasetError(
            f"{path}: {quoted(name)} has {info.file_size:,} bytes",
            expected=f"at most {_LARGEST_MEMBER:,}",
        )
    try:
        with archive.open(info) as file:
            return file.read(_LARGEST_MEMBER)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, zlib.error) as error:
        raise DatasetError(
            f"{path}: {quoted(name)} cannot be read: {error}", fix="install it again"
        ) from error


def _entries(path: Path) -> Iterator[tuple[str, str, Floats64]]:
    """Yield identity, path and rotation of each model of a library's catalogue."""
    with open_regular(path) as file, _archive(path, file) as archive:
        try:
            text = _member(path, archive, _CATALOGUE).decode("latin-1")
        except KeyError as error:
            raise DatasetError(f"{path} has no {_CATALOGUE}", fix="install it again") from error
    entries: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _ENTRY.fullmatch(line.strip()):
            entries.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
    for entry in entries.values():
        if "id" in entry and "model" in entry:
            yield entry["id"], entry["model"].lstrip("/"), _rotation(entry.get("modelRotation"))


def _rotation(text: str | None) -> Floats64:
    """Return a model's rotation for z up; the catalogue has it for y up, row by row."""
    if text is None:
        return np.eye(3)
    try:
        matrix = np.array([float(value) for value in text.split()]).reshape(3, 3)
    except ValueError:
        return np.eye(3)
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    turned: Floats64 = upright @ matrix @ upright.T
    return turned
