"""What the node publishes, made from results of the engine."""

from __future__ import annotations

import array
import io
import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.results import Segmentation
from xdecoder_rt.space.places import Place, SpaceBox

LABEL_TYPES = {"mono16": np.dtype("<u2"), "32SC1": np.dtype("<i4")}


def segment_entries(
    segmentation: Segmentation, places: Sequence[Place | None] | None
) -> list[dict[str, Any]]:
    """Return the segments as plain values: id, class, score, box (xyxy), and where they are."""
    entries = []
    boxes = segmentation.segment_boxes().tolist()
    for index, info in enumerate(segmentation.segments_info):
        entry = {name: info[name] for name in ("id", "label_id", "label", "score", "isthing")}
        entry["box"] = boxes[index]
        if places is not None:
            place = places[index]
            entry["place"] = None if place is None else place.to_dict()
        entries.append(entry)
    return entries


class Messages:
    """Makes messages.

    Args:
        sensor: the module ``sensor_msgs.msg``.
        std: the module ``std_msgs.msg``.
        vision: the module ``vision_msgs.msg``, or None where it is not installed.
        label_encoding: ``"mono16"`` or ``"32SC1"``.

    Raises:
        ArgumentError: label images have no such encoding.
    """

    def __init__(
        self, sensor: ModuleType, std: ModuleType, vision: ModuleType | None, label_encoding: str
    ) -> None:
        if label_encoding not in LABEL_TYPES:
            raise ArgumentError(
                f"label_encoding is {quoted(label_encoding)}", expected=" or ".join(LABEL_TYPES)
            )
        self._sensor, self._std, self._vision = sensor, std, vision
        self._encoding = label_encoding

    def text(self, value: Any) -> Any:
        """Return a ``std_msgs/String`` of JSON."""
        return self._std.String(data=json.dumps(value, ensure_ascii=False))

    def labels(self, segmentation: Segmentation, header: Any) -> Any:
        """Return a ``sensor_msgs/Image`` of each pixel's segment id, 0 for none.

        Ids that the encoding does not hold are 0; see :meth:`holds`.
        """
        message, pixels = self._blank(segmentation.size, header)
        np.copyto(pixels, segmentation.segmentation, casting="unsafe")
        if not self.holds(segmentation):
            pixels[segmentation.segmentation > np.iinfo(pixels.dtype).max] = 0
        return message

    def classes(self, segmentation: Segmentation, header: Any) -> Any:
        """Return a ``sensor_msgs/Image`` of each pixel's class: its label's id and one more."""
        message, pixels = self._blank(segmentation.size, header)
        ids = [info["id"] for info in segmentation.segments_info]
        table = np.zeros(max(ids, default=0) + 1, pixels.dtype)
        table[ids] = [info["label_id"] + 1 for info in segmentation.segments_info]
        table.take(segmentation.segmentation, out=pixels, mode="clip")
        return message

    def holds(self, segmentation: Segmentation) -> bool:
        """Return whether label images have room for these ids."""
        greatest = max((info["id"] for info in segmentation.segments_info), default=0)
        return bool(greatest <= np.iinfo(LABEL_TYPES[self._encoding]).max)

    def _blank(
        self, size: tuple[int, int], header: Any
    ) -> tuple[Any, npt.NDArray[np.unsignedinteger[Any] | np.signedinteger[Any]]]:
        """Return an image of numbers, and its pixels to be written, ``[H, W]``."""
        kind = LABEL_TYPES[self._encoding]
        data = array.array("B", [0]) * (size[0] * size[1] * kind.itemsize)
        message = self._image(data, self._encoding, size, header)
        return message, np.frombuffer(message.data, kind).reshape(size)

    def picture(self, picture: Any, header: Any) -> Any:
        """Return a ``sensor_msgs/Image`` of a Pillow image."""
        data = array.array("B", picture.convert("RGB").tobytes())
        return self._image(data, "rgb8", (picture.height, picture.width), header)

    def jpeg(self, picture: Any, header: Any) -> Any:
        """Return a ``sensor_msgs/CompressedImage`` of a Pillow image."""
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80)
        message = self._sensor.CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
        message.data = array.array("B", file.getvalue())
        return message

    def _image(
        self, data: array.array[int], encoding: str, size: tuple[int, int], header: Any
    ) -> Any:
        message = self._sensor.Image(header=header, encoding=encoding, is_bigendian=0)
        message.height, message.width = size
        message.step = len(data) // message.height
        # rclpy takes an array of the right type as it is, and checks anything else byte by byte.
        message.data = data
        return message

    def detections(self, entries: Sequence[dict[str, Any]], header: Any) -> Any:
        """Return a ``vision_msgs/Detection2DArray``."""
        assert self._vision is not None
        message = self._vision.Detection2DArray(header=header)
        for entry in entries:
            left, top, right, bottom = entry["box"]
            detection = self._vision.Detection2D(header=header, id=str(entry["id"]))
            detection.bbox.center.position.x = (left + right) / 2
            detection.bbox.center.position.y = (top + bottom) / 2
            detection.bbox.size_x, detection.bbox.size_y = right - left, bottom - top
            detection.results.append(self._hypothesis(entry["label"], entry["score"]))
            message.detections.append(detection)
        return message

    def detections_in_space(self, places: Sequence[Place | None], header: Any) -> Any:
        """Return a ``vision_msgs/Detection3DArray`` in the camera's optical frame."""
        assert self._vision is not None
        message = self._vision.Detection3DArray(header=header)
        for place in (place for place in places if place is not None):
            detection = self._vision.Detection3D(header=header, id=str(place.id))
            pose = detection.bbox.center
            pose.position.x, pose.position.y, pose.position.z = place.box.centre.tolist()
            turn = quaternion(place.box)
            pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = turn
            size = detection.bbox.size
            size.x, size.y, size.z = place.box.size.tolist()
            hypothesis = self._hypothesis(place.label, place.score)
            middle = hypothesis.pose.pose.position
            middle.x, middle.y, middle.z = place.median.tolist()
            detection.results.append(hypothesis)
            message.detections.append(detection)
        return message

    def label_info(self, classes: Sequence[tuple[int, str]], header: Any) -> Any:
        """Return a ``vision_msgs/LabelInfo`` of the values of class images and their names."""
        assert self._vision is not None
        message = self._vision.LabelInfo(header=header)
        for number, name in classes:
            message.class_map.append(self._vision.VisionClass(class_id=number, class_name=name))
        return message

    def _hypothesis(self, label: str, score: float) -> Any:
        assert self._vision is not None
        hypothesis = self._vision.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = label
        hypothesis.hypothesis.score = float(score)
        return hypothesis


def quaternion(box: SpaceBox) -> tuple[float, float, float, float]:
    """Return the rotation of a box as x, y, z, w, with w from 0."""
    m = box.axes
    # The largest of the four squares, of Shepperd, loses no digits.
    squares = np.array([m[0, 0], m[1, 1], m[2, 2], np.trace(m)])
    largest = int(squares.argmax())
    if largest == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + squares[3]])
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q = np.zeros(4)
        q[i] = 1 + m[i, i] - m[j, j] - m[k, k]
        q[j], q[k], q[3] = m[j, i] + m[i, j], m[k, i] + m[i, k], m[k, j] - m[j, k]
    q = q / np.linalg.norm(q) * (1 if q[3] >= 0 else -1)
    x, y, z, w = q.tolist()
    return x, y, z, w
