"""What every form is written from: the pictures of a run with their labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from xdecoder_rt.atomic import make_folder
from xdecoder_rt.files.image_file import read_header, read_image
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.record import Record

__all__ = ["Labels"]


@dataclass
class Labels:
    """The labels of a run.

    Attributes:
        categories: the labels that a segment may have, and of each whether it is a thing.
        pictures: those that are labelled, in their order.
        read: reads the records of pictures, in the order of their keys.
        unlabelled: what pixels of no segment show, for forms that can say so.
    """

    categories: Sequence[tuple[str, bool]]
    pictures: Sequence[Picture]
    read: Callable[[Sequence[str]], Iterator[Record]]
    unlabelled: str = "unknown"
    _stems: dict[str, str] = field(default_factory=dict)
    _copies: dict[str, Path] = field(default_factory=dict)
    _latest: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        used: set[str] = set()
        for picture in self.pictures:
            stem = str(PurePosixPath(picture.key).with_suffix(""))
            if stem in used:  # a.jpg beside a.png
                stem = picture.key
            used.add(stem)
            self._stems[picture.key] = stem

    @property
    def names(self) -> list[str]:
        """The labels, in the order of their ids."""
        return [name for name, _ in self.categories]

    def records(self) -> Iterator[tuple[Picture, Record]]:
        """Read the labels of all pictures."""
        keys = [picture.key for picture in self.pictures]
        yield from zip(self.pictures, self.read(keys), strict=True)

    def stem(self, picture: Picture) -> str:
        """Return a picture's relative name without a suffix; no two have the same."""
        return self._stems[picture.key]

    def copy_image(self, picture: Picture, folder: Path) -> str:
        """Copy a picture below a folder under its stem; return its name there.

        Byte for byte; one that an EXIF tag turns is written upright instead, as a PNG, so that
        masks lie on its pixels whoever reads it.

        Raises:
            OSError: it cannot be written.
            ImageError: it is no longer the picture that was labelled.
        """
        turned = read_header(picture.path).orientation > 1
        suffix = ".png" if turned else PurePosixPath(picture.key).suffix
        name = self.stem(picture) + suffix
        target = folder / name
        make_folder(target.parent)
        self._latest[picture.key] = name
        if (copy := self._copies.get(picture.key)) is not None and _is_linked(copy, target):
            return name
        if turned:
            Image.fromarray(read_image(picture.path)).save(target)
        else:
            shutil.copyfile(picture.path, target)
        return name

    def placed(self, folder: Path) -> None:
        """Take note of where the pictures copied last lie from now on, for links to them."""
        self._copies.update({key: folder / name for key, name in self._latest.items()})
        self._latest.clear()


def _is_linked(copy: Path, target: Path) -> bool:
    """Link to a copy that another form has; False where the file system cannot."""
    try:
        os.link(copy, target)
    except OSError:
        return False
    return True
