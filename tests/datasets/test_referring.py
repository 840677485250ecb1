"""RefCOCO's refs and instances, on a data set of three images made here."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.documents import Document
from xdecoder_rt.datasets.instances import paint_instances, read_instance
from xdecoder_rt.datasets.items import PanopticDataset, PanopticItem, Phrase, Segment
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.masks.rle import encode_mask
from xdecoder_rt.training.sources import open_dataset

pytest.importorskip("pycocotools", reason="needs pycocotools")

HEIGHT, WIDTH = 6, 10


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    """A polygon that covers exactly these pixels."""
    return [left, top, right, top, right, bottom, left, bottom]


def pixels(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def sentence(number: int, text: str) -> dict[str, Any]:
    return {"sent_id": number, "sent": text, "raw": text.upper(), "tokens": text.split()}


def ref(image_id: int, ann_id: int, split: str, *texts: str) -> dict[str, Any]:
    return {
        "ref_id": ann_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "split": split,
        "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
        "sent_ids": list(range(len(texts))),
        "sentences": [sentence(number, text) for number, text in enumerate(texts)],
    }


def instance(
    id_: int, image_id: int, category: int, shape: object, crowd: int = 0
) -> dict[str, Any]:
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category,
        "segmentation": shape,
        "iscrowd": crowd,
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
    }


REFS = [
    ref(9, 901, "train", "the  table\n", "wooden table"),
    ref(30, 301, "val", "a dog"),
    ref(9, 902, "train", "cup on the left", " "),
    ref(9, 903, "train", "hidden cup"),
    ref(71, 711, "testA", "a man"),
    ref(71, 712, "testB", "a kite"),
]
INSTANCES = {
    "categories": [{"id": 1, "name": "table"}, {"id": 47, "name": "cup"}, {"id": 3, "name": "dog"}],
    "images": [
        {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in (9, 30, 71)
    ],
    "annotations": [
        instance(902, 9, 47, [box(1, 1, 3, 3), box(4, 1, 5, 3), [0, 0, 1, 1]]),
        instance(903, 9, 47, [box(1, 1, 3, 3), box(4, 1, 5, 3)]),  # covers 902 entirely
        instance(901, 9, 1, [box(0, 0, 8, 6)]),
        instance(904, 9, 47, encode_mask(pixels(0, 0, 10, 6)), crowd=1),
        instance(301, 30, 3, {"size": [HEIGHT, WIDTH], "counts": [6, 12, 42]}),
        instance(711, 71, 3, [box(0, 0, 2, 2)]),
        instance(712, 71, 3, [box(5, 0, 9, 2)]),
    ],
}


@dataclass
class RefCoco:
    """Where the parts of the data set lie."""

    refs: Path
    instances: Path
    images: Path

    def open(self, split: str = "") -> PanopticDataset:
        return open_dataset(Path(f"{self.refs}#{split}" if split else self.refs))

    def edit(self, change: Callable[[list[Any], dict[str, Any]], object]) -> None:
        refs, instances = (
            pickle.loads(self.refs.read_bytes()),
            json.loads(self.instances.read_text()),
        )
        change(refs, instances)
        self.refs.write_bytes(pickle.dumps(refs, 2))
        self.instances.write_text(json.dumps(instances))


@pytest.fixture
def refcoco(tmp_path: Path) -> RefCoco:
    """Laid out as `refer` lays it out."""
    folder, images = tmp_path / "refcoco+", tmp_path / "images/mscoco/images/train2014"
    folder.mkdir()
    images.mkdir(parents=True)
    made = RefCoco(folder / "refs(unc).p", folder / "instances.json", images)
    made.refs.write_bytes(pickle.dumps(REFS, 0))
    made.instances.write_text(json.dumps(INSTANCES))
    for number in (9, 30, 71):
        image = Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0))
        image.save(images / f"COCO_train2014_{number:012d}.jpg")
    return made


def masks(item: PanopticItem) -> dict[str, np.ndarray]:
    """What each phrase means, as pixels."""
    ids = item.load_panoptic()
    return {phrase.text: np.isin(ids, phrase.ids) for phrase in item.phrases}


def test_phrases_name_the_instances_that_they_mean(refcoco: RefCoco) -> None:
    dataset = refcoco.open()
    assert dataset.vocabulary == ("table", "cup", "dog")
    assert dataset.stuff == frozenset()
    (item,) = dataset.items
    assert item.image == refcoco.images / "COCO_train2014_000000000009.jpg"
    assert item.load_image().shape == (HEIGHT, WIDTH, 3)
    assert (item.captions, item.questions) == ((), ())
    cups = pixels(1, 1, 3, 3) | pixels(4, 1, 5, 3)
    found = masks(item)
    assert list(found) == ["the table", "wooden table", "hidden cup"]
    np.testing.assert_array_equal(found["the table"], pixels(0, 0, 8, 6) & ~cups)
    np.testing.assert_array_equal(found["hidden cup"], cups)


def test_smaller_instances_hide_larger_ones_and_crowds_lie_below(refcoco: RefCoco) -> None:
    (item,) = refcoco.open().items
    ids = item.load_panoptic()
    assert ids.dtype == np.int32
    assert item.segments == (
        Segment(2, "cup", True, 6),
        Segment(3, "table", True, 42),
        Segment(4, "cup", True, 12, iscrowd=True),
    )
    assert {segment.id for segment in item.segments} == set(np.unique(ids))
    # 902 has no pixel left under 903: neither it nor what refers to it is listed.
    assert [phrase.ids for phrase in item.phrases] == [(3,), (3,), (2,)]


def test_segments_are_the_same_before_and_after_the_map_is_loaded(refcoco: RefCoco) -> None:
    (first,), (second,) = refcoco.open().items, refcoco.open().items
    second.load_panoptic()
    assert (first.segments, first.phrases) == (second.segments, second.phrases)


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("val", ["a dog"]),
        ("testA", ["a man"]),
        ("testB", ["a kite"]),
        ("test", ["a man", "a kite"]),
    ],
)
def test_a_split_is_named_after_the_file(refcoco: RefCoco, split: str, texts: list[str]) -> None:
    (item,) = refcoco.open(split).items
    assert [phrase.text for phrase in item.phrases] == texts


def test_all_forms_of_a_mask_are_read(refcoco: RefCoco) -> None:
    (item,) = refcoco.open("val").items
    np.testing.assert_array_equal(item.load_panoptic() == 1, pixels(1, 0, 3, 6))
    refcoco.edit(
        lambda _, d: d["annotations"][4].update(segmentation=encode_mask(pixels(2, 1, 7, 4)))
    )
    (item,) = refcoco.open("val").items
    assert item.phrases == (Phrase("a dog", (1,)),)
    np.testing.assert_array_equal(item.load_panoptic() == 1, pixels(2, 1, 7, 4))


def test_polygons_are_rasterised_as_coco_does() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        size = tuple(int(side) for side in rng.integers(1, 60, size=2))
        shape = [(rng.random(8) * np.tile(size[::-1], 4)).tolist() for _ in range(2)]
        record = Document(instance(1, 1, 1, shape), "x")
        ids = paint_instances([read_instance(record, 1, {1: "cup"}, size)], size)
        encoded = coco.frPyObjects(shape, *size)
        np.testing.assert_array_equal(ids > 0, coco.decode(encoded).any(axis=2))


def test_refs_are_read_from_json_too(refcoco: RefCoco) -> None:
    as_json = refcoco.refs.with_suffix(".json")
    as_json.write_text(json.dumps(REFS))
    for split in ("", "#test"):
        first = open_dataset(Path(f"{refcoco.refs}{split}"))
        second = open_dataset(Path(f"{as_json}{split}"))
        assert [i.phrases for i in first.items] == [i.phrases for i in second.items]
        assert [i.image for i in first.items] == [i.image for i in second.items]


def test_images_of_2017_serve_as_well(refcoco: RefCoco) -> None:
    folder = refcoco.refs.parent.parent / "val2017"
    refcoco.images.rename(folder)
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.removeprefix("COCO_train2014_"))
    assert refcoco.open().items[0].image == folder / "000000000009.jpg"


def test_a_pickle_that_runs_commands_is_refused(refcoco: RefCoco) -> None:
    refcoco.refs.write_bytes(b"cos\nsystem\n(S'touch " + bytes(refcoco.refs.parent) + b"/x'\ntR.")
    with pytest.raises(DatasetError, match="more than data: GLOBAL"):
        refcoco.open()
    assert not (refcoco.refs.parent / "x").exists()


def _ref(key: str, value: object) -> Callable[[list[Any], dict[str, Any]], object]:
    return lambda refs, _: refs[0].__setitem__(key, value)


def _table(key: str, value: object) -> Callable[[list[Any], dict[str, Any]], object]:
    return lambda _, instances: instances["annotations"][2].__setitem__(key, value)


def _shape(value: object) -> Callable[[list[Any], dict[str, Any]], object]:
    return _table("segmentation", value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, d: r.__setitem__(0, 3), "ref 0 is 3. Expected a JSON object"),
        (lambda r, d: r[0].pop("split"), "ref 0: the key 'split' is missing"),
        (lambda r, d: r.clear(), "no expressions of the split 'train'"),
        (_ref("ann_id", 5), "ref 0: 'ann_id' is 5, which no instance has"),
        (_ref("ann_id", 301), "ref 0: 'ann_id' is 301, an instance of another image than 9"),
        (_ref("image_id", "9"), "ref 0: 'image_id' is '9'. Expected an integer"),
        (_ref("sentences", None), "ref 0: 'sentences' is NoneType. Expected a list"),
        (_ref("sentences", [{}]), "ref 0, sentence 0: the key 'sent' is missing"),
        (_ref("sentences", [{"sent": 5}]), "sentence 0: 'sent' is 5"),
        (lambda r, d: d.pop("images"), "the key 'images' is missing"),
        (lambda r, d: d["images"].append(d["images"][0]), "'images' has the id 9 twice"),
        (lambda r, d: d["images"][0].update(height=0), r"image 0: the size is \(0, 10\)"),
        (lambda r, d: d["annotations"][0].update(id=901), "'annotations' has the id 901 twice"),
        (_table("image_id", 8), "annotation 2: 'image_id' is 8, which no image has"),
        (_table("category_id", 2), r"annotation 2: 'category_id' is 2.* one of \[1, 3, 47\]"),
        (_table("iscrowd", 2), "annotation 2: 'iscrowd' is 2"),
        (_shape("x"), "annotation 2: 'segmentation' is wrong. Expected polygons"),
        (_shape([["1"] * 6]), "annotation 2: a polygon is wrong. Expected a list of numbers"),
        (_shape([[True] * 6]), "annotation 2: a polygon is wrong"),
        (_shape([1, 2, 3, 4, 5, 6]), "annotation 2: a polygon is wrong"),
        (_shape([[1, 2, 3, 4, 5, 6, 7]]), "a polygon has 7 numbers"),
        (_shape([[1e9, 0, 1, 1, 2, 0]]), "far outside the image. Expected within 10 x 6"),
        (_shape([[float("nan"), 0, 1, 1, 2, 0]]), "far outside the image"),
        (_shape([[10**400, 0, 1, 1, 2, 0]]), "far outside the image"),
        (_shape({"size": [6, 10]}), "segmentation: the key 'counts' is missing"),
        (_shape({"size": [10, 6], "counts": [60]}), r"'size' is \[10, 6\]. Expected \[6, 10\]"),
        (_shape({"size": [6, 10], "counts": [61]}), "does not add up to the image. Expected 60"),
        (_shape({"size": [6, 10], "counts": [-1, 61]}), "does not add up"),
        (_shape({"size": [6, 10], "counts": ["60"]}), "'counts' contains '60'"),
        (_shape({"size": [6, 10], "counts": "ooo"}), "'counts' is broken"),
        (_shape({"size": [6, 10], "counts": "o" * 40 + "0"}), "'counts' is broken"),
        (_shape({"size": [6, 10], "counts": "né"}), "'counts' is broken"),
    ],
)
def test_a_wrong_field_is_refused(
    refcoco: RefCoco, change: Callable[[list[Any], dict[str, Any]], object], message: str
) -> None:
    refcoco.edit(change)
    with pytest.raises(DatasetError, match=message) as error:
        refcoco.open()
    assert str(refcoco.refs.parent) in str(error.value)


def test_run_lengths_that_do_not_fit_are_refused_when_loaded(refcoco: RefCoco) -> None:
    refcoco.edit(_shape({"size": [HEIGHT, WIDTH], "counts": "55"}))
    (item,) = refcoco.open().items
    with pytest.raises(DatasetError, match=r"009\.jpg: .*the instance 901 is wrong.*10 pixels"):
        item.load_panoptic()


def test_outlines_on_stored_pixels_are_turned_with_their_image_where_that_is_said(
    refcoco: RefCoco,
) -> None:
    (item,) = refcoco.open().items
    upright = item.load_panoptic()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(item.image, exif=exif)
    with pytest.raises(DatasetError, match="EXIF orientation 6"):
        item.load_panoptic()
    for spelling in ("stored", "train#stored"):
        (turned,) = refcoco.open(spelling).items
        np.testing.assert_array_equal(turned.load_panoptic(), np.rot90(upright, -1))
        assert turned.load_image().shape == (WIDTH, HEIGHT, 3)


def test_an_image_of_another_size_is_refused_when_loaded(refcoco: RefCoco) -> None:
    (item,) = refcoco.open().items
    Image.new("RGB", (WIDTH, 5)).save(item.image)
    with pytest.raises(
        DatasetError, match=r"annotated size is \(6, 10\) and its image .* is \(5, 10\)"
    ):
        item.load_panoptic()
    item.image.unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        _ = item.segments


def test_missing_parts_are_refused(refcoco: RefCoco) -> None:
    with pytest.raises(DatasetError, match=r"split 'testC'. Expected one of .*'testA', 'testB'"):
        refcoco.open("testC")
    (refcoco.images / "COCO_train2014_000000000009.jpg").unlink()
    with pytest.raises(DatasetError, match="image 0: there is no file of the image 9 in"):
        refcoco.open()
    refcoco.images.rename(refcoco.images.with_name("elsewhere"))
    with pytest.raises(
        DatasetError, match="images of .* were not found. Expected a folder 'train2014'"
    ):
        refcoco.open()
    refcoco.instances.unlink()
    with pytest.raises(DatasetError, match=r"instances\.json does not exist"):
        refcoco.open()


@pytest.mark.parametrize("spelling", ["val#nothing", "val#nothing#stored", "val#stored#nothing"])
def test_pixels_of_no_instance_show_nothing_where_that_is_said(
    refcoco: RefCoco, spelling: str
) -> None:
    (plain,), (declared,) = refcoco.open("val").items, refcoco.open(spelling).items
    ids = plain.load_panoptic()
    assert (ids == 0).any()
    np.testing.assert_array_equal(declared.load_panoptic(), np.where(ids == 0, -1, ids))
    assert declared.segments == plain.segments
    assert declared.phrases == plain.phrases


def test_a_folder_says_itself_what_unlabelled_means(tmp_path: Path) -> None:
    for mark in ("#stored", "#nothing"):
        with pytest.raises(DatasetError, match=f"'{mark}' is said of files alone"):
            open_dataset(Path(f"{tmp_path}{mark}"))
