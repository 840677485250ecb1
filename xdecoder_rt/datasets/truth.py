"""What published evaluations compare with: true segments, classes, instances and expressions.

An item here keeps apart what :mod:`xdecoder_rt.datasets.items` paints into one map: instances of
COCO overlap, its panoptic map and its instances are two files, and each expression of RefCOCO has
the mask of its own annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.class_lists import ClassList
from xdecoder_rt.datasets.image_files import read_rgb

IGNORED = -1
"""The class of a pixel that is not scored."""


@dataclass(frozen=True, eq=False)
class PanopticTruth:
    """The segments of an image.

    Attributes:
        ids: H x W segment ids, 0 = void.
        classes: The class index of each segment, by id; one may have no pixel, which is missed.
        areas: The pixels that the file gives each segment, by id, where the evaluator counts those
            instead of the pixels of the map; empty otherwise.
        crowds: The ids of crowds.
    """

    ids: NDArray[np.integer[Any]]
    classes: Mapping[int, int]
    areas: Mapping[int, int]
    crowds: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class TrueInstance:
    """One thing of an image, or a crowd of them.

    Attributes:
        class_index: Its class.
        runs: Its mask in COCO's compressed run lengths: ``size`` and ``counts``.
        area: Its area as its file has it, in pixels.
        iscrowd: Whether it is a crowd, which detections may match without being counted.
    """

    class_index: int
    runs: Mapping[str, Any]
    area: float
    iscrowd: bool = False


@dataclass(frozen=True)
class TruthItem:
    """One image; what is None is not known of it.

    Attributes:
        image: The image file.
        panoptic: Loads its segments.
        semantic: Loads H x W int32 class indices, `IGNORED` where nothing is scored.
        instances: Loads its things.
        expressions: Texts that refer to its parts; may be empty.
        expression_masks: Loads what each of them means, H x W bool.
        captions: Descriptions by people; may be empty.
    """

    image: Path
    panoptic: Callable[[], PanopticTruth] | None = None
    semantic: Callable[[], NDArray[np.int32]] | None = None
    instances: Callable[[], Sequence[TrueInstance]] | None = None
    expressions: tuple[str, ...] = ()
    expression_masks: Callable[[], Sequence[NDArray[np.bool_]]] | None = None
    captions: tuple[str, ...] = ()

    def load_image(self) -> NDArray[np.uint8]:
        """Decode the image to H x W x 3 uint8 RGB, upright.

        Raises:
            DatasetError: if the file is missing or broken.
        """
        return read_rgb(self.image)


@dataclass(frozen=True)
class TruthSet:
    """Images and what is true of them.

    Attributes:
        items: The images.
        classes: Their classes; None where there are only texts.
        source: Which files were read, in words.
        notes: What is missing beside them, in sentences.
    """

    items: Sequence[TruthItem]
    classes: ClassList | None
    source: str
    notes: tuple[str, ...] = ()


def class_map(panoptic: PanopticTruth) -> NDArray[np.int32]:
    """Return the class of every pixel of segments: H x W int32, `IGNORED` on void."""
    ids = sorted(panoptic.classes)
    class_of = np.array([IGNORED, *(panoptic.classes[i] for i in ids)], np.int32)
    return class_of[np.searchsorted(np.array([0, *ids]), panoptic.ids)]
