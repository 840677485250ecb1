"""Sound files of every format, made by code: what mutation begins from."""

from __future__ import annotations

import io
import json
import pickle
import struct
from functools import cache
from pathlib import Path
from typing import Any

import mutators
import numpy as np
from PIL import Image

SAMPLE_MANIFEST = Path(__file__).parents[1] / "data" / "manifest.json"
SIDES = (6, 10)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@cache
def manifests() -> list[bytes]:
    sound = json.loads(SAMPLE_MANIFEST.read_bytes())
    engine = {**sound, "backend": "tensorrt", "backend_version": "10.3", "precision": "fp16"}
    return [as_json(sound), as_json({**sound, "vocabularies": []}), as_json(engine)]


@cache
def plans() -> list[bytes]:
    """Plans whose members hold a few bytes each; of graphs, only their names are right."""
    files = []
    for text in manifests():
        manifest = json.loads(text)
        members = {name: name.encode() * 3 for name in manifest["members"]}
        # The digest of weights is in their name.
        members |= {name: bytes(3000) for name in members if name.startswith("weights/")}
        for words in manifest["vocabularies"]:
            members[words["texts"]] = as_json(["mug", ["hand", "fist"]])
            values = np.eye(words["count"] + 1, manifest["text"]["proj_dim"], dtype="<f4")
            members[words["embeddings"]] = values.tobytes()
        files.append(mutators.repack(members, manifest))
    return files


def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (*SIDES, 3), np.uint8)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@cache
def images() -> list[bytes]:
    rgb = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(60, dtype=np.uint16).reshape(SIDES) * 1000)
    palette = rgb.quantize(8)
    return [
        encoded(rgb, "PNG"),
        encoded(rgb, "PNG", exif=exif),
        encoded(rgb.convert("RGBA"), "PNG"),
        encoded(rgb.convert("L"), "PNG"),
        encoded(rgb.convert("1"), "PNG"),
        encoded(deep, "PNG"),
        encoded(palette, "PNG", transparency=0),
        encoded(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
        encoded(rgb, "JPEG", exif=exif),
        encoded(rgb, "JPEG", progressive=True),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb.convert("L"), "JPEG"),
        encoded(rgb, "BMP"),
        encoded(palette, "BMP"),
        encoded(rgb, "GIF"),
        encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        encoded(rgb, "WEBP", exif=exif),
        encoded(rgb.convert("RGBA"), "WEBP", lossless=True),
        encoded(rgb, "TIFF"),
        encoded(deep, "TIFF"),
        encoded(rgb, "TIFF", compression="tiff_lzw", exif=exif),
        encoded(rgb, "PPM"),
        encoded(rgb.convert("L"), "PPM"),
    ]


def id_map(colours: bool) -> bytes:
    ids = np.zeros(SIDES, np.uint8)
    ids[:2], ids[3:, 4:] = 1, 2
    if colours:
        return encoded(Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1)), "PNG")
    return encoded(Image.fromarray(ids), "PNG")


SEGMENTS = [
    {"id": 1, "label": "table", "isthing": False, "area": 20},
    {"id": 2, "label": "mug", "isthing": True, "area": 18},
]
LABELS = {
    "vocabulary": ["table", "mug", "hand"],
    "stuff": ["table"],
    "orientation": "upright",
    "items": [
        {
            "image": "image.png",
            "panoptic": "ids.png",
            "segments": SEGMENTS,
            "phrases": [{"text": "the mug on the right", "ids": [2]}],
            "captions": ["a mug on a table"],
            "questions": [
                {"text": "how many mugs?", "answers": ["1", "one"], "choices": ["1", "2"]}
            ],
        },
        {"image": "image.png", "panoptic": "ids.png", "segments": SEGMENTS},
    ],
}
COCO_IMAGES = [{"id": 9, "file_name": "image.png", "height": SIDES[0], "width": SIDES[1]}]
COCO_PANOPTIC = {
    "images": COCO_IMAGES,
    "categories": [
        {"id": 1, "name": "table", "isthing": 0},
        {"id": 2, "name": "mug", "isthing": 1},
    ],
    "annotations": [
        {
            "image_id": 9,
            "file_name": "ids.png",
            "segments_info": [
                {"id": 1, "category_id": 1, "area": 20, "iscrowd": 0},
                {"id": 2, "category_id": 2, "area": 18, "iscrowd": 1},
            ],
        }
    ],
}
CAPTIONS = {
    "images": COCO_IMAGES,
    "annotations": [
        {"id": n, "image_id": 9, "caption": text} for n, text in enumerate(("A mug.", " ", "Red"))
    ],
}
QUESTIONS = {
    "data_type": "mscoco",
    "data_subtype": "train2014",
    "questions": [{"question_id": 90, "image_id": 9, "question": "What colour is the cup?"}],
}
ANSWERS = {
    "annotations": [
        {
            "question_id": 90,
            "image_id": 9,
            "answers": [
                {"answer": text, "answer_id": n} for n, text in enumerate(("red", "", "Red"))
            ],
        }
    ]
}


def encoded_runs() -> str:
    from xdecoder_rt.masks.rle import encode_mask

    mask = np.zeros(SIDES, bool)
    mask[2:4, 3:7] = True
    return encode_mask(mask)["counts"]


REFS = [
    {
        "ref_id": number,
        "ann_id": number,
        "image_id": 9,
        "category_id": 1,
        "split": split,
        "file_name": f"image_{number}.png",
        "sentences": [{"sent_id": 1, "sent": text}],
    }
    for number, split, text in ((1, "train", "the mug"), (2, "train", " a  hand"), (3, "val", "x"))
]
INSTANCES = {
    "categories": [{"id": 1, "name": "mug"}, {"id": 3, "name": "hand"}],
    "images": COCO_IMAGES,
    "annotations": [
        {"id": n, "image_id": 9, "category_id": 1, "segmentation": shape, "iscrowd": crowd}
        for n, crowd, shape in (
            (1, 0, [[1, 1, 3, 1, 3, 3, 1, 3], [4.5, 1, 6, 1, 6, 4]]),
            (2, 0, {"size": list(SIDES), "counts": [6, 12, 42]}),
            (3, 1, {"size": list(SIDES), "counts": encoded_runs()}),
        )
    ],
}


def pickles() -> list[bytes]:
    values: list[object] = [REFS, {"a": [1, 2.5, None, True], "b": ("x", "y", 1 << 40)}]
    return [pickle.dumps(value, protocol) for value in values for protocol in range(6)]


def words() -> list[bytes]:
    lines = (
        "mug | cup\nred table [stuff]\nhand [threshold 0.4, id 7]\n# note\nfloor [negative]\n",
        "robot arm\nrest [other]\nfür Brötchen\n手\n",
        "mug,1\nhand,2\n",
        "- mug\n- hand\nwords:\n  - cup\n",
    )
    documents: list[object] = [
        ["mug", "hand"],
        {
            "format": "xdecoder_rt words",
            "version": 1,
            "words": [
                {"name": "mug", "synonyms": ["cup"], "id": 3, "threshold": 0.5},
                {"name": "table", "stuff": True},
                {"name": "floor", "negative": True},
            ],
            "other": {"name": "rest"},
            "next_id": 9,
        },
    ]
    return [text.encode() for text in lines] + [as_json(value) for value in documents]


def safetensors(header: object, values: bytes) -> bytes:
    text = as_json(header)
    return struct.pack("<Q", len(text)) + text + values
