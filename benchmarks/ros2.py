r"""Rate and latency of the ROS 2 node, with images that a process of their own publishes.

    python benchmarks/ros2.py model.plan --seconds 20 --size 720x1280

Images are sent at 30 Hz, as a camera's driver does; the node is started as ``ros2 run`` does. Shown
are label images a second, milliseconds from an image's stamp to its label image, and those of the
engine (median of the node's own). Needs rclpy, which ``.ci/ros2`` installs.
"""

from __future__ import annotations

import argparse
import array
import io
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

PACKAGE = Path(__file__).parents[1] / "examples/ros2/xdecoder_ros"
WORDS = ["robot arm", "bin | box", "mug", "bowl", "table [stuff]", "floor [stuff]"]


def publish(pictures: list[np.ndarray], is_compressed: bool, seconds: float) -> None:
    """Publish pictures at 30 Hz."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage
    from sensor_msgs.msg import Image as Message

    rclpy.init()
    node = rclpy.create_node("camera")
    kind, topic = (CompressedImage, "image/compressed") if is_compressed else (Message, "image")
    sender = node.create_publisher(kind, topic, qos_profile_sensor_data)
    messages = []
    for pixels in pictures:
        height, width = pixels.shape[:2]
        if is_compressed:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=90)
            message, data = CompressedImage(format="jpeg"), file.getvalue()
        else:
            message = Message(height=height, width=width, encoding="rgb8", step=3 * width)
            data = pixels.tobytes()
        message.data = array.array("B", data)
        messages.append(message)
    begin = time.monotonic()
    count = 0
    while time.monotonic() - begin < seconds:
        message = messages[count % len(messages)]
        message.header.stamp = node.get_clock().now().to_msg()
        sender.publish(message)
        count += 1
        time.sleep(max(0.0, begin + count / 30 - time.monotonic()))
    print(f"sent {count}")


def measured(arguments: argparse.Namespace, pictures: list[np.ndarray]) -> dict[str, Any]:
    """Return what came out, and the node's last diagnostics."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image as Message

    rclpy.init()
    robot = rclpy.create_node("robot")
    delays: list[float] = []
    ends: list[float] = []
    values: dict[str, str] = {}

    def take(message: Any) -> None:
        stamp = message.header.stamp
        ends.append(time.monotonic())
        delays.append(time.time() - stamp.sec - 1e-9 * stamp.nanosec)

    def note(message: Any) -> None:
        values.update({entry.key: entry.value for entry in message.status[0].values})

    robot.create_subscription(Message, "labels", take, QoSProfile(depth=10))
    robot.create_subscription(DiagnosticArray, "/diagnostics", note, 10)
    command = [sys.executable, "-m", "xdecoder_ros.node", "--ros-args", "-p"]
    command += [f"plan:={arguments.plan}", "-p", f"words:={json.dumps(WORDS)}"]
    command += ["-p", f"compressed:={json.dumps(arguments.compressed)}"]
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    node = subprocess.Popen(command, env=environment)
    sender = multiprocessing.get_context("spawn").Process(
        target=publish,
        args=(pictures, arguments.compressed, arguments.warm_up + arguments.seconds),
    )
    try:
        while not values:
            rclpy.spin_once(robot, timeout_sec=0.1)
        sender.start()
        end = time.monotonic() + arguments.warm_up
        while time.monotonic() < end:
            rclpy.spin_once(robot, timeout_sec=0.1)
        delays.clear()
        ends.clear()
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            rclpy.spin_once(robot, timeout_sec=0.1)
        sender.join()
    finally:
        node.terminate()
        node.wait()
    rate = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
    return {"hz": rate, "ms": 1000 * median(delays) if delays else float("nan"), **values}


def main() -> None:
    """Print rate and latency."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan")
    parser.add_argument("--images", nargs="*", default=[], help="to send; else noise")
    parser.add_argument("--size", default="720x1280", help="of the images sent, HxW")
    parser.add_argument("--compressed", action="store_true", help="send JPEGs")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warm-up", type=float, default=5.0, metavar="SECONDS")
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    rng = np.random.default_rng(0)
    pictures = [
        np.asarray(Image.open(path).convert("RGB").resize((width, height)))
        for path in arguments.images
    ] or [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(3)]
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    found = measured(arguments, pictures)
    print(
        f"{found['hz']:.1f} label images a second, {found['ms']:.0f} ms from stamp to label image, "
        f"engine {found.get('engine_ms', '')} ms, received {found.get('received', '')}, "
        f"replaced by newer ones {found.get('dropped', '')}"
    )


if __name__ == "__main__":
    main()
