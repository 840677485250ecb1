"""Small files that could mean large work: each costs what its bytes and pixels may cost."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounded import Cost, cost
from PIL import Image

from xdecoder_rt.masks.rle import encode_mask

pytest.importorskip("pycocotools", reason="needs pycocotools")

SIDE = 4000
_IMPORTS = """
from pathlib import Path
import pycocotools.mask
from xdecoder_rt.training.sources import open_dataset
def load(path):
    dataset = open_dataset(Path(path))
    print(len(dataset.items), sum(len(item.phrases) for item in dataset.items))
    for item in dataset.items:
        item.load_panoptic()
"""
SENTENCE = {"sent": "a cup"}


def refcoco(
    folder: Path,
    shapes: list[Any],
    *,
    side: int = SIDE,
    sentences: list[Any] | None = None,
    ref_count: int = 1,
) -> Path:
    """A RefCOCO data set of one black image, an annotation a shape, and refs to the first."""
    images = folder / "train2014"
    images.mkdir(parents=True)
    name = "COCO_train2014_000000000001.png"
    Image.new("L", (side, side)).save(images / name)
    document = {
        "categories": [{"id": 1, "name": "cup"}],
        "images": [{"id": 1, "file_name": name, "height": side, "width": side}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": shape}
            for i, shape in enumerate(shapes)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(document, separators=(",", ":")))
    ref = {"ann_id": 0, "image_id": 1, "split": "train", "sentences": sentences or [SENTENCE]}
    refs = folder / "refs.p"
    refs.write_bytes(pickle.dumps([ref] * ref_count, 2))
    assert sum(p.stat().st_size for p in (refs, folder / "instances.json")) < 1 << 20
    return refs


def whole(side: int = SIDE) -> dict[str, Any]:
    """Run lengths of the whole image, in a few bytes."""
    counts = encode_mask(np.ones((side, side), bool))["counts"]
    return {"size": [side, side], "counts": counts}


def zigzag(points: int, side: int = SIDE) -> list[int]:
    """A polygon whose every edge crosses the image."""
    return [x for i in range(points) for x in ((i % 2) * side, (i * 7919) % side)]


def loaded(refs: Path, **options: Any) -> Cost:
    return cost(_IMPORTS, "load(sys.argv[1])", refs, **options)


def test_parts_of_a_pickle_that_are_used_again_and_again_are_refused(tmp_path: Path) -> None:
    refs = refcoco(tmp_path, [whole(8)], side=8, sentences=[SENTENCE] * 7000, ref_count=7000)
    assert refs.stat().st_size < 30_000
    result = loaded(refs)
    assert "written out" in result.text
    assert result.seconds < 1
    assert result.mebibytes < 32


def test_a_long_text_that_is_used_again_and_again_is_refused(tmp_path: Path) -> None:
    sentences = [{"sent": "a" * 300_000}] * 100_000
    result = loaded(refcoco(tmp_path, [whole(8)], side=8, sentences=sentences))
    assert "written out" in result.text
    assert result.seconds < 1
    assert result.mebibytes < 64


def test_instances_that_cover_an_image_over_and_over_take_the_memory_of_one_map(
    tmp_path: Path,
) -> None:
    result = loaded(refcoco(tmp_path, [whole()] * 30))
    assert result.text == "1 0"  # the first lies below the others
    assert result.mebibytes < 16 * SIDE * SIDE >> 20
    assert result.seconds < 5


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([whole()] * 8000, "cover it 8,000 times over"),
        ([[zigzag(60_000)]], "outline"),
        ([[zigzag(100)]] * 500, "outline"),
        ([[zigzag(3)] * 20_000], "outline"),
    ],
    ids=["8000 of the whole image", "one zigzag", "500 zigzags", "20000 polygons of one"],
)
def test_work_beyond_an_image_s_pixels_is_refused(
    tmp_path: Path, shapes: list[Any], words: str
) -> None:
    result = loaded(refcoco(tmp_path, shapes))
    assert words in result.text
    assert result.seconds < 5
    assert result.mebibytes < 400


def test_many_polygons_of_one_instance_cost_as_many_of_many(tmp_path: Path) -> None:
    squares = [
        [x, y, x + 1, y, x + 1, y + 1, x, y + 1]
        for x in range(0, SIDE, 32)
        for y in range(0, SIDE, 16)
    ]
    result = loaded(refcoco(tmp_path, [squares[:25_000]]))
    assert result.text == "1 1"
    assert result.seconds < 8


def test_run_lengths_of_more_than_the_image_are_refused(tmp_path: Path) -> None:
    # Two runs of 2^34 less a few, whose sum would be the image's in 32 bits; then growing ones.
    for counts in ("PPPPPP?PPPPPP?", "oooooo?" * 140_000, "0" * 1_000_000):
        folder = tmp_path / str(len(counts))
        result = loaded(refcoco(folder, [{"size": [8, 8], "counts": counts}], side=8))
        assert "DatasetError" in result.text, counts[:20]
        assert result.seconds < 3
        assert result.mebibytes < 150


def test_a_declared_size_takes_nothing(tmp_path: Path) -> None:
    refs = refcoco(tmp_path, [whole(8)], side=8)
    instances = json.loads((tmp_path / "instances.json").read_text())
    for size in (10**9, 1 << 62):
        instances["images"][0].update(height=size, width=size)
        instances["annotations"][0]["segmentation"] = {"size": [size, size], "counts": "0"}
        (tmp_path / "instances.json").write_text(json.dumps(instances))
        result = loaded(refs)
        assert "annotated size" in result.text
        assert result.mebibytes < 32


def _many(entry: str, count: int) -> str:
    return "[" + ",".join([entry] * count) + "]"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions_x.json", f'{{"images":[{{"id":1}}],"annotations":{_many("{}", 349_000)}}}'),
        ("captions_x.json", f'{{"annotations":[{{"caption":1}}],"images":{_many("{}", 349_000)}}}'),
        (
            "captions_x.json",
            f'{{"images":{_many(json.dumps({"id": 1}), 100_000)},"annotations":[{{"caption":1}}]}}',
        ),
        ("captions_x.json", "[" * 1_000_000),
        ("captions_x.json", '{"a":' * 200_000),
        ("captions_x.json", '{"annotations":' + "9" * 1_000_000),
        ("captions_x.json", '{"annotations":"' + "\\ud800" * 160_000 + '"}'),
        ("panoptic_x.json", f'{{"categories":[],"annotations":[{{"segments_info":'
         f'{_many("{}", 340_000)}}}]}}'),
        ("panoptic_x.json", f'{{"categories":{_many("{}", 340_000)},"annotations":'
         '[{"segments_info":[]}]}'),
    ],
    ids=["annotations", "images", "ids", "lists", "objects", "digits", "halves", "segments",
         "categories"],
)  # fmt: skip
def test_a_million_bytes_of_json_are_read_or_refused_within_a_hundred_times_as_many(
    tmp_path: Path, name: str, text: str
) -> None:
    # Every object knows its place, which begins with the file's path: that once was copied.
    folder = tmp_path / ("long" * 50) / ("path" * 50)
    for part in ("x", "panoptic_x"):
        (folder / part).mkdir(parents=True)
    path = folder / name
    path.write_text(text)
    assert path.stat().st_size <= 1 << 20
    result = loaded(path)
    assert "DatasetError" in result.text
    assert result.seconds < 3
    assert result.mebibytes < 100


def _labelled(change: Callable[[dict[str, Any]], object]) -> str:
    item: dict[str, Any] = {
        "image": "a.png",
        "panoptic": "b.png",
        "segments": [{"id": 1, "label": "cup", "isthing": True, "area": 1}],
    }
    change(item)
    return json.dumps({"vocabulary": ["cup"], "stuff": [], "items": [item]})


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item.update(phrases=[{"text": "a", "ids": [1]}] * 30_000),
        lambda item: item.update(phrases=[{"text": "a", "ids": [1] * 60_000}]),
        lambda item: item.update(segments=item["segments"] * 17_000),
        lambda item: item.update(questions=[{"text": "a", "answers": ["b"]}] * 25_000),
        lambda item: item.update(captions=["a"] * 65_000),
        lambda item: item.update(captions=[" " * 1_000_000]),
        lambda item: item.update(image="../" * 300_000),
        lambda item: item.update(image="a" * 1_000_000),
    ],
    ids=["phrases", "phrase ids", "segments", "questions", "captions", "blanks", "dots", "name"],
)
def test_a_million_bytes_of_a_labelled_folder_are_read_within_a_hundred_times_as_many(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    Image.new("L", (4, 4), 1).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 1).save(tmp_path / "b.png")
    (tmp_path / "annotations.json").write_text(_labelled(change))
    result = loaded(tmp_path)
    assert result.seconds < 3
    assert result.mebibytes < 100


@pytest.mark.slow
def test_a_panoptic_map_of_the_most_pixels_takes_twelve_bytes_each(tmp_path: Path) -> None:
    """A PNG of 134 million pixels and thousands of ids is under a megabyte."""
    side = 11_000
    rows = np.zeros((side, side, 3), np.uint8)
    rows[..., 0] = (np.arange(side) // 100)[:, None]
    rows[..., 2] = 200
    path = tmp_path / "map.png"
    Image.fromarray(rows).save(path)
    Image.new("L", (side, side)).save(tmp_path / "image.png")
    assert path.stat().st_size < 2 << 20
    imports = """
from pathlib import Path
from xdecoder_rt.datasets.coco_panoptic import CocoItem
from xdecoder_rt.datasets.items import Segment
"""
    call = (
        "CocoItem(Path(sys.argv[1]), Path(sys.argv[2]), tuple("
        "Segment(200 * 65536 + i, 'a', True, 1) for i in range(110))).load_panoptic()"
    )
    result = cost(imports, call, tmp_path / "image.png", path)
    assert "Error" not in result.text
    assert result.mebibytes < 12 * side * side >> 20
    assert result.seconds < 20
