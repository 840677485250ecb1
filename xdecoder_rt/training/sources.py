"""Opens data sets by path."""

from __future__ import annotations

from pathlib import Path

from xdecoder_rt.errors import DatasetError
from xdecoder_rt.evaluation.items import PanopticDataset
from xdecoder_rt.evaluation.labelled_folder import LabelledFolder
from xdecoder_rt.training.coco import CocoPanoptic


def open_source(path: Path) -> PanopticDataset:
    """Open a labelled folder, or COCO panoptic files laid out as COCO lays them out.

    For ``coco/annotations/panoptic_train2017.json``, the maps are sought in
    ``coco/annotations/panoptic_train2017/`` and the images in ``coco/train2017/``. Pixels are
    checked as they are read, not now.

    Args:
        path: a labelled folder, or a COCO panoptic JSON file.

    Raises:
        DatasetError: there is no such data set, or its annotations are wrong.
    """
    if path.is_dir():
        return LabelledFolder.open(path, verify=False)
    if path.suffix == ".json" and path.is_file():
        images = path.parent.parent / path.stem.removeprefix("panoptic_")
        return CocoPanoptic.open(path, path.with_suffix(""), images)
    raise DatasetError(
        f"There is no data set at {path}",
        expected="a labelled folder, or a COCO panoptic JSON file",
    )
