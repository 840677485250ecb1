"""Every form says of a picture what its record says, as the readers of that form see it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import save_picture
from PIL import Image

from xdecoder_rt.datasets.coco_panoptic import CocoPanoptic
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.formats.masks import pascal_colour
from xdecoder_rt.labelling.formats.table import FORMATS, write_form
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.record import FoundPhrase, FoundSegment, Record
from xdecoder_rt.masks.rle import decode_mask, encode_mask
from xdecoder_rt.results import box_of_mask

SIZE = (50, 70)  # of `save_picture`
CATEGORIES = (("mug", True), ('"odd" & <name>', True), ("floor", False))


def region(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def segment(label: str, score: float, mask: np.ndarray) -> FoundSegment:
    box = tuple(float(edge) for edge in box_of_mask(mask))
    isthing = dict(CATEGORIES)[label]
    return FoundSegment(label, score, isthing, int(mask.sum()), box, encode_mask(mask))


MUG, ODD, FLOOR = region(5, 10, 25, 40), region(15, 30, 35, 60), region(40, 0, 50, 70)
RING = region(5, 10, 25, 40) & ~region(10, 15, 20, 30)


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """Three pictures: two overlapping segments, a ring with a floor, and nothing at all."""
    names = ("a.png", "sub/a.jpg", "sub/empty.png")
    pictures = []
    for number, name in enumerate(names):
        (tmp_path / "shots" / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.append(Picture(name, str(save_picture(tmp_path / "shots" / name, number))))
    odd = CATEGORIES[1][0]
    records = {
        "a.png": Record(
            "a.png",
            SIZE,
            (segment("mug", 0.9, MUG), segment(odd, 0.6, ODD)),
            (
                FoundPhrase("the mug", 0.8, True, encode_mask(MUG)),
                FoundPhrase("a corner", 0.8, True, encode_mask(region(0, 0, 3, 3))),
                FoundPhrase("a ghost", 0.1, False, encode_mask(region(0, 0, 0, 0))),
            ),
            "a mug",
        ),
        "sub/a.jpg": Record(
            "sub/a.jpg", SIZE, (segment("mug", 0.7, RING), segment("floor", 0.5, FLOOR)), (), None
        ),
        "sub/empty.png": Record("sub/empty.png", SIZE, (), (), None),
    }

    def read(keys: Sequence[str]) -> Iterator[Record]:
        return (records[key] for key in keys)

    return Labels(CATEGORIES, pictures, read)


def painted_truth() -> list[np.ndarray]:
    """Return the class of each pixel, from 1: the surer mug lies over what it overlaps."""
    first = np.where(MUG, 1, np.where(ODD, 2, 0))
    second = np.where(RING, 1, np.where(FLOOR, 3, 0))
    return [first, second, np.zeros(SIZE, int)]


def test_the_labelled_folder_is_read_with_phrases_and_captions(
    labels: Labels, tmp_path: Path
) -> None:
    notes = write_form("folder", tmp_path, labels)
    folder = LabelledFolder.open(tmp_path / "folder")
    assert folder.vocabulary == tuple(name for name, _ in CATEGORIES)
    assert folder.stuff == {"floor"}
    for item, truth in zip(folder.items, painted_truth(), strict=True):
        ids = item.load_panoptic()
        classes = np.zeros(SIZE, int)
        for found in item.segments:
            classes[ids == found.id] = folder.vocabulary.index(found.label) + 1
        np.testing.assert_array_equal(classes, truth)
    first = folder.items[0]
    assert [phrase.text for phrase in first.phrases] == ["the mug"]
    assert first.captions == ("a mug",)
    assert notes == ["1 of 2 phrases mean no segment and are left out"]


def test_coco_instances_keep_overlaps_exactly(labels: Labels, tmp_path: Path) -> None:
    write_form("coco", tmp_path, labels)
    document = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [
        "a.png", "sub/a.jpg", "sub/empty.png",
    ]  # fmt: skip
    masks = [decode_mask(a["segmentation"]) for a in document["annotations"]]
    for mask, truth in zip(masks, (MUG, ODD, RING, FLOOR), strict=True):
        np.testing.assert_array_equal(mask, truth)
    assert document["annotations"][0]["bbox"] == [10, 5, 30, 20]
    captions = json.loads((tmp_path / "coco" / "captions.json").read_text())
    assert [a["caption"] for a in captions["annotations"]] == ["a mug"]


def test_coco_panoptic_is_read_by_its_reader(labels: Labels, tmp_path: Path) -> None:
    write_form("coco-panoptic", tmp_path, labels)
    root = tmp_path / "coco-panoptic"
    data = CocoPanoptic.open(root / "panoptic.json", root / "panoptic", root / "images")
    assert data.stuff == {"floor"}
    for item, truth in zip(data.items, painted_truth(), strict=True):
        ids = item.load_panoptic()
        for found in item.segments:
            place = data.vocabulary.index(found.label) + 1
            np.testing.assert_array_equal(ids == found.id, truth == place)


def test_masks_have_the_class_of_each_pixel_and_pascals_colours(
    labels: Labels, tmp_path: Path
) -> None:
    write_form("masks", tmp_path, labels)
    for name, truth in zip(("a", "sub/a", "sub/empty"), painted_truth(), strict=True):
        with Image.open(tmp_path / "masks" / "masks" / f"{name}.png") as image:
            np.testing.assert_array_equal(np.array(image), truth)
            colours = np.array(image.convert("RGB"))
        assert (colours[truth == 1] == (128, 0, 0)).all()
    table = (tmp_path / "masks" / "labelmap.txt").read_text().splitlines()
    assert table[1:3] == ["background:0,0,0::", "mug:128,0,0::"]
    assert [pascal_colour(n) for n in (2, 15, 255)] == [
        (0, 128, 0), (192, 128, 128), (224, 224, 192),
    ]  # fmt: skip


def test_yolo_has_a_line_a_segment_in_shares_of_the_picture(labels: Labels, tmp_path: Path) -> None:
    write_form("yolo", tmp_path, labels)
    text = (tmp_path / "yolo" / "labels" / "a.txt").read_text().splitlines()
    assert [line.split()[0] for line in text] == ["0", "1"]
    corners = np.array(text[0].split()[1:], float).reshape(-1, 2) * SIZE[::-1]
    assert corners.min(0).round(2).tolist() == [10, 5]
    assert corners.max(0).round(2).tolist() == [40, 25]
    assert (tmp_path / "yolo" / "labels" / "sub" / "empty.txt").read_text() == ""
    assert '  1: "\\"odd\\" & <name>"' in (tmp_path / "yolo" / "data.yaml").read_text()


def test_cvat_masks_are_runs_along_the_rows_of_their_boxes(labels: Labels, tmp_path: Path) -> None:
    write_form("cvat", tmp_path, labels)
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    images = root.findall("image")
    assert [image.get("name") for image in images] == ["a.png", "sub/a.jpg", "sub/empty.png"]
    assert [n.text for n in root.findall(".//label/name")] == [name for name, _ in CATEGORIES]
    found = [mask for image in images for mask in image.findall("mask")]
    for mask, truth in zip(found, (MUG, ODD, RING, FLOOR), strict=True):
        runs = [int(run) for run in mask.get("rle", "").split(", ")]
        sides = ("left", "top", "width", "height")
        left, top, width, height = (int(mask.get(side, "")) for side in sides)
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        np.testing.assert_array_equal(pixels, truth[top : top + height, left : left + width])
        assert pixels.sum() == truth.sum()


def test_label_studio_gets_predictions_in_percent(labels: Labels, tmp_path: Path) -> None:
    write_form("labelstudio", tmp_path, labels)
    tasks = json.loads((tmp_path / "labelstudio" / "tasks.json").read_text())
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=sub/a.jpg"
    found = tasks[0]["predictions"][0]["result"][0]
    points = np.array(found["value"]["points"]) * SIZE[::-1] / 100
    assert points.min(0).round(2).tolist() == [10, 5]
    assert found["value"]["polygonlabels"] == ["mug"]
    ElementTree.parse(tmp_path / "labelstudio" / "interface.xml")


def test_pictures_of_one_name_in_two_formats_stay_apart(tmp_path: Path) -> None:
    pictures = [
        Picture(name, str(save_picture(tmp_path / name, n)))
        for n, name in enumerate(("a.jpg", "a.png"))
    ]
    labels = Labels((), pictures, lambda keys: iter(()))
    assert [labels.stem(picture) for picture in pictures] == ["a", "a.png"]


def test_a_turned_picture_is_written_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path, exif=exif)
    picture = Picture("turned.jpg", str(path))
    record = Record("turned.jpg", (30, 20), (), (), None)
    write_form("yolo", tmp_path, Labels(CATEGORIES, [picture], lambda keys: iter([record])))
    with Image.open(tmp_path / "yolo" / "images" / "turned.png") as image:
        assert image.size == (20, 30)


def test_a_second_form_links_to_the_pictures_of_the_first(labels: Labels, tmp_path: Path) -> None:
    write_form("folder", tmp_path, labels)
    write_form("coco", tmp_path, labels)
    write_form("yolo", tmp_path, labels)
    ours, theirs = (tmp_path / form / "images" / "sub" / "a.jpg" for form in ("coco", "yolo"))
    assert os.path.samefile(ours, theirs)
    assert ours.read_bytes() == Path(labels.pictures[1].path).read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_a_form_that_cannot_be_written_leaves_the_former_one(
    labels: Labels, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_form(form, tmp_path, labels)
    before = {path: path.read_bytes() for path in (tmp_path / form).rglob("*") if path.is_file()}

    def full(keys: Sequence[str]) -> Iterator[Record]:
        yield next(Labels.records(labels))[1]
        raise OSError(28, "No space left on device")

    broken = Labels(CATEGORIES, labels.pictures, full)
    with pytest.raises(ArgumentError, match=r"No space left on device.*labels nothing again"):
        write_form(form, tmp_path, broken)
    assert {p: p.read_bytes() for p in (tmp_path / form).rglob("*") if p.is_file()} == before
    assert not [path for path in os.listdir(tmp_path) if path.startswith(".")]
