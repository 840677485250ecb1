"""Data as labelling tools write them, read for training and evaluation alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.items import NOTHING, PanopticDataset, PanopticItem
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.formats.table import write_form
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.record import FoundSegment, Record
from xdecoder_rt.masks.rle import encode_mask
from xdecoder_rt.results import box_of_mask
from xdecoder_rt.training.sources import open_dataset

pytest.importorskip("pycocotools", reason="needs pycocotools")

HEIGHT, WIDTH = 40, 60


def save_image(path: Path, orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", size, (90, 120, 40)).save(path, exif=exif)


def region(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def corners(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def found(item: PanopticItem) -> list[tuple[str, np.ndarray]]:
    """Return the label and mask of each segment."""
    ids = item.load_panoptic()
    assert {segment.id for segment in item.segments} == set(np.unique(ids[ids > 0]).tolist())
    return [(segment.label, ids == segment.id) for segment in item.segments]


def check(item: PanopticItem, *truth: tuple[str, np.ndarray]) -> None:
    segments = found(item)
    assert [label for label, _ in segments] == [label for label, _ in truth]
    for (_, mask), (_, true_mask) in zip(segments, truth, strict=True):
        np.testing.assert_array_equal(mask, true_mask)


MUG, BIN = region(5, 5, 20, 15), region(30, 10, 50, 35)


def coco(folder: Path, **changes: Any) -> dict[str, Any]:
    save_image(folder / "a.jpg")
    save_image(folder / "b.jpg")
    return {
        "images": [
            {"id": n, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
            for n, name in enumerate("ab")
        ],
        "categories": [
            {"id": 0, "name": "kitchen", "supercategory": "none"},
            {"id": 1, "name": "bin", "supercategory": "kitchen"},
            {"id": 2, "name": "mug", "supercategory": "kitchen"},
        ],
        "annotations": [
            annotation(1, 0, 2, [corners(5, 5, 20, 15)]),
            annotation(2, 0, 1, encode_mask(BIN)),
        ],
        **changes,
    }


def annotation(id_: int, image: int, category: int, shape: object) -> dict[str, Any]:
    return {
        "id": id_, "image_id": image, "category_id": category, "segmentation": shape,
        "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0,
    }  # fmt: skip


class TestCoco:
    def test_roboflows_folder_is_read_without_the_name_of_its_project(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        document = coco(tmp_path / "train")
        (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(document))
        for path in (tmp_path / "train", tmp_path / "train" / "_annotations.coco.json"):
            data = open_dataset(path)
            assert data.vocabulary == ("bin", "mug") and not data.stuff
            check(data.items[0], ("mug", MUG), ("bin", BIN))
            check(data.items[1])

    def test_cvats_images_are_found_by_the_split(self, tmp_path: Path) -> None:
        document = coco(tmp_path / "images" / "default")
        (tmp_path / "annotations").mkdir()
        path = tmp_path / "annotations" / "instances_default.json"
        path.write_text(json.dumps(document))
        check(open_dataset(path).items[0], ("mug", MUG), ("bin", BIN))

    def test_unlabelled_pixels_show_nothing_where_that_is_declared(self, tmp_path: Path) -> None:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(coco(tmp_path)))
        ids = open_dataset(Path(f"{path}#nothing")).items[1].load_panoptic()
        assert (ids == NOTHING).all()

    def test_boxes_alone_are_refused(self, tmp_path: Path) -> None:
        document = coco(tmp_path, annotations=[annotation(1, 0, 1, [])])
        (tmp_path / "instances.json").write_text(json.dumps(document))
        with pytest.raises(DatasetError, match="boxes without outlines"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("../a.jpg", "outside"), ("/etc/hosts", "outside"), ("c.jpg", "there is no image")],
    )  # fmt: skip
    def test_an_image_that_is_not_there_is_told(
        self, tmp_path: Path, name: str, message: str
    ) -> None:
        document = coco(tmp_path)
        document["images"][0]["file_name"] = name
        (tmp_path / "instances.json").write_text(json.dumps(document))
        with pytest.raises(DatasetError, match=message):
            open_dataset(tmp_path)

    def test_an_image_of_another_size_is_told_when_it_is_loaded(self, tmp_path: Path) -> None:
        document = coco(tmp_path)
        save_image(tmp_path / "a.jpg", size=(WIDTH, WIDTH))
        (tmp_path / "instances.json").write_text(json.dumps(document))
        with pytest.raises(DatasetError, match="The annotated size"):
            open_dataset(tmp_path).items[0].load_panoptic()


def yolo(folder: Path, line: str, yaml: str = "path: .\ntrain: images\nval: images\n") -> Path:
    save_image(folder / "images" / "sub" / "a.jpg")
    save_image(folder / "images" / "b.jpg")
    (folder / "labels" / "sub").mkdir(parents=True)
    (folder / "labels" / "sub" / "a.txt").write_text(line)
    (folder / "data.yaml").write_text(f"{yaml}nc: 2\nnames: [bin, mug]\n")
    return folder / "data.yaml"


def shares(*box: float) -> str:
    sides = (WIDTH, HEIGHT) * 4
    return " ".join(f"{x / side:.6f}" for x, side in zip(corners(*box), sides, strict=True))


LINE = f"1 {shares(5, 5, 20, 15)}\n0 {shares(30, 10, 50, 35)}\n"


class TestYolo:
    @pytest.mark.parametrize(
        "yaml",
        [
            "path: .\ntrain: images\nval: images\n",
            "train: ../images\nval: ../images\n",
            "path: /gone/home\ntrain: [images]\nval: images\n",
        ],
    )
    def test_a_split_is_read_wherever_its_file_says_it_is(self, tmp_path: Path, yaml: str) -> None:
        path = yolo(tmp_path, LINE, yaml)
        for name in (path, tmp_path, Path(f"{path}#val")):
            data = open_dataset(name)
            assert data.vocabulary == ("bin", "mug")
            by_name = {item.image.name: item for item in data.items}
            check(by_name["a.jpg"], ("mug", MUG), ("bin", BIN))
            check(by_name["b.jpg"])

    def test_a_list_of_paths_is_a_split(self, tmp_path: Path) -> None:
        path = yolo(tmp_path, LINE, "train: train.txt\n")
        (tmp_path / "train.txt").write_text("./images/sub/a.jpg\n")
        (item,) = open_dataset(path).items
        check(item, ("mug", MUG), ("bin", BIN))

    def test_polygons_lie_on_the_upright_image_unless_declared(self, tmp_path: Path) -> None:
        path = yolo(tmp_path, LINE)
        save_image(tmp_path / "images" / "sub" / "a.jpg", orientation=6)
        item = next(
            i for i in open_dataset(Path(f"{path}#stored")).items if i.image.name == "a.jpg"
        )
        (_, mug), _ = found(item)
        np.testing.assert_array_equal(mug, np.rot90(MUG, -1))
        item = next(i for i in open_dataset(path).items if i.image.name == "a.jpg")
        assert item.load_panoptic().shape == (WIDTH, HEIGHT)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("1 0.5 0.5 0.1 0.1", "it is a box and no outline"),
            ("7 0 0 0 1 1 1", "the class is 7"),
            ("mug 0 0 0 1 1 1", "no class and numbers"),
            ("1 0 0 0 1 1", "5 numbers"),
            ("1 0 0 0 90 1 1", "far outside"),
            ("1 0 0 0 nan 1 1", "far outside"),
        ],
    )
    def test_a_wrong_line_is_told_by_its_number(
        self, tmp_path: Path, line: str, message: str
    ) -> None:
        path = yolo(tmp_path, f"{LINE}{line}\n")
        with pytest.raises(DatasetError, match=rf"a\.txt, line 3: .*{message}"):
            open_dataset(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("names: [a]\n", "no split 'train'"),
            ("names: {}\ntrain: images\n", "names no class"),
            ("names: [a]\ntrain: gone\n", "does not exist"),
            ("a: [", "is no YAML"),
            ("hello", "JSON object"),
            ("names: !!python/object:os.system [a]\n", "is no YAML"),
        ],
    )
    def test_a_wrong_file_is_told(self, tmp_path: Path, text: str, message: str) -> None:
        path = yolo(tmp_path, LINE)
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            open_dataset(path)

    def test_a_split_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no split 'test'"):
            open_dataset(Path(f"{yolo(tmp_path, LINE)}#test"))


def labelme(folder: Path, *shapes: dict[str, Any], image: str = "a.jpg") -> Path:
    save_image(folder / "a.jpg")
    document = {
        "version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": image,
        "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH,
    }  # fmt: skip
    (folder / "a.json").write_text(json.dumps(document, indent=2))
    return folder


def shape(
    label: str, points: Any, kind: str = "polygon", group: int | None = None
) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


class TestLabelme:
    def test_polygons_rectangles_groups_and_circles_are_read(self, tmp_path: Path) -> None:
        square = [[5, 5], [20, 5], [20, 15], [5, 15]]
        folder = labelme(
            tmp_path,
            shape("mug", square, group=1),
            shape("mug", [[30, 5], [35, 10]], "rectangle", group=1),
            shape("bin", [[30, 15], [50, 35]], "rectangle"),
            shape("ball", [[10, 28], [15, 28]], "circle"),
            shape("edge", [[0, 0], [9, 9]], "line"),
            shape("__ignore__", square),
        )
        data = open_dataset(folder)
        assert data.vocabulary == ("ball", "bin", "mug")
        segments = dict(found(data.items[0]))
        np.testing.assert_array_equal(segments["mug"], MUG | region(30, 5, 35, 10))
        np.testing.assert_array_equal(segments["bin"], region(30, 15, 50, 35))
        assert abs(segments["ball"].sum() - 25 * np.pi) < 8
        check(open_dataset(folder / "a.json").items[0], *found(data.items[0]))

    def test_an_image_that_lay_elsewhere_is_found_beside_its_file(self, tmp_path: Path) -> None:
        folder = labelme(
            tmp_path, shape("bin", [[30, 10], [50, 35]], "rectangle"), image="..\\photos\\a.jpg"
        )
        check(open_dataset(folder).items[0], ("bin", BIN))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (shape("a", [[1, 2], [3, 4, 5]]), "pairs of x and y"),
            (shape("a", [[1, 2], [3, 4]], "mask"), "a polygon, a rectangle or a circle"),
            (shape("a", [[1, 2]], "circle"), "of 1 points"),
            (shape(" ", []), "non-empty"),
            (shape("edge", [[0, 0]], "point"), "has an outline"),
        ],
    )
    def test_what_is_wrong_is_told(
        self, tmp_path: Path, wrong: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(DatasetError, match=message):
            open_dataset(labelme(tmp_path, wrong))


TABLE = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbin:128,0,0::\nmug:0,128,0::\n"


def coloured(folder: Path, mask: np.ndarray, objects: np.ndarray | None = None) -> Path:
    save_image(folder / "JPEGImages" / "a.jpg")
    for name, pixels in (("SegmentationClass", mask), ("SegmentationObject", objects)):
        if pixels is not None:
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / name / "a.png")
    (folder / "labelmap.txt").write_text(TABLE)
    return folder


def in_colours() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[MUG], mask[BIN], mask[:2] = (0, 128, 0), (128, 0, 0), (224, 224, 192)
    return mask


class TestColouredMasks:
    def test_classes_are_stuff_the_background_is_nothing_and_void_is_unknown(
        self, tmp_path: Path
    ) -> None:
        data = open_dataset(coloured(tmp_path, in_colours()))
        assert data.vocabulary == ("bin", "mug") and data.stuff == {"bin", "mug"}
        check(data.items[0], ("bin", BIN), ("mug", MUG))
        ids = data.items[0].load_panoptic()
        assert (ids[:2] == 0).all() and ids[3, 0] == NOTHING

    def test_masks_of_objects_tell_instances_apart(self, tmp_path: Path) -> None:
        objects = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        objects[MUG], objects[BIN] = (9, 0, 0), (0, 9, 0)
        objects[BIN & region(0, 0, 40, HEIGHT)] = (0, 0, 9)
        data = open_dataset(coloured(tmp_path, in_colours(), objects))
        assert not data.stuff
        left, right = BIN & region(0, 0, 40, HEIGHT), BIN & ~region(0, 0, 40, HEIGHT)
        segments = found(data.items[0])
        assert [label for label, _ in segments] == ["bin", "bin", "mug"]
        assert {mask.tobytes() for _, mask in segments[:2]} == {left.tobytes(), right.tobytes()}

    def test_grey_masks_have_the_number_of_the_line(self, tmp_path: Path) -> None:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[MUG], mask[BIN], mask[:2] = 2, 1, 255
        check(open_dataset(coloured(tmp_path, mask)).items[0], ("bin", BIN), ("mug", MUG))

    def test_a_colour_that_the_table_lacks_is_told(self, tmp_path: Path) -> None:
        mask = in_colours()
        mask[20, 20] = (1, 2, 3)
        with pytest.raises(DatasetError, match=r"the colour \(1, 2, 3\).*without smoothing"):
            open_dataset(coloured(tmp_path, mask)).items[0].load_panoptic()

    @pytest.mark.parametrize("line", ["mug", "mug:1,2", "mug:1,2,300::", ":1,2,3::", "mug:a,b,c::"])
    def test_a_wrong_table_is_told_by_its_line(self, tmp_path: Path, line: str) -> None:
        folder = coloured(tmp_path, in_colours())
        (folder / "labelmap.txt").write_text(f"{TABLE}{line}\n")
        with pytest.raises(DatasetError, match="labelmap.txt, line 5 is"):
            open_dataset(folder)

    def test_a_mask_without_an_image_is_told(self, tmp_path: Path) -> None:
        folder = coloured(tmp_path, in_colours())
        (folder / "JPEGImages" / "a.jpg").unlink()
        with pytest.raises(DatasetError, match="has no image"):
            open_dataset(folder)


def round_trip(form: str, folder: Path) -> PanopticDataset:
    """Write a ring and a floor in a form, and read them."""
    save_image(folder / "shots" / "a.jpg")
    ring = region(5, 5, 35, 30) & ~region(12, 12, 28, 22)
    segments = [
        FoundSegment(
            label, score, isthing, int(mask.sum()),
            tuple(map(float, box_of_mask(mask))), encode_mask(mask),
        )
        for label, score, isthing, mask in (
            ("ring", 0.9, True, ring), ("floor", 0.5, False, region(0, 32, WIDTH, HEIGHT))
        )
    ]  # fmt: skip
    record = Record("a.jpg", (HEIGHT, WIDTH), tuple(segments), (), None)
    picture = Picture("a.jpg", str(folder / "shots" / "a.jpg"))

    def read(keys: Sequence[str]) -> Iterator[Record]:
        return iter([record])

    write_form(form, folder, Labels((("ring", True), ("floor", False)), [picture], read))
    return open_dataset(folder / form)


@pytest.mark.parametrize("form", ["folder", "coco", "yolo", "masks"])
def test_what_the_label_command_writes_is_read_again(form: str, tmp_path: Path) -> None:
    data = round_trip(form, tmp_path)
    assert data.vocabulary == ("ring", "floor")
    ring = region(5, 5, 35, 30) & ~region(12, 12, 28, 22)
    check(data.items[0], ("ring", ring), ("floor", region(0, 32, WIDTH, HEIGHT)))


def test_evaluation_takes_them_too(tmp_path: Path, on_tiny: Callable[[Path], int]) -> None:
    assert on_tiny(yolo(tmp_path, LINE)) == 0


@pytest.fixture
def on_tiny(tiny_plan: Path, tmp_path: Path) -> Callable[[Path], int]:
    from xdecoder_rt.cli import main

    def evaluate(path: Path) -> int:
        options = ["--backend", "onnxruntime", "--threads", "1", "--no-progress"]
        return main(
            ["eval", str(tiny_plan), str(path), *options, "--json", str(tmp_path / "s.json")]
        )

    return evaluate
