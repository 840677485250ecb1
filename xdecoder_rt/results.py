"""Results of the calls of an `Engine`.

Every array is in the pixels of the image that was asked about, at its original size and upright as
`xdecoder_rt.image.load_image` gives it: ``segmentation[y, x]`` belongs to ``image[y, x]``. Boxes
are (left, top, right, bottom) in pixels, the right and bottom edges exclusive, so that a box's
width is ``right - left``. All results exist for "nothing found" too, with empty lists and arrays.
Areas and boxes are those of the masks that are given, cleaned where the plan says so
(`xdecoder_rt.masks.pieces`).

Docstrings give each field as ``name (type and shape; unit)``: docs/results.md is made of them by
``python -m xdecoder_rt.cli.result_fields docs/results.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from xdecoder_rt.drawing import picture as drawing
from xdecoder_rt.drawing.certainty import faded, is_unsure
from xdecoder_rt.drawing.outlines import RegionOutline
from xdecoder_rt.drawing.strip import KeyEntry, Note, with_strip
from xdecoder_rt.errors import ArgumentError, quoted, require, whole_number
from xdecoder_rt.image import ImageSource, load_image
from xdecoder_rt.masks.boxes import boxes_of_map
from xdecoder_rt.masks.rle import encode_mask
from xdecoder_rt.space.places import Intrinsics, IntrinsicsSource, Place, depth_in_metres, place_of

__all__ = [
    "Answer",
    "Caption",
    "Finding",
    "Output",
    "Ranking",
    "Reference",
    "Segmentation",
    "box_of_mask",
]


def box_of_mask(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the tight box of a mask.

    Args:
        mask: bool ``[H, W]``.

    Returns:
        float32 ``[4]``: left, top, right, bottom (exclusive); zeros for an empty mask.

    Example:
        >>> mask = np.zeros((4, 6), np.bool_)
        >>> mask[1:3, 2:5] = True
        >>> box_of_mask(mask).tolist()
        [2.0, 1.0, 5.0, 3.0]
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4, dtype=np.float32)
    return np.array(
        [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
        dtype=np.float32,
    )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labelled segments of one image.

    Attributes:
        segmentation (int32 [H, W]; ids): panoptic and instance: segment ids, 0 where there is none
            (where instances overlap, the one with the highest score). Semantic: label ids, -1
            where there is none.
        segments_info (list of dict): one per segment, with the keys below.
        task (str): ``"panoptic"``, ``"semantic"`` or ``"instance"``.
        masks (bool [N, H, W]): instance only; may overlap; in the order of `segments_info`.
        scores (float32 [N]; 0 to 1): instance only.
        label_ids (int32 [N]; ids): instance only.
        boxes (float32 [N, 4]; pixels): instance only: left, top, right, bottom.

    Keys of segments_info:
        id (int; id): its value in `segmentation`; of semantic output its label id.
        label_id (int; id): index into the vocabulary, unless that has ids of its own.
        label (str): its word, as typed.
        score (float; 0 to 1): how sure the model is.
        area (int; pixels): of its mask.
        isthing (bool): whether its word has instances.

    Example:
        >>> [(info["label"], info["area"]) for info in result.segments_info]
        [('mug', 15000)]
        >>> int((result.segmentation == result.segments_info[0]["id"]).sum())
        15000
    """

    segmentation: npt.NDArray[np.int32]
    segments_info: list[dict[str, Any]]
    task: str = "panoptic"
    masks: npt.NDArray[np.bool_] | None = None
    scores: npt.NDArray[np.float32] | None = None
    label_ids: npt.NDArray[np.int32] | None = None
    boxes: npt.NDArray[np.float32] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image that this belongs to."""
        return self.segmentation.shape[0], self.segmentation.shape[1]

    def __len__(self) -> int:
        return len(self.segments_info)

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Return the mask of the segment ``segments_info[index]``, bool ``[H, W]``.

        Example:
            >>> int(result.mask(0).sum())
            15000
        """
        mask: npt.NDArray[np.bool_]
        if self.masks is not None:
            mask = self.masks[index]
        else:
            mask = self.segmentation == self.segments_info[index]["id"]
        return mask

    def draw(
        self, image: ImageSource, *, font: str | None = None, channels: str = "rgb"
    ) -> Image.Image:
        """Draw the segments over their image.

        Args:
            image: the image that was segmented, in any form that `load_image` takes.
            font: path of a TrueType font for labels in scripts that the built-in font lacks.
            channels: the order of an array's, ``"bgr"`` for those of OpenCV.

        Returns:
            A new RGB image of the same size. What has a score under 50 % is paler, with a dashed
            outline and a greyed label.

        Raises:
            ImageError: `image` cannot be read or is of another size.

        Example:
            >>> result.draw("desk.jpg").save("found.png")
        """
        return drawing.draw_map(load_image(image, channels), *self._index_map(), font)

    def in_space(self, depth: object, intrinsics: IntrinsicsSource) -> list[Place | None]:
        """Return where the segments are, in metres, from a depth image aligned with their image.

        Args:
            depth: of the image's size: uint16 in millimetres, 0 for none, or floating in metres,
                NaN for none.
            intrinsics: fx, fy, cx and cy in pixels, or the 3 x 3 matrix K (``CameraInfo.k``).

        Returns:
            An entry a segment, in their order: median, distance, extent and an oriented box of what
            is seen of it, in the camera's optical frame (x right, y down, z forward); None where
            fewer than ten pixels have a depth.

        Raises:
            ArgumentError: `depth` or the intrinsics are not of this image, or of another type.

        Example:
            >>> depth = np.full((480, 640), 1000, np.uint16)  # everything is a metre away
            >>> (place,) = result.in_space(depth, [500, 500, 320, 240])
            >>> place.label, place.median.round(2).tolist()
            ('mug', [0.11, -0.18, 1.0])
        """
        camera = Intrinsics.of(intrinsics, self.size)
        metres = depth_in_metres(depth, self.size)
        return [
            place_of(self.mask(index), metres, camera, info)
            for index, info in enumerate(self.segments_info)
        ]

    def to_supervision(self) -> Any:
        """Return the segments as ``supervision.Detections``, with ``data["class_name"]``.

        Without segments every field is there too, of length 0.

        Raises:
            MissingExtraError: the package supervision is not installed.

        Example:
            >>> result.to_supervision().xyxy.tolist()
            [[300.0, 100.0, 450.0, 200.0]]
        """
        supervision = require("supervision", "supervision")
        masks = np.zeros((len(self), *self.size), np.bool_)
        for index in range(len(self)):
            masks[index] = self.mask(index)
        return supervision.Detections(
            xyxy=self.segment_boxes(),
            mask=masks,
            confidence=np.array([info["score"] for info in self.segments_info], np.float32),
            class_id=np.array([info["label_id"] for info in self.segments_info], int),
            data={"class_name": np.array([info["label"] for info in self.segments_info], str)},
        )

    def to_coco(
        self,
        image_id: int | str = 0,
        category_ids: Mapping[str, int] | None = None,
        *,
        first_id: int = 1,
    ) -> list[dict[str, Any]]:
        """Return the segments as COCO annotations with compressed run-length masks.

        A whole file is written by :class:`xdecoder_rt.datasets.coco_file.CocoFile`.

        Args:
            image_id: the image's id in the data set.
            category_ids: category id of each label; by default the label id.
            first_id: id of the first annotation, at least 1; the others follow it. In one data set
                every annotation needs an id of its own: of the next image it is
                ``first_id + len(annotations)``. (COCO's evaluation takes 0 for "no match".)

        Returns:
            One dict per segment: `id`, `image_id`, `category_id`, `segmentation` (``size`` and
            ``counts``), `area`, `bbox` (x, y, width, height), `score`, `iscrowd`, `isthing`.

        Raises:
            ArgumentError: a label is missing in `category_ids`, or an id is out of range.

        Example:
            >>> (annotation,) = result.to_coco(image_id=7, category_ids={"mug": 3})
            >>> annotation["category_id"], annotation["bbox"]
            (3, [300.0, 100.0, 150.0, 100.0])
        """
        first = whole_number("first_id", first_id, 1, None, "a whole number of at least 1")
        if not isinstance(image_id, str):
            image_id = whole_number("image_id", image_id, 0, None, "a text or a number from 0")
        annotations = []
        for index, info in enumerate(self.segments_info):
            if category_ids is not None and info["label"] not in category_ids:
                raise ArgumentError(
                    f"The label {quoted(info['label'])} has no category id",
                    expected="category_ids to hold every label of the vocabulary",
                )
            mask = self.mask(index)
            left, top, right, bottom = (float(edge) for edge in box_of_mask(mask))
            label = info["label"]
            annotations.append(
                {
                    "id": first + index,
                    "image_id": image_id,
                    "category_id": int(
                        info["label_id"] if category_ids is None else category_ids[label]
                    ),
                    "segmentation": encode_mask(mask),
                    "area": int(mask.sum()),
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(info["score"]),
                    "iscrowd": 0,
                    "isthing": bool(info["isthing"]),
                }
            )
        return annotations

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for ``json.dumps``, masks run-length encoded.

        Example:
            >>> (segment,) = result.to_dict()["segments"]
            >>> segment["label"], segment["box"]
            ('mug', [300.0, 100.0, 450.0, 200.0])
        """
        height, width = self.size
        boxes = self.segment_boxes().tolist()
        segments = [
            {
                "id": int(info["id"]),
                "label_id": int(info["label_id"]),
                "label": str(info["label"]),
                "score": float(info["score"]),
                "area": int(info["area"]),
                "isthing": bool(info["isthing"]),
                "box": boxes[index],
                "mask": encode_mask(self.mask(index)),
            }
            for index, info in enumerate(self.segments_info)
        ]
        return {"task": self.task, "height": height, "width": width, "segments": segments}

    def _index_map(self) -> tuple[npt.NDArray[np.int32], list[drawing.LabelledRegion]]:
        """Return the segments as `drawing.draw_map` takes them."""
        ids = [info["id"] for info in self.segments_info]
        regions = [
            drawing.LabelledRegion(
                info["label"], info["score"], info["label_id"], is_quiet=not info["isthing"]
            )
            for info in self.segments_info
        ]
        return drawing.index_map(self.segmentation, ids), regions

    def segment_boxes(self) -> npt.NDArray[np.float32]:
        """Return the tight box of each segment: float32 ``[N, 4]``; zeros for an empty mask.

        Example:
            >>> result.segment_boxes().tolist()
            [[300.0, 100.0, 450.0, 200.0]]
        """
        if self.boxes is not None:
            return self.boxes
        if self.masks is not None:
            boxes = [box_of_mask(mask) for mask in self.masks]
            return np.array(boxes, np.float32).reshape(-1, 4)
        ids = [info["id"] for info in self.segments_info]
        return boxes_of_map(self.segmentation, ids)


@dataclass(frozen=True, eq=False)
class Reference:
    """The part of an image that a phrase refers to.

    Attributes:
        phrase (str): as it was asked.
        mask (bool [H, W]): empty if the phrase was not found.
        score (float; 0 to 1): how well it matches, found or not.
        box (float32 [4]; pixels): left, top, right, bottom around the mask; zeros if that is empty.

    Example:
        >>> reference.phrase, reference.found, reference.box.tolist()
        ('the red mug', True, [300.0, 100.0, 450.0, 200.0])
    """

    phrase: str
    mask: npt.NDArray[np.bool_]
    score: float
    box: npt.NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image that this belongs to."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def found(self) -> bool:
        """Whether the image shows what the phrase means, so that the mask has pixels."""
        return bool(self.mask.any())

    def draw(
        self, image: ImageSource, *, font: str | None = None, channels: str = "rgb"
    ) -> Image.Image:
        """Draw the mask over its image, labelled with the phrase; see `Segmentation.draw`.

        Example:
            >>> reference.draw("desk.jpg").size
            (640, 480)
        """
        region = drawing.LabelledRegion(self.phrase, self.score, 0)
        pixels = load_image(image, channels)
        return drawing.draw_map(pixels, self.mask.astype(np.int32), [region], font)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for ``json.dumps``, the mask run-length encoded.

        Example:
            >>> sorted(reference.to_dict())
            ['box', 'found', 'mask', 'phrase', 'score']
        """
        return {
            "phrase": self.phrase,
            "score": float(self.score),
            "found": self.found,
            "box": [float(edge) for edge in self.box],
            "mask": encode_mask(self.mask),
        }


@dataclass(frozen=True)
class Caption:
    """A sentence about an image.

    Attributes:
        text (str): the sentence.
        score (float; natural logarithm): mean log-probability per token, at most 0.

    Example:
        >>> caption = Caption("a red mug on a table", -0.5)
        >>> caption.text
        'a red mug on a table'
    """

    text: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``.

        Example:
            >>> Caption("a red mug", -0.5).to_dict()
            {'text': 'a red mug', 'score': -0.5}
        """
        return {"text": self.text, "score": float(self.score)}


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        text (str): the best answer.
        score (float; 0 to 1): its probability among the choices.
        scores (mapping of str to float; 0 to 1): the probability of every choice.

    Example:
        >>> answer = Answer("yes", 0.75, {"yes": 0.75, "no": 0.25})
        >>> answer.text, answer.scores["no"]
        ('yes', 0.25)
    """

    text: str
    score: float
    scores: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``.

        Example:
            >>> Answer("yes", 1.0, {"yes": 1.0}).to_dict()
            {'text': 'yes', 'score': 1.0, 'scores': {'yes': 1.0}}
        """
        scores = {choice: float(score) for choice, score in self.scores.items()}
        return {"text": self.text, "score": float(self.score), "scores": scores}


@dataclass(frozen=True, eq=False)
class Ranking:
    """Likeness of images and texts.

    Attributes:
        texts (tuple of str): T texts, as they were asked.
        scores (float32 [N, T]; at most 1): likeness of N images and T texts.

    Example:
        >>> ranking = Ranking(("a desk", "a shelf"), np.array([[0.3, 0.1], [0.2, 0.4]], np.float32))
        >>> ranking.scores.shape
        (2, 2)
    """

    texts: tuple[str, ...]
    scores: npt.NDArray[np.float32]

    def images(self, text: int) -> list[int]:
        """Return indices of the images, those most like a text first.

        Example:
            >>> ranking = Ranking(("a shelf",), np.array([[0.1], [0.4]], np.float32))
            >>> ranking.images(0)
            [1, 0]
        """
        order: list[int] = np.argsort(-self.scores[:, text], kind="stable").tolist()
        return order

    def best_texts(self, image: int) -> list[int]:
        """Return indices of the texts, those most like an image first.

        Example:
            >>> ranking = Ranking(("a desk", "a shelf"), np.array([[0.1, 0.4]], np.float32))
            >>> [ranking.texts[index] for index in ranking.best_texts(0)]
            ['a shelf', 'a desk']
        """
        order: list[int] = np.argsort(-self.scores[image], kind="stable").tolist()
        return order

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``.

        Example:
            >>> Ranking(("a desk",), np.array([[0.5]], np.float32)).to_dict()
            {'texts': ['a desk'], 'scores': [[0.5]]}
        """
        return {"texts": list(self.texts), "scores": self.scores.tolist()}


@dataclass(frozen=True, eq=False)
class Finding:
    """The image that a phrase is about, and the place in it.

    Attributes:
        image (int; index): of the image among those that were given.
        score (float; at most 1): its likeness to the phrase.
        reference (Reference): what the phrase refers to in it.

    Example:
        >>> finding = Finding(0, 0.5, reference)
        >>> finding.reference.phrase
        'the red mug'
    """

    image: int
    score: float
    reference: Reference

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``.

        Example:
            >>> Finding(0, 0.5, reference).to_dict()["image"]
            0
        """
        return {"image": self.image, "score": self.score, "reference": self.reference.to_dict()}


@dataclass(frozen=True, eq=False)
class Output:
    """The results of one fused call, each None where it was not asked for.

    Attributes:
        segment (Segmentation): segments of the vocabulary.
        refer (list of Reference): one entry per phrase, in their order.
        caption (Caption): a sentence.
        answer (Answer): the answer to the question.
        embed (float32 [proj_dim]; unit vector): see `Engine.embed_image`.

    Example:
        >>> output = Output(segment=result, refer=[reference])
        >>> output.segment.size, output.caption
        ((480, 640), None)
    """

    segment: Segmentation | None = None
    refer: Sequence[Reference] | None = None
    caption: Caption | None = None
    answer: Answer | None = None
    embed: npt.NDArray[np.float32] | None = None

    def draw(
        self,
        image: ImageSource,
        *,
        font: str | None = None,
        question: str | None = None,
        channels: str = "rgb",
    ) -> Image.Image:
        """Draw everything into one picture.

        The segments are drawn as `Segmentation.draw` does. References of phrases are outlined
        over them, with numbered badges; a strip under the image says which phrase each number
        stands for, and holds the caption and the answer.

        Args:
            image: the image that was asked about, in any form that `load_image` takes.
            font: path of a TrueType font for texts in scripts that the built-in font lacks.
            question: what was asked, to stand above the answer.
            channels: the order of an array's, ``"bgr"`` for those of OpenCV.

        Returns:
            A new RGB image: as large as `image`, with the strip below it where there are phrases,
            a caption or an answer.

        Raises:
            ImageError: `image` cannot be read or is of another size.
            ArgumentError: the font cannot be read.

        Example:
            >>> Output(segment=result, refer=[reference]).draw("desk.jpg").save("all.png")
        """
        pixels = load_image(image, channels)
        outlines = [
            RegionOutline(
                reference.mask, str(index + 1), drawing.outline_colour(index), reference.score
            )
            for index, reference in enumerate(self.refer or ())
        ]
        indices, regions = (
            self.segment._index_map()
            if self.segment is not None
            else (np.zeros(pixels.shape[:2], np.int32), [])
        )
        picture = drawing.draw_map(pixels, indices, regions, font, outlines)
        key = [
            KeyEntry(
                outline.badge,
                faded(outline.colour, reference.score),
                reference.phrase,
                _certainty(reference),
                is_quiet=is_unsure(reference.score) or not reference.found,
            )
            for outline, reference in zip(outlines, self.refer or (), strict=True)
        ]
        notes = [] if self.caption is None else [Note(self.caption.text)]
        if self.answer is not None:
            score = f"{100 * self.answer.score:.0f}%"
            is_quiet = is_unsure(self.answer.score)
            notes.append(Note(self.answer.text, question or "", score, is_quiet))
        return with_strip(picture, key, notes, font)

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for, as plain values for ``json.dumps``.

        Example:
            >>> Output(caption=Caption("a mug", -0.5)).to_dict()
            {'caption': {'text': 'a mug', 'score': -0.5}}
        """
        result: dict[str, Any] = {}
        for name in ("segment", "caption", "answer"):
            value = getattr(self, name)
            if value is not None:
                result[name] = value.to_dict()
        if self.refer is not None:
            result["refer"] = [reference.to_dict() for reference in self.refer]
        if self.embed is not None:
            result["embed"] = [float(value) for value in self.embed]
        return result


def _certainty(reference: Reference) -> str:
    return f"{100 * reference.score:.0f}%" if reference.found else "not found"
