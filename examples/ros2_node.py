r"""A ROS 2 node: camera images in, labelled segments and referred-to objects out.

    python examples/ros2_node.py --ros-args -p plan:=/opt/models/workcell.plan \
        -p "vocabulary:=['robot arm', 'table', 'bin']" -p "stuff:=['table']" \
        -r image:=/camera/image_raw

Subscribes to
    image             sensor_msgs/Image: rgb8, bgr8, rgba8, bgra8 or mono8
    image/compressed  sensor_msgs/CompressedImage, instead, with -p compressed:=true
    vocabulary        std_msgs/String: other words from now on, one a line or between commas
    phrases           std_msgs/String: other phrases from now on, one a line; empty for none
Publishes, each with the header of the image that it is about,
    detections        vision_msgs/Detection2DArray: a box a segment; `id` is the segment's number
    labels            sensor_msgs/Image: the segment's number at every pixel, 0 for none
    references        vision_msgs/Detection2DArray: a box for each phrase that was found; `id` is
                      the phrase's number, from 1
    reference_labels  sensor_msgs/Image: the phrase's number at every pixel; of several the
                      likeliest
Parameters
    plan, backend, device, threads   as of xdecoder_rt.Engine
    vocabulary, stuff, phrases       string lists; can be set while it runs
    task                             panoptic (default) or instance
    min_score                        of what is published, 0.0 to 1.0, with the point; -1.0
                                     (default) as Engine.segment and Engine.refer have it
    encoding                         of label images: mono16 (default) or 32SC1
    compressed                       whether to read image/compressed

    ros2 param set /xdecoder_rt vocabulary "['mug', 'hand']"
    ros2 topic pub --once /phrases std_msgs/msg/String "data: 'the mug that is upside down'"

Images that come while one is worked on replace one another: the newest is taken next, and none
waits in a queue. A refused vocabulary leaves the old one in place.

Needs ROS 2 (Humble or newer: vision_msgs 4) in the same Python as xdecoder_rt, and no cv_bridge.
NOT TRIED under ROS 2 yet: the tests run it on stand-ins for rclpy and for the messages.
"""

from __future__ import annotations

import argparse
import array
import io
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from xdecoder_rt import Engine
from xdecoder_rt.errors import ArgumentError, ImageError, XDecoderError
from xdecoder_rt.image import load_image
from xdecoder_rt.questions.least_score import check_min_score
from xdecoder_rt.results import Output, box_of_mask
from xdecoder_rt.streams.mailbox import LatestFrame
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import check_text

# Bytes of a pixel, and the order of the first three.
ENCODINGS = {
    "rgb8": (3, "rgb"),
    "bgr8": (3, "bgr"),
    "rgba8": (4, "rgb"),
    "bgra8": (4, "bgr"),
    "mono8": (1, "rgb"),
    "8UC1": (1, "rgb"),
    "8UC3": (3, "bgr"),  # what OpenCV's images are called by drivers that do not say more
}
LABEL_TYPES = {"mono16": np.dtype("<u2"), "32SC1": np.dtype("<i4")}


@dataclass(frozen=True)
class Words:
    """Words and phrases to look for. Replaced whole, so that a frame sees one or the other."""

    vocabulary: tuple[str, ...] = ()
    stuff: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    parsed: Vocabulary | None = field(default=None, compare=False)

    @classmethod
    def parse(
        cls, vocabulary: Sequence[str], stuff: Sequence[str], phrases: Sequence[str]
    ) -> Words:
        """Return the words, checked as the engine would check them.

        Raises:
            XDecoderError: a word is empty, twice there or over-long, or stuff is no word.
        """
        # Words that are not in this vocabulary may be stuff of the next.
        known_stuff = tuple(word for word in stuff if word in vocabulary)
        parsed = Vocabulary.parse(list(vocabulary), known_stuff) if vocabulary else None
        for phrase in phrases:
            check_text(phrase, "a phrase")
        return cls(tuple(vocabulary), tuple(stuff), tuple(phrases), parsed)


def split(text: str, separators: str) -> list[str]:
    """Return the words of a message, without empty ones."""
    for separator in separators[1:]:
        text = text.replace(separator, separators[0])
    return [word.strip() for word in text.split(separators[0]) if word.strip()]


def pixels_of(message: Any) -> npt.NDArray[np.uint8]:
    """Return the pixels of a ``sensor_msgs/Image``: uint8 ``[H, W, 3]``, RGB.

    Raises:
        ImageError: the encoding is none of :data:`ENCODINGS`, or the data are too short.
    """
    if message.encoding not in ENCODINGS:
        raise ImageError(
            f"The image is of the encoding {message.encoding!r}",
            expected="one of " + ", ".join(ENCODINGS),
            fix="convert it first, as image_proc does",
        )
    depth, channels = ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    if min(height, width) < 1 or step < depth * width or len(data) < step * height:
        raise ImageError(
            f"The image of {height} x {width} has {len(data)} bytes in steps of {step}",
            expected=f"{height} rows of at least {depth * width} bytes",
        )
    rows = data[: step * height].reshape(height, step)[:, : depth * width]
    # Drivers leave the fourth byte as it comes: it is no opacity.
    return load_image(rows.reshape(height, width, depth)[:, :, :3], channels)


def decoded(message: Any) -> npt.NDArray[np.uint8]:
    """Return the pixels of a ``sensor_msgs/CompressedImage``: uint8 ``[H, W, 3]``, RGB.

    Raises:
        ImageError: they cannot be read.
    """
    try:
        with PillowImage.open(io.BytesIO(bytes(message.data)), formats=("JPEG", "PNG")) as image:
            return load_image(image)
    except (OSError, ValueError) as error:
        raise ImageError(
            f"The compressed image ({message.format!r}) cannot be read ({error})",
            expected="JPEG or PNG",
        ) from error


class Messages:
    """Makes the messages that go out.

    Args:
        sensor: the module ``sensor_msgs.msg``.
        vision: the module ``vision_msgs.msg``.
        encoding: of label images, ``"mono16"`` or ``"32SC1"``.
    """

    def __init__(self, sensor: Any, vision: Any, encoding: str) -> None:
        if encoding not in LABEL_TYPES:
            raise ArgumentError(
                f"Label images cannot be of the encoding {encoding!r}",
                expected=" or ".join(LABEL_TYPES),
            )
        self._sensor = sensor
        self._vision = vision
        self._encoding = encoding

    def labels(self, numbers: npt.NDArray[np.int32], header: Any) -> Any:
        """Return a ``sensor_msgs/Image`` of ``[H, W]`` numbers of 0 and more."""
        kind = LABEL_TYPES[self._encoding]
        message = self._sensor.Image()
        message.header = header
        message.height, message.width = numbers.shape
        message.encoding = self._encoding
        message.is_bigendian = 0
        message.step = kind.itemsize * numbers.shape[1]
        clipped = numbers.clip(0, np.iinfo(kind).max).astype(kind)
        # rclpy takes an array of the right type as it is, and checks anything else byte by byte.
        message.data = array.array("B", clipped.tobytes())
        return message

    def detections(self, objects: Sequence[tuple[str, str, float, Any]], header: Any) -> Any:
        """Return a ``vision_msgs/Detection2DArray`` of ids, classes, scores and boxes (xyxy)."""
        message = self._vision.Detection2DArray()
        message.header = header
        for number, name, score, box in objects:
            left, top, right, bottom = (float(edge) for edge in box)
            detection = self._vision.Detection2D()
            detection.header = header
            detection.id = number
            detection.bbox.center.position.x = (left + right) / 2
            detection.bbox.center.position.y = (top + bottom) / 2
            detection.bbox.size_x = right - left
            detection.bbox.size_y = bottom - top
            hypothesis = self._vision.ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = name
            hypothesis.hypothesis.score = float(score)
            detection.results.append(hypothesis)
            message.detections.append(detection)
        return message


def segments_of(
    output: Output,
) -> tuple[npt.NDArray[np.int32], list[tuple[str, str, float, Any]]]:
    """Return the map of segment numbers, and the segments."""
    segmentation = output.segment
    assert segmentation is not None
    objects = []
    for index, info in enumerate(segmentation.segments_info):
        box = box_of_mask(segmentation.mask(index))
        objects.append((str(info["id"]), info["label"], info["score"], box))
    return segmentation.segmentation, objects


def references_of(
    output: Output,
) -> tuple[npt.NDArray[np.int32], list[tuple[str, str, float, Any]]]:
    """Return the map of phrase numbers, and the objects of the phrases that were found."""
    assert output.refer
    numbers = np.zeros(output.refer[0].size, np.int32)
    objects = []
    ranked = sorted(enumerate(output.refer, 1), key=lambda item: item[1].score)
    for number, reference in ranked:  # the likeliest is written last
        if reference.found:
            numbers[reference.mask] = number
            objects.append((str(number), reference.phrase, reference.score, reference.box))
    return numbers, sorted(objects, key=lambda entry: int(entry[0]))


class Perception:
    """The node: messages arrive on ROS's thread, frames are worked on by one of its own.

    Args:
        node: an ``rclpy.node.Node``.
        engine: the plan's.
        messages: the modules ``sensor_msgs.msg``, ``std_msgs.msg``, ``vision_msgs.msg`` and
            ``rcl_interfaces.msg``.
        quality: quality of service of images: keep the newest one, best effort.
    """

    def __init__(self, node: Any, engine: Engine, messages: Any, quality: Any) -> None:
        self._node = node
        self._engine = engine
        self._rcl = messages.rcl
        self._task = str(self._parameter("task"))
        if self._task not in ("panoptic", "instance"):
            raise ArgumentError(f"The task is {self._task!r}", expected="panoptic or instance")
        min_score = float(self._parameter("min_score"))
        self._min_score = None if min_score == -1.0 else check_min_score(min_score)
        self._messages = Messages(
            messages.sensor, messages.vision, str(self._parameter("encoding"))
        )
        names = ("vocabulary", "stuff", "phrases")
        self._words = Words.parse(*(self._strings(name) for name in names))
        self._lock = threading.Lock()
        self._frames: LatestFrame[Any] = LatestFrame()
        sensor, vision, std = messages.sensor, messages.vision, messages.std
        self._publishers = {
            "detections": node.create_publisher(vision.Detection2DArray, "detections", 10),
            "labels": node.create_publisher(sensor.Image, "labels", 10),
            "references": node.create_publisher(vision.Detection2DArray, "references", 10),
            "reference_labels": node.create_publisher(sensor.Image, "reference_labels", 10),
        }
        if self._parameter("compressed"):
            kind, topic, self._read = sensor.CompressedImage, "image/compressed", decoded
        else:
            kind, topic, self._read = sensor.Image, "image", pixels_of
        node.create_subscription(kind, topic, self._frames.put, quality)
        node.create_subscription(
            std.String,
            "vocabulary",
            lambda m: self._take_words("vocabulary", split(m.data, "\n,")),
            10,
        )
        node.create_subscription(
            std.String, "phrases", lambda m: self._take_words("phrases", split(m.data, "\n")), 10
        )
        node.add_on_set_parameters_callback(self._set_parameters)
        self._worker = threading.Thread(target=self._work, name="xdecoder_rt")
        self._worker.start()

    def close(self) -> None:
        """Stop after the frame that is being worked on."""
        self._frames.close()
        self._worker.join()

    @property
    def words(self) -> Words:
        """Return the words and phrases that are looked for."""
        return self._words

    def _work(self) -> None:
        while True:
            frame = self._frames.take()
            if frame is None:
                return
            try:
                self._answer(frame.content)
            except XDecoderError as error:
                self._node.get_logger().error(str(error))
            except Exception as error:  # a node that died in silence would be worse
                self._node.get_logger().error(f"{type(error).__name__}: {error}")

    def _answer(self, message: Any) -> None:
        words, header = self._words, message.header
        questions: dict[str, Any] = {"min_score": self._min_score}
        if words.parsed is not None:
            questions |= {"segment": words.parsed, "task": self._task}
        if words.phrases:
            questions["refer"] = words.phrases
        if words.parsed is None and not words.phrases:
            return
        output = self._engine.run(self._read(message), **questions)
        if words.parsed is not None:
            self._publish("detections", "labels", *segments_of(output), header)
        if words.phrases:
            self._publish("references", "reference_labels", *references_of(output), header)

    def _publish(self, boxes: str, labels: str, numbers: Any, objects: Any, header: Any) -> None:
        self._publishers[labels].publish(self._messages.labels(numbers, header))
        self._publishers[boxes].publish(self._messages.detections(objects, header))

    def _take_words(self, name: str, strings: Sequence[str]) -> None:
        """Take other words from a topic."""
        refused = self._change_words({name: strings})
        logger = self._node.get_logger()
        if refused:
            logger.error(refused)
        else:
            logger.info(f"{name}: {', '.join(strings) or 'none'}")

    def _set_parameters(self, parameters: Sequence[Any]) -> Any:
        """Take other words from parameters set while the node runs."""
        changed = {
            parameter.name: [str(word) for word in parameter.value or () if word]
            for parameter in parameters
            if parameter.name in ("vocabulary", "stuff", "phrases")
        }
        fixed = [parameter.name for parameter in parameters if parameter.name not in changed]
        fixed = [name for name in fixed if name in PARAMETERS]
        result = self._rcl.SetParametersResult()
        result.reason = (
            f"{', '.join(fixed)} can be set at the start only"
            if fixed
            else self._change_words(changed)
        )
        result.successful = not result.reason
        return result

    def _change_words(self, changed: dict[str, Sequence[str]]) -> str:
        """Take other words, or say why not."""
        with self._lock:
            now = self._words
            old = {"vocabulary": now.vocabulary, "stuff": now.stuff, "phrases": now.phrases}
            try:
                self._words = Words.parse(**{**old, **changed})
            except XDecoderError as error:
                return str(error)
        return ""

    def _parameter(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def _strings(self, name: str) -> list[str]:
        # An empty list of strings cannot be told from one of bytes: [''] stands for it.
        return [str(word) for word in self._parameter(name) or () if word]


PARAMETERS: dict[str, Any] = {
    "plan": "",
    "backend": "",
    "device": "",
    "threads": 0,
    "vocabulary": [""],
    "stuff": [""],
    "phrases": [""],
    "task": "panoptic",
    "min_score": -1.0,
    "encoding": "mono16",
    "compressed": False,
}


@dataclass(frozen=True)
class _Modules:
    sensor: Any
    std: Any
    vision: Any
    rcl: Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _, ros_arguments = parser.parse_known_args(arguments)
    try:
        import rclpy
        from rcl_interfaces import msg as rcl
        from rclpy.executors import ExternalShutdownException
        from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs import msg as sensor
        from std_msgs import msg as std
        from vision_msgs import msg as vision
    except ImportError as error:
        print(
            f"ROS 2 is not in this Python ({error}). Source its setup.bash; vision_msgs is the "
            "package ros-$ROS_DISTRO-vision-msgs",
            file=sys.stderr,
        )
        return 1
    rclpy.init(args=ros_arguments)
    node = rclpy.create_node("xdecoder_rt")
    try:
        for name, default in PARAMETERS.items():
            node.declare_parameter(name, default)
        settings = {name: node.get_parameter(name).value for name in PARAMETERS}
        quality = QoSProfile(
            depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
        )
        with Engine(
            settings["plan"],
            backend=settings["backend"] or None,
            device=settings["device"] or None,
            threads=settings["threads"] or None,
        ) as engine:
            perception = Perception(node, engine, _Modules(sensor, std, vision, rcl), quality)
            try:
                rclpy.spin(node)
            except (KeyboardInterrupt, ExternalShutdownException):
                pass
            finally:
                perception.close()
    except XDecoderError as error:
        node.get_logger().fatal(str(error))
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
