"""COCO's panoptic files, on a data set of two images made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.coco_panoptic import CocoPanoptic, convert_coco_panoptic
from xdecoder_rt.datasets.labelled_folder import LabelledFolder, PanopticDataset, Segment
from xdecoder_rt.errors import ArgumentError, DatasetError

PERSON, CROWD, SKY, LOW = 0x030201, 0x7F0000, 0x0000FF, 256
MAPS = {
    1: np.array([[0, PERSON, PERSON], [SKY, SKY, CROWD]], dtype=np.int32),
    2: np.array([[LOW, LOW, SKY]], dtype=np.int32),
}
SEGMENTS = {1: {PERSON: (1, 0), CROWD: (1, 1), SKY: (187, 0)}, 2: {SKY: (187, 0), LOW: (44, 0)}}
CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
    {"id": 44, "name": "bottle", "isthing": 1, "supercategory": "kitchen"},
    {"id": 187, "name": "sky-other-merged", "isthing": 0, "supercategory": "sky"},
]


@dataclass
class Coco:
    """Where the three parts of the data set lie."""

    json: Path
    panoptic: Path
    images: Path

    def open(self) -> CocoPanoptic:
        return CocoPanoptic.open(self.json, self.panoptic, self.images)

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(self.json.read_text())
        change(document)
        self.json.write_text(json.dumps(document))


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    made = Coco(tmp_path / "panoptic_tiny.json", tmp_path / "panoptic", tmp_path / "images")
    made.panoptic.mkdir()
    made.images.mkdir()
    images, annotations = [], []
    for image_id, ids in MAPS.items():
        rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(made.panoptic / f"{image_id:012d}.png")
        Image.fromarray(np.full_like(rgb, image_id)).save(made.images / f"{image_id:012d}.jpg")
        height, width = ids.shape
        name = f"{image_id:012d}.jpg"
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        annotations.append(
            {
                "image_id": image_id,
                "file_name": f"{image_id:012d}.png",
                "segments_info": [
                    {
                        "id": id_,
                        "category_id": category,
                        "iscrowd": iscrowd,
                        "area": int((ids == id_).sum()),
                        "bbox": [0, 0, 1, 1],
                    }
                    for id_, (category, iscrowd) in SEGMENTS[image_id].items()
                ],
            }
        )
    made.json.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES})
    )
    return made


def test_it_is_read_with_colours_as_ids(coco: Coco) -> None:
    dataset: PanopticDataset = coco.open()
    assert dataset.vocabulary == ("person", "bottle", "sky-other-merged")
    assert dataset.stuff == {"sky-other-merged"}
    first, second = dataset.items
    assert first.segments == (
        Segment(PERSON, "person", True, 2),
        Segment(CROWD, "person", True, 1, iscrowd=True),
        Segment(SKY, "sky-other-merged", False, 2),
    )
    np.testing.assert_array_equal(first.load_panoptic(), MAPS[1])
    np.testing.assert_array_equal(second.load_panoptic(), MAPS[2])
    assert first.load_panoptic().dtype == np.int32
    assert first.load_image().shape == (2, 3, 3)
    assert (first.phrases, first.captions, first.questions) == ((), (), ())


def test_it_converts_to_a_labelled_folder_without_crowds(coco: Coco, tmp_path: Path) -> None:
    converted = convert_coco_panoptic(coco.json, coco.panoptic, coco.images, tmp_path / "out")
    again = LabelledFolder.open(tmp_path / "out")
    assert again.items == converted.items
    assert again.vocabulary == coco.open().vocabulary
    assert again.stuff == coco.open().stuff
    first, second = again.items
    assert first.load_panoptic().tolist() == [[0, 1, 1], [2, 2, 0]]
    assert first.segments == (
        Segment(1, "person", True, 2),
        Segment(2, "sky-other-merged", False, 2),
    )
    assert second.load_panoptic().tolist() == [[2, 2, 1]]
    assert first.image.read_bytes() == coco.open().items[0].image.read_bytes()


def test_a_part_converts(coco: Coco, tmp_path: Path) -> None:
    paths = (coco.json, coco.panoptic, coco.images)
    assert len(convert_coco_panoptic(*paths, tmp_path / "out", limit=1)) == 1
    with pytest.raises(ArgumentError, match="'limit' is 0"):
        convert_coco_panoptic(*paths, tmp_path / "none", limit=0)


def test_more_segments_than_fit_8_bits_are_refused_and_nothing_is_left(
    coco: Coco, tmp_path: Path
) -> None:
    ids = np.arange(1, 257, dtype=np.int32).reshape(16, 16)
    rgb = np.stack([ids & 255, ids >> 8, ids * 0], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(coco.panoptic / "000000000002.png")
    Image.fromarray(rgb).save(coco.images / "000000000002.jpg")

    def many(document: dict[str, Any]) -> None:
        document["annotations"][1]["segments_info"] = [
            {"id": i, "category_id": 1, "area": 1} for i in range(1, 257)
        ]

    coco.edit(many)
    assert len(coco.open().items[1].segments) == 256
    with pytest.raises(DatasetError, match="256 segments. Expected at most 255"):
        convert_coco_panoptic(coco.json, coco.panoptic, coco.images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _annotation(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["annotations"][0].__setitem__(key, value)


def _segment(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["annotations"][0]["segments_info"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "the key 'categories' is missing"),
        (lambda d: d["categories"].append(CATEGORIES[0]), "'categories' has the id 1 twice"),
        (lambda d: d["categories"][1].update(name="person"), "'person' twice"),
        (lambda d: d["categories"].clear(), "'vocabulary' is empty"),
        (lambda d: d["images"].append(d["images"][0]), "'images' has the id 1 twice"),
        (lambda d: d["images"][0].update(file_name="../x.jpg"), "outside the folder"),
        (lambda d: d["images"][0].update(file_name="x.jpg"), "image 0.*does not exist"),
        (lambda d: d.update(annotations=[]), "'annotations' is empty"),
        (_annotation("image_id", 3), "annotation 0: 'image_id' is 3, which no image has"),
        (_annotation("file_name", "x.png"), "annotation 0: 'file_name' names .* does not exist"),
        (_annotation("segments_info", None), "'segments_info' is null"),
        (_segment("id", SKY), "two segments have the id 255"),
        (_segment("id", 0), "segment 0: 'id' is 0"),
        (_segment("id", 1 << 24), "'id' is 16777216"),
        (_segment("category_id", 2), r"'category_id' is 2.* one of \[1, 44, 187\]"),
        (_segment("iscrowd", 2), "'iscrowd' is 2"),
        (_segment("area", "2"), "'area' is '2'"),
    ],
)
def test_a_wrong_annotation_is_refused(
    coco: Coco, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    coco.edit(change)
    with pytest.raises(DatasetError, match=message) as error:
        coco.open()
    assert str(coco.json) in str(error.value)


def test_missing_parts_are_refused(coco: Coco, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        CocoPanoptic.open(coco.json, tmp_path / "none", coco.images)
    with pytest.raises(DatasetError, match="does not exist"):
        CocoPanoptic.open(tmp_path / "none.json", coco.panoptic, coco.images)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 3), np.uint8), "8 bits and colour type 0. Expected an 8-bit RGB PNG"),
        (np.zeros((1, 3, 3), np.uint8), "the same size"),
        (np.zeros((2, 3, 3), np.uint8), "no pixel of the segments listed"),
        (np.full((2, 3, 3), 9, np.uint8), "not list as segments"),
    ],
)
def test_wrong_pixels_are_refused_when_loaded(coco: Coco, pixels: np.ndarray, message: str) -> None:
    Image.fromarray(pixels).save(coco.panoptic / "000000000001.png")
    with pytest.raises(DatasetError, match=message):
        coco.open().items[0].load_panoptic()


def test_a_map_of_16_bits_a_channel_is_refused_as_such(coco: Coco) -> None:
    cv2 = pytest.importorskip("cv2", reason="writes the PNG")
    cv2.imwrite(str(coco.panoptic / "000000000001.png"), np.full((2, 3, 3), SKY, np.uint16))
    with pytest.raises(DatasetError, match="PNG of 16 bits"):
        coco.open().items[0].load_panoptic()


@pytest.mark.parametrize("orientation", [3, 6])
def test_maps_on_stored_pixels_are_turned_with_their_images_where_that_is_said(
    coco: Coco, tmp_path: Path, orientation: int
) -> None:
    path = coco.images / "000000000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif)
    turned = np.rot90(MAPS[1], {3: 2, 6: -1}[orientation])
    stored = CocoPanoptic.open(coco.json, coco.panoptic, coco.images, orientation="stored")
    np.testing.assert_array_equal(stored.items[0].load_panoptic(), turned)
    assert stored.items[0].load_image().shape[:2] == turned.shape
    convert_coco_panoptic(
        coco.json, coco.panoptic, coco.images, tmp_path / "out", orientation="stored"
    )
    written = LabelledFolder.open(tmp_path / "out").items[0]
    np.testing.assert_array_equal(written.load_panoptic() == 1, turned == PERSON)
    if orientation == 6:
        with pytest.raises(DatasetError, match="EXIF orientation 6"):
            coco.open().items[0].load_panoptic()


def test_maps_are_drawn_on_one_of_two_things(coco: Coco) -> None:
    with pytest.raises(ArgumentError, match="'orientation' is 'up'"):
        CocoPanoptic.open(coco.json, coco.panoptic, coco.images, orientation="up")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "maps", "images"),
    [
        ("annotations/panoptic_kitchen.json", "annotations/panoptic_kitchen", "kitchen"),
        ("annotations/panoptic_kitchen.json", "panoptic_kitchen", "images/kitchen"),
        ("panoptic_kitchen.json", "panoptic_kitchen", "kitchen"),
        ("panoptic_kitchen.json", "panoptic_kitchen", "images"),
        ("panoptic.json", "panoptic", "images"),
        ("kitchen.json", "kitchen", "images"),
    ],
)
@pytest.mark.parametrize("is_relative", [False, True])
def test_training_finds_maps_and_images_beside_the_file_or_its_folder(
    coco: Coco,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    maps: str,
    images: str,
    is_relative: bool,
) -> None:
    from xdecoder_rt.training.sources import open_dataset

    root = tmp_path / "data"
    for source, name in ((coco.json, file), (coco.panoptic, maps), (coco.images, images)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        source.rename(root / name)
    path = root / file
    if is_relative:  # as typed in the file's own folder
        monkeypatch.chdir(path.parent)
        path = Path(path.name)
    first = open_dataset(path).items[0]
    np.testing.assert_array_equal(first.load_panoptic(), MAPS[1])
    assert first.load_image().shape[:2] == MAPS[1].shape


@pytest.mark.parametrize(
    ("missing", "message"), [("panoptic_kitchen", "maps"), ("kitchen", "images")]
)
def test_folders_that_are_not_there_are_named(
    coco: Coco, tmp_path: Path, missing: str, message: str
) -> None:
    from xdecoder_rt.training.sources import open_dataset

    path = coco.json.rename(tmp_path / "panoptic_kitchen.json")
    coco.panoptic.rename(tmp_path / "panoptic_kitchen")
    coco.images.rename(tmp_path / "kitchen")
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=f"The {message} of .*a folder {missing}/"):
        open_dataset(path)


def test_unlabelled_pixels_show_nothing_where_that_is_declared(coco: Coco, tmp_path: Path) -> None:
    dataset = CocoPanoptic.open(coco.json, coco.panoptic, coco.images, unlabelled="nothing")
    for item, plain in zip(dataset.items, coco.open().items, strict=True):
        ids = plain.load_panoptic()
        np.testing.assert_array_equal(item.load_panoptic(), np.where(ids == 0, -1, ids))
        assert item.segments == plain.segments
    # A labelled folder has no crowds, and nothing is not what they show.
    with pytest.raises(DatasetError, match="has crowds, which become unlabelled"):
        convert_coco_panoptic(
            coco.json, coco.panoptic, coco.images, tmp_path / "out", unlabelled="nothing"
        )
    assert not (tmp_path / "out").exists()
    document = json.loads(coco.json.read_text())
    document["annotations"] = document["annotations"][1:]
    coco.json.write_text(json.dumps(document))
    folder = convert_coco_panoptic(
        coco.json, coco.panoptic, coco.images, tmp_path / "out", unlabelled="nothing"
    )
    (item,) = folder.items
    assert item.unlabelled == "nothing"
    with pytest.raises(ArgumentError, match="'unlabelled' is 'void'"):
        CocoPanoptic.open(coco.json, coco.panoptic, coco.images, unlabelled="void")  # type: ignore[arg-type]
