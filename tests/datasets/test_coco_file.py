"""A COCO file of results is a data set that scores 100 against itself, with ids of its own."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt.datasets.coco_file import CocoFile
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.results import Segmentation, box_of_mask

SIZE = (48, 64)
LABELS = ("mug", "bin", "floor")


def found(seed: int, task: str = "instance", count: int = 6) -> Segmentation:
    """Rectangles of random labels, which overlap in instance output."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *SIZE), np.bool_)
    painted = np.full(SIZE, -1 if task == "semantic" else 0, np.int32)
    infos: list[dict[str, Any]] = []
    for index in range(count):
        top, left = int(rng.integers(0, 30)), int(rng.integers(0, 40))
        masks[index, top : top + 16, left : left + 20] = True
        label = index % len(LABELS)
        if task == "semantic" and index >= len(LABELS):
            break
        painted[masks[index]] = id_ = label if task == "semantic" else index + 1
        infos.append(
            {"id": id_, "label_id": label, "label": LABELS[label], "isthing": label < 2}
            | {"score": 0.95 - 0.1 * index}
        )
    if task != "instance":
        infos = [info for info in infos if (painted == info["id"]).any()]
        for info in infos:
            info["area"] = int((painted == info["id"]).sum())
        return Segmentation(painted, infos, task)
    for info, mask in zip(infos, masks, strict=True):
        info["area"] = int(mask.sum())
    boxes = np.stack([box_of_mask(mask) for mask in masks])
    scores = np.array([info["score"] for info in infos], np.float32)
    labels = np.array([info["label_id"] for info in infos], np.int32)
    return Segmentation(painted, infos, task, masks, scores, labels, boxes)


def average_precision(path: Path, results: list[dict[str, Any]], kind: str) -> float:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        scoring = COCOeval(truth, truth.loadRes(results), kind)
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return float(scoring.stats[0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
@pytest.mark.parametrize("categories", [None, LABELS, {"mug": 7, "bin": 3, "floor": 99}])
def test_a_result_scores_one_against_itself(tmp_path: Path, task: str, categories: Any) -> None:
    coco = CocoFile(categories)
    for number in range(5):
        assert coco.add(f"{number}.jpg", found(number, task)) == number + 1
    coco.add(Path("none.jpg"), Segmentation(np.zeros(SIZE, np.int32), []))
    coco.write(tmp_path / "found.json")
    document = json.loads((tmp_path / "found.json").read_text())
    ids = [annotation["id"] for annotation in document["annotations"]]
    assert ids == list(range(1, len(ids) + 1)) and len(document["images"]) == len(coco) == 6
    assert all(image["id"] > 0 for image in document["images"])
    assert all(category["id"] > 0 for category in document["categories"])
    for kind in ("segm", "bbox"):
        scored = average_precision(tmp_path / "found.json", document["annotations"], kind)
        assert scored == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_ids_that_begin_anew_for_each_image_would_not(tmp_path: Path) -> None:
    coco = CocoFile(LABELS)
    for number in range(5):
        coco.add(f"{number}.jpg", found(number))
    document = coco.document()
    results = [dict(annotation) for annotation in document["annotations"]]
    for place, annotation in enumerate(document["annotations"]):
        annotation["id"] = place % 6
    (tmp_path / "anew.json").write_text(json.dumps(document))
    assert average_precision(tmp_path / "anew.json", results, "segm") < 0.9


def test_categories_are_named_once_and_know_things_from_stuff() -> None:
    coco = CocoFile(LABELS)
    coco.add("a.jpg", found(0))
    assert coco.document()["categories"] == [
        {"id": 1, "name": "mug", "isthing": 1},
        {"id": 2, "name": "bin", "isthing": 1},
        {"id": 3, "name": "floor", "isthing": 0},
    ]


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    coco = CocoFile(["mug"])
    with pytest.raises(ArgumentError, match="'bin' has no category id"):
        coco.add("a.jpg", found(0))
    assert len(coco) == 0 and coco.document()["annotations"] == []
    coco.add("a.jpg", found(0, count=1))
    for name in ("a.jpg", Path("a.jpg"), b"b.jpg"):
        with pytest.raises(ArgumentError, match="a new name"):
            coco.add(name, found(0, count=1))  # type: ignore[arg-type]
    (tmp_path / "old.json").write_text("old")
    for path in (tmp_path / "none" / "x.json", tmp_path):
        with pytest.raises(DatasetError, match="cannot be written"):
            coco.write(path)


@pytest.mark.parametrize(
    "categories",
    ["mug", ["mug", "mug"], {"mug": 0}, {"mug": 1, "bin": 1}, {"mug": True}, [1], {"a": 1.5}, 3],
)
def test_categories_that_are_refused(categories: Any) -> None:
    with pytest.raises(ArgumentError):
        CocoFile(categories)
