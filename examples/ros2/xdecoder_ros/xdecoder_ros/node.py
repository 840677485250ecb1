"""The lifecycle node: images in; segments, boxes, label images, places and answers out.

ROS's thread takes messages; a thread of the node works on the newest image, so that none waits in a
queue. Whatever is wrong with what comes stands in the diagnostics, and the node goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs import msg as sensor
from std_msgs import msg as std

from xdecoder_ros.counts import Counts
from xdecoder_ros.encodings import decoded, depth_of, pixels_of
from xdecoder_ros.messages import Messages, segment_entries
from xdecoder_ros.requests import KINDS, Request
from xdecoder_ros.words import Wording
from xdecoder_rt import Engine, Tracker
from xdecoder_rt.errors import ArgumentError, XDecoderError
from xdecoder_rt.questions.least_score import check_min_score
from xdecoder_rt.space.places import Place
from xdecoder_rt.streams.mailbox import LatestFrame

vision: ModuleType | None
try:
    from vision_msgs import msg as vision
except ImportError:  # ros-$ROS_DISTRO-vision-msgs: boxes are then in the JSON of `segments` alone
    vision = None

DEFAULTS: dict[str, Any] = {
    "plan": "",
    "backend": "",
    "threads": 0,
    "autostart": True,
    "task": "panoptic",
    "words": [""],
    "min_score": -1.0,
    "tracking": True,
    "compressed": False,
    "depth": False,
    "sync_seconds": 0.05,
    "label_encoding": "mono16",
}
_SETTABLE = ("words", "min_score", "autostart")
_REQUESTS_KEPT = 16
_REQUEST_SECONDS = 5.0
_DEPTHS_KEPT = 8
_POLL_SECONDS = 0.1


class XDecoderNode(LifecycleNode):  # type: ignore[misc]
    """The node. See the README for topics and parameters."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__("xdecoder", **arguments)
        for name, default in DEFAULTS.items():
            self.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True))
        self.counts = Counts()
        self._engine: Engine | None = None
        self._worker: threading.Thread | None = None
        self._frames: LatestFrame[Any] = LatestFrame()
        self._frames.close()
        self._depths: deque[Any] = deque(maxlen=_DEPTHS_KEPT)
        self._info: Any = None
        self._requests: deque[Request] = deque(maxlen=_REQUESTS_KEPT)
        self._wording = Wording()
        self._min_score: float | None = None
        self._is_active = False
        self._out: dict[str, Any] = {}
        self._in: list[Any] = []
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._current = self.create_publisher(std.String, "words/current", kept)
        self._names = self.create_publisher(std.String, "class_names", kept)
        self._info_out = vision and self.create_publisher(vision.LabelInfo, "label_info", kept)
        self.create_subscription(std.String, "words", self._take_words, 10)
        self.create_timer(1.0, self._diagnose)
        self.add_on_set_parameters_callback(self._set_parameters)
        for name in ("words", "min_score"):
            error = self._change(name, self.get_parameter(name).value)
            if error:
                self._fail(name, error)

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the plan; a plan that is missing is an error in the diagnostics."""
        value = {name: self.get_parameter(name).value for name in DEFAULTS}
        try:
            if not value["plan"]:
                raise ArgumentError(
                    "The parameter plan is empty", fix="set it to the path of a .plan file"
                )
            if value["task"] not in ("panoptic", "instance"):
                raise ArgumentError("The parameter task", expected="panoptic or instance")
            self._messages = Messages(sensor, std, vision, str(value["label_encoding"]))
            self._engine = Engine(
                value["plan"], backend=value["backend"] or None, threads=value["threads"] or None
            )
            if self._wording.vocabulary is not None:
                self._engine.warm(self._wording.vocabulary)
        except (XDecoderError, TypeError) as error:
            self._fail("plan", f"{error} (parameters plan, backend, threads, label_encoding)")
            self._close_engine()
            return TransitionCallbackReturn.FAILURE
        self.counts.mend("plan")
        self._task, self._tracker = value["task"], Tracker() if value["tracking"] else None
        self._sync = float(value["sync_seconds"])
        kinds: dict[str, Any] = {
            "segments": std.String, "labels": sensor.Image, "class_labels": sensor.Image,
            "overlay": sensor.Image, "overlay/compressed": sensor.CompressedImage,
            **{f"{kind}/answer": std.String for kind in KINDS},
        }  # fmt: skip
        if vision:
            kinds["detections"] = vision.Detection2DArray
            kinds["detections_3d"] = vision.Detection3DArray
        self._out = {
            topic: self.create_lifecycle_publisher(kind, topic, 10) for topic, kind in kinds.items()
        }
        image, topic = (
            (sensor.CompressedImage, "image/compressed")
            if value["compressed"] else (sensor.Image, "image")
        )  # fmt: skip
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        subscriptions: list[tuple[Any, str, Any, Any]] = [(image, topic, self._take_image, newest)]
        if value["depth"]:
            quality = qos_profile_sensor_data
            subscriptions += [
                (sensor.Image, "depth", self._take_depth, quality),
                (sensor.CameraInfo, "camera_info", self._take_info, quality),
            ]
        for kind in KINDS:
            subscriptions.append((std.String, f"{kind}/request", self._taker(kind), 10))
        self._in = [self.create_subscription(*one) for one in subscriptions]
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work on images."""
        super().on_activate(state)
        self._frames, self._is_active = LatestFrame(), True
        self._worker = threading.Thread(target=self._work, name="xdecoder")
        self._worker.start()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop after the image that is being worked on."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the plan."""
        self._stop()
        for entity in self._in:
            self.destroy_subscription(entity)
        for publisher in self._out.values():
            self.destroy_lifecycle_publisher(publisher)
        self._in, self._out = [], {}
        self._close_engine()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and close the plan."""
        return self.on_cleanup(state)

    def close(self) -> None:
        """Stop and close the plan, whatever the state."""
        self._stop()
        self._close_engine()

    def _stop(self) -> None:
        self._is_active = False
        self._frames.close()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _close_engine(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    # -- what comes in, on ROS's thread

    def _take_image(self, message: Any) -> None:
        if self._is_active:
            self.counts.received += 1
            self._frames.put(message)

    def _take_depth(self, message: Any) -> None:
        self._depths.append(message)

    def _take_info(self, message: Any) -> None:
        self._info = message

    def _taker(self, kind: str) -> Any:
        def take(message: Any) -> None:
            try:
                self._requests.append(Request.parse(kind, message.data, time.monotonic()))
            except XDecoderError as error:
                number = getattr(error, "request_id", None)
                self._answer_request(kind, {"id": number, "error": str(error)})

        return take

    def _take_words(self, message: Any) -> None:
        """Take other words from the topic: the parameter follows."""
        lines = message.data.splitlines() or [""]
        (result,) = self.set_parameters([Parameter("words", Parameter.Type.STRING_ARRAY, lines)])
        if not result.successful:
            self._fail("words", result.reason)

    def _set_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in DEFAULTS and parameter.name not in _SETTABLE and self._engine:
                reason = f"{parameter.name} can be set before the node is configured only"
                return SetParametersResult(successful=False, reason=reason)
        for parameter in parameters:
            reason = self._change(parameter.name, parameter.value)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _change(self, name: str, value: Any) -> str:
        """Take another value of what may change while the node runs, or say why not."""
        try:
            if name == "min_score":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ArgumentError("min_score is no number", expected="0 to 1, or -1")
                self._min_score = None if value == -1 else check_min_score(float(value))
            elif name == "words":
                if isinstance(value, str):
                    raise ArgumentError("words is one text", expected="a list of lines")
                wording = Wording.of(value or (), self._wording)
                if self._engine is not None and wording.vocabulary is not None:
                    self._engine.warm(wording.vocabulary)
                self._wording = wording
                self.counts.mend("words")
                self._tell_words()
        except XDecoderError as error:
            return str(error)
        return ""

    def _tell_words(self) -> None:
        classes = self._wording.classes()
        self._current.publish(std.String(data="\n".join(self._wording.lines)))
        maker = Messages(sensor, std, vision, "mono16")
        self._names.publish(maker.text({str(number): name for number, name in classes}))
        if self._info_out is not None:
            header = std.Header(stamp=self.get_clock().now().to_msg())
            self._info_out.publish(maker.label_info(classes, header))

    # -- the work, on the node's own thread

    def _work(self) -> None:
        newest: Any = None
        while True:
            frame = self._frames.take(timeout=_POLL_SECONDS)
            if frame is None and self._frames.ended:
                return
            try:
                if frame is not None:
                    newest = self._answer_image(frame.content)
                self._answer_requests(newest)
            except Exception as error:  # the node outlives whatever one image does to it
                self.counts.refused += frame is not None
                known = isinstance(error, XDecoderError)
                self._fail("image", str(error) if known else f"{type(error).__name__}: {error}")

    def _answer_image(self, message: Any) -> tuple[Any, Any]:
        """Publish what an image holds; return its state and header."""
        engine, wording, header = self._engine, self._wording, message.header
        assert engine is not None
        start = time.perf_counter()
        pixels = decoded(message) if hasattr(message, "format") else pixels_of(message)
        state = engine.encode(pixels)
        if wording.vocabulary is not None:
            result = engine.segment(
                state, wording.vocabulary, task=self._task, min_score=self._min_score
            )
            seconds = time.perf_counter() - start
            if self._tracker is not None:
                result = self._tracker.update(result)
            self._out["labels"].publish(self._messages.labels(result, header))
            now = self.get_clock().now().nanoseconds * 1e-9
            if not self._messages.holds(result):
                self._fail("labels", "label_encoding mono16 holds ids to 65535: set it to 32SC1.")
            self._out["class_labels"].publish(self._messages.classes(result, header))
            places = self._places(result, header)
            entries = segment_entries(result, places)
            stamp = {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}
            self._out["segments"].publish(
                self._messages.text(
                    {"stamp": stamp, "frame_id": header.frame_id, "segments": entries}
                )
            )
            if vision:
                self._out["detections"].publish(self._messages.detections(entries, header))
                if places is not None:
                    self._out["detections_3d"].publish(
                        self._messages.detections_in_space(places, header)
                    )
            self._draw(result, pixels, places, header)
            self.counts.answer(now - _seconds(header.stamp), seconds)
        return state, header

    def _places(self, result: Any, header: Any) -> list[Place | None] | None:
        """Return where segments are, by the depth nearest in time; None where there is none."""
        if not self.get_parameter("depth").value:
            return None
        stamp = _seconds(header.stamp)
        near = min(
            tuple(self._depths), key=lambda d: abs(_seconds(d.header.stamp) - stamp), default=None
        )
        if near is None or abs(_seconds(near.header.stamp) - stamp) > self._sync:
            self._fail("depth", f"No depth came within {self._sync:g} s of the image.")
            return None
        if self._info is None:
            self._fail("depth", "No camera_info came.")
            return None
        try:
            info = self._info
            if (info.height, info.width) != result.size:
                raise ArgumentError(
                    f"camera_info is of {info.height} x {info.width} pixels, and the image of "
                    f"{result.size[0]} x {result.size[1]}",
                    expected="the camera_info of this image",
                )
            return list(result.in_space(depth_of(near), info.k))
        except XDecoderError as error:
            self._fail("depth", str(error))
            return None

    def _draw(self, result: Any, pixels: Any, places: Any, header: Any) -> None:
        """Publish the overlay to those who look at it."""
        wanted = [
            topic for topic in ("overlay", "overlay/compressed")
            if self.count_subscribers(self._out[topic].topic_name)
        ]  # fmt: skip
        if not wanted:
            return
        picture = result.draw(pixels)
        if places is not None:
            from xdecoder_rt.drawing.boxes import draw_boxes

            draw_boxes(picture, [place for place in places if place is not None], self._info.k)
        for topic in wanted:
            make = self._messages.picture if topic == "overlay" else self._messages.jpeg
            self._out[topic].publish(make(picture, header))

    def _answer_requests(self, newest: tuple[Any, Any] | None) -> None:
        """Answer what waits, on the newest image; without one, not before some seconds."""
        while self._requests:
            request = self._requests[0]
            if newest is None:
                if time.monotonic() - request.since < _REQUEST_SECONDS:
                    return
                self._requests.popleft()
                answer = {"id": request.id, "error": "No image came."}
            else:
                state, header = newest
                assert self._engine is not None
                # Gone before it is answered: whatever one does, it is not met again.
                self._requests.popleft()
                answer = request.answered(self._engine, state)
                stamp = {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}
                answer |= {"stamp": stamp, "frame_id": header.frame_id}
            self._answer_request(request.kind, answer)

    def _answer_request(self, kind: str, answer: dict[str, Any]) -> None:
        self._out[f"{kind}/answer"].publish(self._messages.text(answer))

    # -- what is told

    def _fail(self, subject: str, text: str) -> None:
        self.counts.fail(subject, text)
        self.get_logger().error(text, throttle_duration_sec=5.0)

    def _diagnose(self) -> None:
        error = self.counts.error()
        values = self.counts.values(self._frames.dropped) | {
            "words": str(len(self._wording.lines)),
            "plan": str(self.get_parameter("plan").value),
            "vision_msgs": "yes" if vision else "not installed: boxes are in segments alone",
        }
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if error else DiagnosticStatus.OK,
            name=f"xdecoder: {self.get_name()}",
            message=error or ("active" if self._is_active else "inactive"),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _seconds(stamp: Any) -> float:
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    rclpy.init(args=arguments)
    node = XDecoderNode()
    try:
        if node.get_parameter("autostart").value:
            configured = node.trigger_configure()
            if configured == TransitionCallbackReturn.SUCCESS:
                node.trigger_activate()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
