"""The ROS 2 example on stand-ins for rclpy and for the messages, which are as strict as rclpy's.

ROS 2 itself is not needed, and not tried.
"""

from __future__ import annotations

import array
import importlib.util
import io
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.results import Output, Reference, Segmentation, box_of_mask

EXAMPLE = Path(__file__).parents[2] / "examples" / "ros2_node.py"


class Message:
    """A message with the fields of its .msg file; it takes nothing else, of no other type."""

    FIELDS: dict[str, Any] = {}

    def __init__(self) -> None:
        for name, kind in self.FIELDS.items():
            value = array.array("B") if kind == "uint8[]" else kind() if callable(kind) else []
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self.FIELDS, f"{type(self).__name__} has no field {name!r}"
        kind = self.FIELDS[name]
        if kind == "uint8[]":
            assert isinstance(value, array.array) and value.typecode == "B"
        elif isinstance(kind, list):
            assert all(isinstance(item, kind[0]) for item in value)
        else:
            assert type(value) is kind or (isinstance(kind, type) and isinstance(value, kind))
        object.__setattr__(self, name, value)


def message(name: str, **fields: Any) -> Any:
    return type(name, (Message,), {"FIELDS": fields})


Header = message("Header", frame_id=str)
Image = message(
    "Image",
    header=Header,
    height=int,
    width=int,
    encoding=str,
    is_bigendian=int,
    step=int,
    data="uint8[]",
)
CompressedImage = message("CompressedImage", header=Header, format=str, data="uint8[]")
String = message("String", data=str)
# vision_msgs 4.
Point2D = message("Point2D", x=float, y=float)
Pose2D = message("Pose2D", position=Point2D, theta=float)
BoundingBox2D = message("BoundingBox2D", center=Pose2D, size_x=float, size_y=float)
ObjectHypothesis = message("ObjectHypothesis", class_id=str, score=float)
ObjectHypothesisWithPose = message("ObjectHypothesisWithPose", hypothesis=ObjectHypothesis)
Detection2D = message(
    "Detection2D", header=Header, results=[ObjectHypothesisWithPose], bbox=BoundingBox2D, id=str
)
Detection2DArray = message("Detection2DArray", header=Header, detections=[Detection2D])
SetParametersResult = message("SetParametersResult", successful=bool, reason=str)


class Node:
    """An rclpy node without ROS: topics are lists and calls."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        self._overrides = overrides
        self._parameters: dict[str, Any] = {}
        self.published: dict[str, list[Any]] = {}
        self.subscribed: dict[str, tuple[Any, Callable[[Any], Any], Any]] = {}
        self.log: list[tuple[str, str]] = []
        self.came = threading.Condition()
        self.is_destroyed = False

    def declare_parameter(self, name: str, default: Any) -> None:
        assert default != [], "rclpy takes an empty list for one of bytes"
        self._parameters[name] = self._overrides.get(name, default)

    def get_parameter(self, name: str) -> Any:
        return SimpleNamespace(value=self._parameters[name])

    def add_on_set_parameters_callback(self, callback: Callable[[Any], Any]) -> None:
        self._set = callback

    def set(self, **values: Any) -> Any:
        """As ``ros2 param set`` does."""
        result = self._set([SimpleNamespace(name=k, value=v) for k, v in values.items()])
        assert isinstance(result, SetParametersResult)
        return result

    def create_publisher(self, kind: Any, topic: str, depth: int) -> Any:
        self.published[topic] = []

        def publish(sent_message: Any) -> None:
            assert isinstance(sent_message, kind)
            with self.came:
                self.published[topic].append(sent_message)
                self.came.notify_all()

        return SimpleNamespace(publish=publish)

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], Any], quality: Any
    ) -> None:
        self.subscribed[topic] = kind, callback, quality

    def send(self, topic: str, sent_message: Any) -> None:
        kind, callback, _ = self.subscribed[topic]
        assert isinstance(sent_message, kind)
        callback(sent_message)

    def wait(self, topic: str, count: int) -> list[Any]:
        with self.came:
            arrived = self.came.wait_for(lambda: len(self.published[topic]) >= count, 60)
        assert arrived, f"{len(self.published[topic])} of {count} came; log: {self.log}"
        return self.published[topic]

    def get_logger(self) -> Any:
        def at(level: str) -> Callable[[str], None]:
            def log(text: str) -> None:
                with self.came:
                    self.log.append((level, text))
                    self.came.notify_all()

            return log

        return SimpleNamespace(**{level: at(level) for level in ("info", "error", "fatal")})

    def wait_log(self, level: str, part: str) -> None:
        with self.came:
            is_logged = self.came.wait_for(
                lambda: any(a == level and part in b for a, b in self.log), 60
            )
        assert is_logged, self.log

    def destroy_node(self) -> None:
        self.is_destroyed = True


@pytest.fixture(scope="module")
def node_module() -> Iterator[Any]:
    """The example, imported once; a test that changes it uses monkeypatch."""
    spec = importlib.util.spec_from_file_location("ros2_node", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Dataclasses look their module up.
        monkeypatch.setitem(sys.modules, "ros2_node", module)
        spec.loader.exec_module(module)
        yield module


def install(
    monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], spin: Callable[[Node], None]
) -> Node:
    """Put the stand-ins where ROS 2 would be; ``spin`` is what happens while the node runs."""
    node = Node(parameters)
    state = {"running": False}

    def init(args: list[str]) -> None:
        state["running"] = True

    def create_node(name: str) -> Node:
        assert state["running"] and name == "xdecoder_rt"
        return node

    modules = {
        "rclpy": {"init": init, "create_node": create_node, "spin": spin, "try_shutdown": list},
        "rclpy.executors": {"ExternalShutdownException": KeyError},
        "rclpy.qos": {
            "HistoryPolicy": SimpleNamespace(KEEP_LAST="last"),
            "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort"),
            "QoSProfile": SimpleNamespace,
        },
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": Image, "CompressedImage": CompressedImage},
        "std_msgs": {},
        "std_msgs.msg": {"String": String},
        "vision_msgs": {},
        "vision_msgs.msg": {
            "Detection2D": Detection2D,
            "Detection2DArray": Detection2DArray,
            "ObjectHypothesisWithPose": ObjectHypothesisWithPose,
        },
        "rcl_interfaces": {},
        "rcl_interfaces.msg": {"SetParametersResult": SetParametersResult},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        for key, value in members.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)
    for name in modules:
        if "." in name:
            parent, child = name.split(".")
            setattr(sys.modules[parent], child, sys.modules[name])
    return node


def image_of(pixels: Any, encoding: str = "rgb8", gap: int = 0, frame: str = "camera") -> Any:
    """An image message; rows end with `gap` bytes that belong to no pixel."""
    height, width = pixels.shape[:2]
    packed = pixels.reshape(height, -1)
    rows = np.full((height, packed.shape[1] + gap), 0xEE, np.uint8)
    rows[:, : packed.shape[1]] = packed
    image = Image()
    image.header.frame_id = frame
    image.height, image.width, image.step = height, width, rows.shape[1]
    image.encoding = encoding
    image.data = array.array("B", rows.tobytes())
    return image


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    gap=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_pixels_of_every_encoding(
    node_module: Any, size: tuple[int, int], gap: int, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    alpha = np.full((*size, 1), 7, np.uint8)
    grey = rgb[:, :, :1]
    for encoding, pixels, expected in [
        ("rgb8", rgb, rgb),
        ("bgr8", rgb[:, :, ::-1], rgb),
        ("8UC3", rgb[:, :, ::-1], rgb),
        ("rgba8", np.concatenate([rgb, alpha], axis=2), rgb),
        ("bgra8", np.concatenate([rgb[:, :, ::-1], alpha], axis=2), rgb),
        ("mono8", grey, grey.repeat(3, axis=2)),
    ]:
        decoded_pixels = node_module.pixels_of(
            image_of(np.ascontiguousarray(pixels), encoding, gap)
        )
        assert decoded_pixels.flags.c_contiguous and decoded_pixels.dtype == np.uint8
        np.testing.assert_array_equal(decoded_pixels, expected)


def test_images_that_cannot_be_read_are_refused(node_module: Any) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ImageError, match="'yuv422'"):
        node_module.pixels_of(image_of(pixels, "yuv422"))
    short = image_of(pixels)
    short.data = short.data[:-1]
    with pytest.raises(ImageError, match="59 bytes in steps of 15"):
        node_module.pixels_of(short)
    narrow = image_of(pixels)
    narrow.step = 14
    with pytest.raises(ImageError, match="steps of 14"):
        node_module.pixels_of(narrow)
    with pytest.raises(ImageError, match="cannot be read"):
        node_module.decoded(compressed(b"no image"))
    depth = io.BytesIO()
    PillowImage.fromarray(np.full((4, 5), 1000, np.uint16)).save(depth, "PNG")
    with pytest.raises(ImageError, match="16 bits a channel"):
        node_module.decoded(compressed(depth.getvalue()))


def compressed(data: bytes) -> Any:
    image = CompressedImage()
    image.format = "png"
    image.data = array.array("B", data)
    return image


def test_compressed_images(node_module: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(node_module.decoded(compressed(file.getvalue())), pixels)


@pytest.mark.parametrize(("encoding", "kind"), [("mono16", "<u2"), ("32SC1", "<i4")])
def test_label_images(node_module: Any, encoding: str, kind: str) -> None:
    sensor = SimpleNamespace(Image=Image)
    numbers = np.array([[0, 1, 70000], [3, 4, 5]], np.int32)
    image = node_module.Messages(sensor, None, encoding).labels(numbers, Header())
    assert (image.height, image.width, image.encoding) == (2, 3, encoding)
    assert image.step == 3 * np.dtype(kind).itemsize and image.is_bigendian == 0
    labels = np.frombuffer(image.data, kind).reshape(2, 3)
    expected = numbers.clip(0, 65535) if encoding == "mono16" else numbers
    np.testing.assert_array_equal(labels, expected)
    with pytest.raises(ArgumentError, match="mono16 or 32SC1"):
        node_module.Messages(sensor, None, "rgb8")


class Recorded:
    """An engine that answers at once, or when it is allowed to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.pixels: list[Any] = []
        self.allowed = threading.Event()
        self.allowed.set()
        self.begun = threading.Event()

    def __call__(self, plan: str, **options: Any) -> Recorded:
        self.open_options = {"plan": plan, **options}
        return self

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def run(self, pixels: Any, **questions: Any) -> Output:
        self.questions.append(questions)
        self.pixels.append(pixels)
        self.begun.set()
        assert self.allowed.wait(60)
        height, width = pixels.shape[:2]
        numbers = np.zeros((height, width), np.int32)
        numbers[: height // 2, : width // 2] = 1
        numbers[height // 2 :, :] = 2
        infos = [
            {"id": 1, "label_id": 0, "label": "bin", "score": 0.75, "area": 1, "isthing": True},
            {"id": 2, "label_id": 1, "label": "table", "score": 0.25, "area": 1, "isthing": False},
        ]
        least = questions["min_score"] or 0.0
        for info in infos:
            if info["score"] < least:
                numbers[numbers == info["id"]] = 0
        infos = [info for info in infos if info["score"] >= least]
        references = []
        for index, phrase in enumerate(questions.get("refer", ())):
            score, mask = 0.9 - 0.3 * index, np.zeros((height, width), np.bool_)
            mask[index : height - index] = score >= least
            references.append(Reference(phrase, mask, score, box_of_mask(mask)))
        return Output(
            segment=Segmentation(numbers, infos) if "segment" in questions else None,
            refer=references or None,
        )


@pytest.fixture
def engine(node_module: Any, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(node_module, "Engine", recorded)
    return recorded


GIVEN = {"plan": "workcell.plan", "vocabulary": ["bin", "table"], "stuff": ["table"]}


def test_an_image_becomes_detections_and_labels(
    node_module: Any, engine: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)

    def spin(node: Node) -> None:
        node.send("image", image_of(pixels, frame="left"))
        node.wait("detections", 1)

    node = install(monkeypatch, {**GIVEN, "device": "cuda:1"}, spin)
    assert node_module.main([]) == 0
    assert engine.open_options == {
        "plan": "workcell.plan",
        "backend": None,
        "device": "cuda:1",
        "threads": None,
    }
    np.testing.assert_array_equal(engine.pixels[0], pixels)
    (detections,) = node.published["detections"]
    assert detections.header.frame_id == "left"
    bin_, table = detections.detections
    assert (bin_.id, bin_.results[0].hypothesis.class_id) == ("1", "bin")
    assert bin_.results[0].hypothesis.score == 0.75
    box = bin_.bbox
    assert (box.center.position.x, box.center.position.y) == (2.5, 2.0)
    assert (box.size_x, box.size_y) == (5.0, 4.0)
    assert (table.id, table.results[0].hypothesis.class_id) == ("2", "table")
    (labels,) = node.published["labels"]
    assert labels.header.frame_id == "left"
    label_map = np.frombuffer(labels.data, "<u2").reshape(8, 10)
    assert (
        (label_map[:4, :5] == 1).all()
        and (label_map[4:] == 2).all()
        and not label_map[:4, 5:].any()
    )
    assert not node.published["references"]  # no phrases, no answer
    assert node.is_destroyed and engine.is_closed
    vocabulary = engine.questions[0]["segment"]
    assert [word.stuff for word in vocabulary.words] == [False, True]
    _, _, quality = node.subscribed["image"]
    assert (quality.depth, quality.reliability) == (1, "best effort")


def test_what_is_unsure_is_not_published(
    node_module: Any, engine: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spin(node: Node) -> None:
        node.send("image", image_of(np.zeros((8, 10, 3), np.uint8)))
        node.wait("references", 1)

    phrases = ["the left bin", "the right bin", "the third"]
    node = install(monkeypatch, {**GIVEN, "phrases": phrases, "min_score": 0.5}, spin)
    assert node_module.main([]) == 0
    (detections,) = node.published["detections"]
    assert [detection.id for detection in detections.detections] == ["1"]
    label_map = np.frombuffer(node.published["labels"][0].data, "<u2")
    assert set(label_map) == {0, 1}
    (referred,) = node.published["references"]
    assert [
        (detection.id, detection.results[0].hypothesis.class_id)
        for detection in referred.detections
    ] == [
        ("1", "the left bin"),
        ("2", "the right bin"),
    ]
    # The likelier phrase, which covers all, wins where both are.
    assert set(np.frombuffer(node.published["reference_labels"][0].data, "<u2")) == {1}


@pytest.mark.parametrize(("given", "asked"), [(-1.0, None), (0.0, 0.0), (0.5, 0.5)])
def test_the_engine_is_asked_for_the_least_score(
    node_module: Any,
    engine: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    given: float,
    asked: float | None,
) -> None:
    def spin(node: Node) -> None:
        node.send("image", image_of(np.zeros((8, 10, 3), np.uint8)))
        node.wait("detections", 1)

    install(monkeypatch, {**GIVEN, "min_score": given}, spin)
    assert node_module.main([]) == 0
    assert engine.questions[0]["min_score"] == asked


def test_words_change_while_it_runs(
    node_module: Any, engine: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def string_of(data: str) -> Any:
        string = String()
        string.data = data
        return string

    def spin(node: Node) -> None:
        frame = image_of(np.zeros((4, 4, 3), np.uint8))
        node.send("vocabulary", string_of("mug, hand\nrobot arm,"))
        node.send("image", frame)
        node.wait("detections", 1)
        node.send("phrases", string_of("the mug, upside down\nthe hand"))
        node.send("image", frame)
        node.wait("references", 1)
        assert node.set(vocabulary=["cup"], stuff=[""]).successful
        assert node.set(phrases=[""]).successful
        node.send("image", frame)
        node.wait("detections", 3)
        refused = node.set(vocabulary=["cup", "cup"])
        assert not refused.successful and "cup" in refused.reason
        node.send("vocabulary", string_of("saw,saw"))
        refused = node.set(plan="other.plan")
        assert not refused.successful and "plan can be set at the start only" in refused.reason
        node.send("image", frame)
        node.wait("detections", 4)

    node = install(monkeypatch, GIVEN, spin)
    assert node_module.main([]) == 0
    words = [[word.name for word in questions["segment"].words] for questions in engine.questions]
    assert words == [["mug", "hand", "robot arm"]] * 2 + [["cup"]] * 2
    assert [questions.get("refer") for questions in engine.questions] == [
        None,
        ("the mug, upside down", "the hand"),
        None,
        None,
    ]
    assert any(level == "error" and "saw" in text for level, text in node.log)


def test_the_newest_frame_is_taken_next(
    node_module: Any, engine: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spin(node: Node) -> None:
        engine.allowed.clear()
        node.send("image", image_of(np.full((4, 4, 3), 0, np.uint8)))
        assert engine.begun.wait(60)
        for value in range(1, 6):
            node.send("image", image_of(np.full((4, 4, 3), value, np.uint8)))
        engine.allowed.set()
        node.wait("detections", 2)

    install(monkeypatch, GIVEN, spin)
    assert node_module.main([]) == 0
    assert [int(pixels[0, 0, 0]) for pixels in engine.pixels] == [0, 5]


def test_a_bad_image_is_logged_and_the_next_one_answered(
    node_module: Any, engine: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spin(node: Node) -> None:
        node.send("image", image_of(np.zeros((4, 4, 3), np.uint8), "yuv422"))
        node.wait_log("error", "yuv422")
        node.send("image", image_of(np.zeros((4, 4, 3), np.uint8)))
        node.wait("detections", 1)

    install(monkeypatch, GIVEN, spin)
    assert node_module.main([]) == 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"encoding": "rgb8"}, "mono16"),
        ({"task": "semantic"}, "panoptic or instance"),
        ({"vocabulary": ["bin", "bin"]}, "bin"),
    ],
)
def test_parameters_that_cannot_be_are_said(
    node_module: Any,
    engine: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
    sentence: str,
) -> None:
    node = install(monkeypatch, {**GIVEN, **wrong}, lambda node: None)
    assert node_module.main([]) == 1
    assert any(level == "fatal" and sentence in text for level, text in node.log)


def test_without_ros_that_is_said(
    node_module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert node_module.main([]) == 1
    assert "ROS 2 is not in this Python" in capsys.readouterr().err


def test_help_teaches(node_module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        node_module.main(["--help"])
    help_text = capsys.readouterr().out
    for name in node_module.PARAMETERS:
        assert name in help_text
    assert "NOT TRIED under ROS 2" in help_text


def test_with_a_real_plan(
    node_module: Any, monkeypatch: pytest.MonkeyPatch, tiny_plan: Path
) -> None:
    def spin(node: Node) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
        node.send("image", image_of(pixels))
        node.wait("references", 1)

    parameters = {**GIVEN, "plan": str(tiny_plan), "phrases": ["the bin"], "backend": "onnxruntime"}
    node = install(monkeypatch, parameters, spin)
    assert node_module.main([]) == 0
    (detections,) = node.published["detections"]
    labels = np.frombuffer(node.published["labels"][0].data, "<u2")
    assert labels.size == 48 * 80
    assert {detection.id for detection in detections.detections} == {
        str(n) for n in np.unique(labels) if n
    }
    assert len(detections.detections) >= 1
