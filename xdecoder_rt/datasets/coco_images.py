"""Where the images of a COCO annotation file lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.datasets.documents import Document, NonEmptyText
from xdecoder_rt.errors import DatasetError, quoted

# Their photographs are the same under both years' names, only divided differently.
_SPLITS = ("train2014", "val2014", "train2017", "val2017")
# Below the folder of the annotation file or the one above it; the last is `refer`'s own layout.
IMAGES = "images"
_PLACES = ("", IMAGES, "images/mscoco/images")


@dataclass(frozen=True)
class CocoImage:
    """An image as every annotation file names it."""

    file_name: NonEmptyText


def folders_beside(annotations: Path, name: str) -> list[Path]:
    """Return the folders of a name beside an annotation file or beside the folder of that file.

    Those in ``images/`` at either place are among them, nearer ones first.

    Args:
        annotations: The annotation file; relative paths are of the working folder.
        name: The folder's, without parents.
    """
    if not name or Path(name).name != name:
        return []
    roots = dict.fromkeys(annotations.absolute().parents[:2])
    folders = [root / place / name for root in roots for place in _PLACES]
    return [folder for folder in folders if os.path.isdir(folder)]


class CocoImages:
    """Finds images beside an annotation file.

    They may lie in a folder named like the split beside the annotation file, or beside the folder
    of that file, or in ``images/`` at either place. Images of COCO's own splits are found in the
    folders of either year: by the id under 2014's name (``COCO_train2014_000000000009.jpg``) or
    under 2017's (``000000000009.jpg``).

    Args:
        annotations: The annotation file.
        split: The name of the images' folder, like ``train2017``.

    Raises:
        DatasetError: if there is no such folder.
    """

    def __init__(self, annotations: Path, split: str) -> None:
        self._named_by_id = split in _SPLITS
        names = dict.fromkeys((split, *_SPLITS)) if self._named_by_id else (split,)
        self._folders = [f for name in names for f in folders_beside(annotations, name)]
        self._contents: dict[Path, frozenset[str]] = {}
        if Path(split).name != split or not self._folders:
            raise DatasetError(
                f"The images of {quoted(str(annotations), 200)} were not found",
                expected=f"a folder {quoted(split)} beside the file or beside its folder",
            )

    def find(self, record: Document, image_id: int, file_name: str | None = None) -> Path:
        """Find the file of an image.

        Args:
            record: What names the image, for the error.
            image_id: COCO's id.
            file_name: The name that the annotations give it, if they do.

        Raises:
            DatasetError: if there is none, or a folder cannot be read.
        """
        for folder in self._folders:
            names = [file_name] if file_name is not None else []
            if self._named_by_id:
                names += [f"{image_id:012d}.jpg", f"COCO_{folder.name}_{image_id:012d}.jpg"]
            for name in names:
                if name in self._files(folder):
                    return folder / name
        places = ", ".join(str(folder) for folder in self._folders)
        raise record.error(f"there is no file of the image {image_id} in {places}")

    def _files(self, folder: Path) -> frozenset[str]:
        # One listing: a hundred thousand look-ups of files would take minutes on a network disk.
        if folder not in self._contents:
            try:
                self._contents[folder] = frozenset(os.listdir(folder))
            except OSError as error:
                raise DatasetError(f"{folder} cannot be read: {error.strerror}") from error
        return self._contents[folder]
