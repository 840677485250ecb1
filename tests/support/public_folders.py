"""Small folders in the layouts of public data sets, with pixels made here."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xdecoder_rt.masks.rle import encode_mask

HEIGHT, WIDTH = 24, 32
SIZE = (HEIGHT, WIDTH)


def picture(path: Path, level: int = 90, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)
    return path


def colours(path: Path, ids: np.ndarray) -> None:
    """Write ids as R + 256 G + 65536 B."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([ids >> shift & 0xFF for shift in (0, 8, 16)], -1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def quarters(*ids: int) -> np.ndarray:
    """A map of four equal parts: top left, top right, bottom left, bottom right."""
    return np.kron(np.array(ids).reshape(2, 2), np.ones((HEIGHT // 2, WIDTH // 2), int))


def segments(ids: np.ndarray, category_of: Mapping[int, int], crowds: Sequence[int] = ()) -> Any:
    return [
        {
            "id": id_,
            "category_id": category,
            "area": int((ids == id_).sum()),
            "iscrowd": int(id_ in crowds),
            "bbox": [0, 0, 1, 1],
        }
        for id_, category in category_of.items()
    ]


COCO_CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 3, "name": "car", "isthing": 1},
    {"id": 149, "name": "road", "isthing": 0},
    {"id": 187, "name": "sky-other-merged", "isthing": 0},
]
BIG = 70_000  # an id with all three colours
COCO_MAPS = [
    (quarters(1, BIG, 3, 0), {1: 187, BIG: 1, 3: 149}, ()),
    (quarters(5, 6, 7, 8), {5: 1, 6: 1, 7: 3, 8: 149}, (6,)),
]


def coco(root: Path) -> Path:
    """COCO 2017: the panoptic file with a crowd and void, instances that overlap."""
    names = ["000000000009", "000000000025"]
    images = [
        {"id": int(name), "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
        for name in names
    ]
    annotations, instances = [], []
    for name, (ids, category_of, crowds) in zip(names, COCO_MAPS, strict=True):
        picture(root / "val2017" / f"{name}.jpg")
        colours(root / "annotations" / "panoptic_val2017" / f"{name}.png", ids)
        segments_info = segments(ids, category_of, crowds)
        annotations.append(
            {"image_id": int(name), "file_name": f"{name}.png", "segments_info": segments_info}
        )
        for id_, category in category_of.items():
            if category < 92:
                mask = ids == id_
                instances.append(
                    {
                        "id": len(instances) + 1,
                        "image_id": int(name),
                        "category_id": category,
                        "segmentation": {**encode_mask(mask)},
                        "area": float(mask.sum()),
                        "bbox": [0, 0, 1, 1],
                        "iscrowd": int(id_ in crowds),
                    }
                )
    instances.append(
        {
            "id": len(instances) + 1,
            "image_id": 9,
            "category_id": 3,
            "segmentation": [[2, 2, 20, 2, 20, 20, 2, 20]],  # over what the panoptic map shows
            "area": 324.0,
            "bbox": [2, 2, 18, 18],
            "iscrowd": 0,
        }
    )
    write_json(
        root / "annotations" / "panoptic_val2017.json",
        {"images": images, "annotations": annotations, "categories": COCO_CATEGORIES},
    )
    write_json(
        root / "annotations" / "instances_val2017.json",
        {"images": images, "annotations": instances, "categories": COCO_CATEGORIES[:2]},
    )
    return root


def ade20k(root: Path) -> Path:
    """ADE20K as distributed: classes from 1, instances in red and green."""
    name = "ADE_val_00000001"
    picture(root / "images" / "validation" / f"{name}.jpg")
    # Sky 3, person 13, wall 1, unlabelled 0.
    grey(
        root / "annotations" / "validation" / f"{name}.png", quarters(3, 13, 1, 0).astype(np.uint8)
    )
    # Person is the fourth of the things. Instance 2 covers an eighth of the wall's quarter, too.
    things = quarters(0, 4 + 256, 0, 0)
    things[HEIGHT // 2 : HEIGHT // 2 + 3, : WIDTH // 4] = 4 + 512
    colours(root / "annotations_instance" / "validation" / f"{name}.png", things)
    return root


def ade20k_prepared(root: Path) -> Path:
    """Add the files that detectron2's users make of it; ids of images are texts there."""
    name = "ADE_val_00000001"
    ids = quarters(1, 2, 3, 0)
    ids[HEIGHT // 2 : HEIGHT // 2 + 3, : WIDTH // 4] = 4
    info = segments(ids, {1: 2, 2: 12, 3: 0, 4: 12})
    info[2]["area"] = HEIGHT * WIDTH // 4  # of the wall before it was covered
    categories = [
        {"id": 0, "name": "wall", "isthing": 0},
        {"id": 2, "name": "sky", "isthing": 0},
        {"id": 12, "name": "person", "isthing": 1},
        {"id": 8, "name": "window ", "isthing": 1},
        {"id": 90, "name": "plane", "isthing": 1},
    ]
    images = [{"id": name, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}]
    colours(root / "ade20k_panoptic_val" / f"{name}.png", ids)
    annotation = {"image_id": name, "file_name": f"{name}.png", "segments_info": info}
    write_json(
        root / "ade20k_panoptic_val.json",
        {"images": images, "annotations": [annotation], "categories": categories},
    )
    things = [
        {
            "id": number,
            "image_id": name,
            "category_id": 12,
            "segmentation": {**encode_mask(ids == id_)},
            "area": int((ids == id_).sum()),
            "iscrowd": 0,
            "bbox": [0, 0, 1, 1],
        }
        for number, id_ in enumerate((2, 4), start=1)
    ]
    write_json(
        root / "ade20k_instance_val.json",
        {"images": images, "annotations": things, "categories": categories[2:]},
    )
    return root


def ade20k_full(root: Path) -> Path:
    """ADE20K's 847 classes as distributed: R / 10 * 256 + G is the part's index."""
    folder = root / "images" / "ADE" / "validation" / "street"
    picture(folder / "ADE_val_00000001.jpg")
    parts = quarters(2978, 2420, 5, 0)  # wall, sky, a part of no class, nothing
    colours(folder / "ADE_val_00000001_seg.png", parts // 256 * 10 + (parts % 256 << 8))
    return root


def ade20k_full_prepared(root: Path) -> Path:
    """The same prepared for detectron2: 16-bit TIFF of indices."""
    picture(root / "images_detectron2" / "validation" / "ADE_val_00000001.jpg")
    values = quarters(0, 2, 65535, 65535).astype(np.uint16)
    grey(root / "annotations_detectron2" / "validation" / "ADE_val_00000001.tif", values)
    return root


def cityscapes(root: Path) -> Path:
    """Cityscapes: a person, a group of cars, the ego vehicle, road."""
    name = "frankfurt_000000_000294"
    picture(root / "leftImg8bit" / "val" / "frankfurt" / f"{name}_leftImg8bit.png")
    ids = quarters(24001, 26, 1, 7).astype(np.uint16)
    grey(root / "gtFine" / "val" / "frankfurt" / f"{name}_gtFine_instanceIds.png", ids)
    return root


def bdd(root: Path) -> Path:
    picture(root / "images" / "10k" / "val" / "a.jpg")
    masks = root / "labels" / "sem_seg" / "masks" / "val"
    grey(masks / "a.png", quarters(0, 18, 255, 2).astype(np.uint8))
    return root


def bdd_panoptic(root: Path) -> Path:
    picture(root / "images" / "10k" / "val" / "a.jpg")
    ids = quarters(1, 2, 3, 0)
    panoptic = root / "labels" / "pan_seg"
    colours(panoptic / "coco_pano" / "val" / "a.png", ids)
    categories = [
        {"id": 7, "name": "road", "isthing": 0},
        {"id": 30, "name": "sky", "isthing": 0},
        {"id": 35, "name": "car", "isthing": 1},
    ]
    info = segments(ids, {1: 7, 2: 30, 3: 35})
    annotation = {"image_id": "a", "file_name": "a.png", "segments_info": info}
    write_json(
        panoptic / "meta" / "coco_val.json",
        {"images": [], "annotations": [annotation], "categories": categories},
    )
    return root


def sun(root: Path) -> Path:
    picture(root / "image" / "test" / "img-000001.jpg")
    grey(root / "label37" / "test" / "img-000001.png", quarters(1, 37, 0, 5).astype(np.uint8))
    return root


def scannet(root: Path) -> Path:
    picture(root / "scene0011_00" / "color" / "000000.jpg")
    grey(root / "scene0011_00" / "label" / "000000.png", quarters(1, 39, 0, 40).astype(np.uint8))
    (root / "scannetv2_val.txt").write_text("scene0011_00\n")
    return root


def scannet_panoptic(root: Path) -> Path:
    picture(root / "images" / "scene0011_00" / "color" / "000000.jpg")
    ids = quarters(1, 2, 3, 0)
    colours(root / "scannet_panoptic" / "scene0011_00__000000.png", ids)
    info = segments(ids, {1: 1, 2: 39, 3: 9})
    names = [(1, "wall"), (39, "otherfurniture"), (9, "window ")]
    write_json(
        root / "scannet_panoptic.json",
        {
            "images": [],
            "annotations": [
                {"image_id": "x", "file_name": "scene0011_00__000000.png", "segments_info": info}
            ],
            "categories": [{"id": id_, "name": name, "isthing": 1} for id_, name in names],
        },
    )
    return root


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def ref(ann_id: int, split: str, *sentences: str) -> dict[str, Any]:
    return {
        "ref_id": ann_id,
        "ann_id": ann_id,
        "image_id": 30,
        "split": split,
        "sentences": [{"sent": text.lower(), "raw": text, "sent_id": 1} for text in sentences],
    }


def refer_annotation(ann_id: int, *polygons: list[float]) -> dict[str, Any]:
    return {
        "id": ann_id,
        "image_id": 30,
        "category_id": 1,
        "segmentation": list(polygons),
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
        "iscrowd": 0,
    }


REFER_IMAGE = {
    "id": 30,
    "file_name": "COCO_train2014_000000000030.jpg",
    "height": HEIGHT,
    "width": WIDTH,
}
REFER_ANNOTATIONS = [
    refer_annotation(301, box(0, 0, 10, 10), box(20, 0, 24, 4)),
    refer_annotation(302, box(5, 5, 8, 8)),  # over 301, which keeps these pixels
    refer_annotation(303, box(12, 12, 30, 20)),
]


def refer(root: Path, name: str = "refcocog", by: str = "umd") -> Path:
    """`refer`'s data folder: two refs of one annotation, several sentences each."""
    picture(root / "images" / "mscoco" / "images" / "train2014" / str(REFER_IMAGE["file_name"]))
    refs = [
        ref(301, "val", "The LEFT one", "another"),
        ref(302, "val", "a small box"),
        ref(301, "val", "The second ref", "never asked"),
        ref(303, "testA", "elsewhere"),
    ]
    folder = root / name
    folder.mkdir(parents=True)
    (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, 2))
    write_json(
        folder / "instances.json",
        {
            "images": [REFER_IMAGE],
            "annotations": REFER_ANNOTATIONS,
            "categories": [{"id": 1, "name": "thing"}],
        },
    )
    return root


def refer_json(root: Path) -> Path:
    """The file that X-Decoder's authors made of the validation split."""
    picture(root / "train2017" / "000000000030.jpg")
    annotations = [
        {**annotation, "ann_id": annotation["id"], "sentences": [{"raw": text, "sent": text}]}
        for annotation, text in zip(REFER_ANNOTATIONS, ("One", "two", "three"), strict=True)
    ]
    image = {**REFER_IMAGE, "file_name": "000000000030.jpg"}
    document = {"images": [image], "annotations": annotations}
    write_json(root / "annotations" / "refcocog_umd_val.json", document)
    return root


def karpathy(root: Path) -> Path:
    """Karpathy's splits of COCO 2014."""
    images = []
    for number, (split, folder) in enumerate(
        [("test", "val2014"), ("train", "train2014"), ("test", "val2014")], start=1
    ):
        name = f"COCO_{folder}_{number:012d}.jpg"
        picture(root / folder / name, 40 * number)
        images.append(
            {
                "filepath": folder,
                "filename": name,
                "cocoid": number,
                "split": split,
                "sentences": [
                    {"raw": f"a cat on chair number {number} ."},
                    {"raw": f"a chair,  number {number}, with a cat"},
                ],
            }
        )
    write_json(root / "dataset_coco.json", {"images": images})
    return root


FOLDERS = {
    "coco": coco,
    "ade20k": ade20k,
    "ade20k-847": ade20k_full,
    "cityscapes": cityscapes,
    "bdd": bdd,
    "bdd-panoptic": bdd_panoptic,
    "sun": sun,
    "scannet": scannet,
    "scannet-41": scannet,
    "scannet-panoptic": scannet_panoptic,
    "refcoco": lambda root: refer(root, "refcoco", "unc"),
    "refcoco+": lambda root: refer(root, "refcoco+", "unc"),
    "refcocog": refer,
    "caption": karpathy,
    "retrieval": karpathy,
}
"""What writes a folder for each protocol."""
