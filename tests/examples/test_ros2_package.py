"""The ROS 2 package without ROS: encodings, words, requests, messages on stand-ins."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.errors import ArgumentError, ImageError, VocabularyError, XDecoderError
from xdecoder_rt.results import Segmentation
from xdecoder_rt.space.places import SpaceBox

PACKAGE = Path(__file__).parents[2] / "examples/ros2/xdecoder_ros"
sys.path.insert(0, str(PACKAGE))

from xdecoder_ros.encodings import ENCODINGS, decoded, depth_of, pixels_of  # noqa: E402
from xdecoder_ros.messages import LABEL_TYPES, Messages, quaternion, segment_entries  # noqa: E402
from xdecoder_ros.requests import Request  # noqa: E402
from xdecoder_ros.words import Wording  # noqa: E402

COLOUR = (200, 120, 40)
H, W = 6, 8


def message(encoding: str, rows: Any, pad: int = 0, big: int = 0, height: int = H) -> Any:
    rows = np.ascontiguousarray(rows)
    rows = rows.view(np.uint8).reshape(rows.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    return SimpleNamespace(
        encoding=encoding, height=height, width=W, step=padded.shape[1], is_bigendian=big,
        data=padded.tobytes(),
    )  # fmt: skip


def yuv(colour: tuple[int, ...] = COLOUR) -> tuple[int, int, int]:
    r, g, b = colour
    y = 16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256
    u = 128 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256
    v = 128 + (112.439 * r - 94.154 * g - 18.285 * b) / 256
    return round(y), round(u), round(v)


def sent(encoding: str, pad: int = 0, big: int = 0) -> Any:
    """Return a message of one colour in an encoding, as its definition says."""
    r, g, b = COLOUR
    y, u, v = yuv()
    many = {
        "rgb8": (r, g, b), "bgr8": (b, g, r), "rgba8": (r, g, b, 9), "bgra8": (b, g, r, 9),
        "8UC3": (b, g, r), "8UC4": (b, g, r, 9), "mono8": (r,), "8UC1": (r,),
    }  # fmt: skip
    if encoding in many:
        return message(encoding, np.tile(np.array(many[encoding], np.uint8), (H, W)), pad)
    kind = ">u2" if big else "<u2"
    wide = {"rgb16": (r, g, b), "bgr16": (b, g, r), "mono16": (r,), "16UC1": (r,)}
    if encoding in wide:
        values = np.tile(np.array(wide[encoding], np.uint16) * 256 + 5, (H, W)).astype(kind)
        return message(encoding, values, pad, big)
    quads = {
        "yuv422": (u, y, v, y), "uyvy": (u, y, v, y),
        "yuv422_yuy2": (y, u, y, v), "yuyv": (y, u, y, v),
    }  # fmt: skip
    if encoding in quads:
        return message(encoding, np.tile(np.array(quads[encoding], np.uint8), (H, W // 2)), pad)
    if encoding.startswith("nv"):
        pair = (v, u) if encoding == "nv21" else (u, v)
        light = np.full((H, W), y, np.uint8)
        if encoding == "nv24":
            colours = np.tile(np.array(pair, np.uint8), (2 * H, W // 2))
        else:
            colours = np.tile(np.array(pair, np.uint8), (H // 2, W // 2))
        return message(encoding, np.concatenate((light, colours)), pad)
    order, bits = encoding[6:10], int(encoding[10:])
    tile = np.array([{"r": r, "g": g, "b": b}[letter] for letter in order]).reshape(2, 2)
    mosaic = np.tile(tile, (H // 2, W // 2))
    values = mosaic.astype(np.uint8) if bits == 8 else (mosaic * 256 + 5).astype(kind)
    return message(encoding, values, pad, big)


class TestEncodings:
    @pytest.mark.parametrize("pad", [0, 6])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_a_colour_is_itself_in_every_encoding(self, encoding: str, pad: int) -> None:
        pixels = pixels_of(sent(encoding, pad))
        grey = encoding in ("mono8", "8UC1", "mono16", "16UC1")
        assert pixels.shape == (H, W, 3) and pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        expected = (COLOUR[0],) * 3 if grey else COLOUR
        assert np.abs(pixels.astype(int) - expected).max() <= 3

    @pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16", "16UC1"])
    def test_bytes_in_the_other_order(self, encoding: str) -> None:
        assert (pixels_of(sent(encoding, big=1)) == pixels_of(sent(encoding))).all()

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_too_few_bytes_are_refused(self, encoding: str) -> None:
        short = sent(encoding)
        short.data = short.data[:-1]
        with pytest.raises(ImageError, match="bytes"):
            pixels_of(short)

    @pytest.mark.parametrize("encoding", ["", "jpeg", "bayer_rggb12", "rgb8; x", "64FC3"])
    def test_an_encoding_that_is_unknown_is_refused(self, encoding: str) -> None:
        with pytest.raises(ImageError, match="one of rgb8"):
            pixels_of(message(encoding, np.zeros((H, W), np.uint8)))

    def test_a_step_shorter_than_a_row_or_an_empty_image_is_refused(self) -> None:
        for name, value in (("step", 3), ("width", 0), ("height", 0)):
            wrong = sent("rgb8")
            setattr(wrong, name, value)
            with pytest.raises(ImageError, match="rows of at least"):
                pixels_of(wrong)

    def test_an_edge_stays_where_it_is_in_a_mosaic(self) -> None:
        mosaic = np.zeros((H, W), np.uint8)
        mosaic[:, W // 2 :] = 240
        pixels = pixels_of(message("bayer_gbrg8", mosaic))
        assert pixels[:, : W // 2 - 1].max() == 0 and pixels[:, W // 2 + 1 :].min() == 240

    @pytest.mark.parametrize("encoding", ["yuv422", "yuyv", "nv12", "nv21"])
    def test_an_odd_width_is_refused_where_pixels_share_their_colour(self, encoding: str) -> None:
        odd = sent(encoding)
        odd.width -= 1
        with pytest.raises(ImageError, match="even"):
            pixels_of(odd)


class TestCompressed:
    def data(self, form: str) -> bytes:
        file = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(noise).save(file, form)
        return file.getvalue()

    def test_a_jpeg_without_its_end_marker_is_whole(self) -> None:
        whole = self.data("JPEG")
        assert whole.endswith(b"\xff\xd9")
        full = decoded(SimpleNamespace(data=whole, format="jpeg"))
        cut = decoded(SimpleNamespace(data=whole[:-2], format="jpeg"))
        assert (full == cut).all() and full.shape == (40, 60, 3)

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"nothing", b"\x89PNG\r\n\x1a\n"])
    def test_what_is_no_image_is_refused(self, data: bytes) -> None:
        with pytest.raises(ImageError):
            decoded(SimpleNamespace(data=data, format="jpeg"))

    def test_a_jpeg_that_lacks_its_second_half_is_refused(self) -> None:
        data = self.data("JPEG")
        with pytest.raises(ImageError):
            decoded(SimpleNamespace(data=data[: len(data) // 2], format="jpeg"))

    def test_png(self) -> None:
        found = decoded(SimpleNamespace(data=self.data("PNG"), format="rgb8; png"))
        assert found.shape == (40, 60, 3)


class TestDepth:
    @pytest.mark.parametrize(("encoding", "kind"), [("16UC1", "u2"), ("32FC1", "f4")])
    @pytest.mark.parametrize("big", [0, 1])
    @pytest.mark.parametrize("pad", [0, 8])
    def test_millimetres_and_metres(self, encoding: str, kind: str, big: int, pad: int) -> None:
        values = np.arange(H * W).reshape(H, W).astype((">" if big else "<") + kind)
        found = depth_of(message(encoding, values, pad, big))
        assert found.dtype == np.dtype(kind) and (found == np.arange(H * W).reshape(H, W)).all()

    def test_another_encoding_is_refused(self) -> None:
        with pytest.raises(ImageError, match="16UC1 in millimetres"):
            depth_of(message("rgb8", np.zeros((H, 3 * W), np.uint8)))


class TestWords:
    def test_lines_have_synonyms_and_rules(self) -> None:
        wording = Wording.of(["# kitchen", "mug | cup [threshold 0.4]", "", "floor [stuff, id 7]"])
        assert wording.lines == ("mug | cup [threshold 0.4]", "floor [stuff, id 7]")
        assert wording.vocabulary is not None
        assert wording.vocabulary.labels[:2] == ("mug", "floor") or list(
            wording.vocabulary.labels[:2]
        ) == ["mug", "floor"]
        assert (8, "floor") in wording.classes() and wording.classes()[0] == (0, "none")

    @pytest.mark.parametrize("lines", [[], [""], ["# nothing"], ["", "  "]])
    def test_no_words_look_for_nothing(self, lines: list[str]) -> None:
        assert Wording.of(lines).vocabulary is None

    def test_words_keep_the_ids_that_they_had(self) -> None:
        before = Wording.of(["mug", "bowl"])
        after = dict(
            (name, number) for number, name in Wording.of(["plate", "bowl"], before).classes()
        )
        assert after["bowl"] == 2 and after["plate"] not in (0, 1, 2)

    @pytest.mark.parametrize("lines", [["mug", "mug"], ["mug [colour red]"], ["- mug"]])
    def test_lines_that_are_not_understood_are_refused(self, lines: list[str]) -> None:
        with pytest.raises(VocabularyError):
            Wording.of(lines)


class TestRequests:
    def test_json_and_bare_text(self) -> None:
        request = Request.parse("ask", '{"id": 7, "question": "what?", "choices": ["a"]}', 0.0)
        assert (request.id, request.values) == (7, {"question": "what?", "choices": ["a"]})
        assert Request.parse("find", "the red mug", 0.0).values == {"phrase": "the red mug"}
        assert Request.parse("describe", "", 0.0).values == {}

    @pytest.mark.parametrize(
        "text",
        [
            '{"id": 1}', '{"id": 1, "question": 3}', '{"id": 1, "question": "x", "y": 1}',
            '{"id": {}, "question": "x"}', "{", "{" * 10_000, '{"a": NaN}', "x" * 70_000,
        ],
    )  # fmt: skip
    def test_what_is_no_request_is_refused_with_its_id(self, text: str) -> None:
        with pytest.raises(ArgumentError, match="cannot be read") as refusal:
            Request.parse("ask", text, 0.0)
        if text.startswith('{"id": 1'):
            assert refusal.value.request_id == 1  # type: ignore[attr-defined]

    def test_answers_of_an_engine(self, tiny_plan: Path) -> None:
        with Engine(tiny_plan, backend="onnxruntime", threads=1) as engine:
            state = engine.encode(np.zeros((48, 64, 3), np.uint8))
            asked = {
                "ask": '{"id": "a", "question": "is it on?", "choices": ["yes", "no"]}',
                "describe": '{"id": "b", "box": [4, 4, 40, 40]}',
                "find": '{"id": "c", "phrase": "the mug", "min_score": 0}',
            }
            found = {k: Request.parse(k, v, 0.0).answered(engine, state) for k, v in asked.items()}
            assert found["ask"]["answer"] in ("yes", "no") and found["ask"]["id"] == "a"
            assert isinstance(found["describe"]["caption"], str)
            assert found["find"]["phrase"] == "the mug" and len(found["find"]["box"]) == 4
            json.dumps(found)
            outside = Request.parse("describe", '{"id": 1, "box": [900, 0, 901, 1]}', 0.0)
            assert "error" in outside.answered(engine, state)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": NaN, "phrase": "a"}', '{"id": 1e400, "phrase": "a"}', '{"id": [], "phrase": "a"}',
        '{"id": 1, "phrase": "a", "min_score": NaN}', '{"id": 1, "phrase": "a", "min_score": true}',
        '{"id": 1, "phrase": "\\ud800"}', '{"id": "\\ud800", "phrase": "a"}', "{" * 60_000,
    ],
)  # fmt: skip
def test_a_request_that_no_answer_can_carry_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Request.parse("find", text, 0.0)
    number = getattr(caught.value, "request_id", None)
    json.dumps({"id": number, "error": str(caught.value)}, allow_nan=False).encode()


def test_a_request_that_breaks_something_is_an_error_and_not_the_end() -> None:
    class Broken:
        def answer(self, *_: Any) -> Any:
            raise ZeroDivisionError("a fault of ours")

    request = Request.parse("ask", '{"id": 5, "question": "is it on?"}', 0.0)
    broken: Any = Broken()
    found = request.answered(broken, broken)
    assert found == {"id": 5, "error": "ZeroDivisionError: a fault of ours"}


class Fields:
    """A message of vision_msgs: it takes its own fields and no others."""

    FIELDS: dict[str, Any] = {}

    def __init__(self, **values: Any) -> None:
        for name, kind in self.FIELDS.items():
            object.__setattr__(self, name, kind())
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.FIELDS[name]
        assert isinstance(value, kind) or kind is object, (type(self).__name__, name, value)
        object.__setattr__(self, name, value)


def stand_in(name: str, **fields: Any) -> Any:
    return type(name, (Fields,), {"FIELDS": fields})


Point = stand_in("Point", x=float, y=float, z=float)
Turn = stand_in("Quaternion", x=float, y=float, z=float, w=float)
Pose = stand_in("Pose", position=Point, orientation=Turn)
Hypothesis = stand_in("ObjectHypothesis", class_id=str, score=float)
Pose2D = stand_in("Pose2D", position=stand_in("Point2D", x=float, y=float), theta=float)
Box2D = stand_in("BoundingBox2D", center=Pose2D, size_x=float, size_y=float)
Box3D = stand_in("BoundingBox3D", center=Pose, size=stand_in("Vector3", x=float, y=float, z=float))
WithPose = stand_in(
    "ObjectHypothesisWithPose",
    hypothesis=Hypothesis, pose=stand_in("PoseWithCovariance", pose=Pose),
)  # fmt: skip
VISION: Any = SimpleNamespace(  # as vision_msgs 4 has them
    ObjectHypothesisWithPose=WithPose,
    Detection2D=stand_in("Detection2D", header=object, results=list, bbox=Box2D, id=str),
    Detection2DArray=stand_in("Detection2DArray", header=object, detections=list),
    Detection3D=stand_in("Detection3D", header=object, results=list, bbox=Box3D, id=str),
    Detection3DArray=stand_in("Detection3DArray", header=object, detections=list),
    VisionClass=stand_in("VisionClass", class_id=int, class_name=str),
    LabelInfo=stand_in("LabelInfo", header=object, class_map=list, threshold=float),
)


STD: Any = SimpleNamespace(String=stand_in("String", data=str))
SENSOR: Any = SimpleNamespace(
    Image=stand_in(
        "Image", header=object, encoding=str, is_bigendian=int, height=int, width=int, step=int,
        data=object,
    ),
)  # fmt: skip


class TestMessages:
    """On stand-ins; ``.ci/ros2`` has the real ones."""

    def segmentation(self) -> Segmentation:
        ids = np.zeros((40, 60), np.int32)
        ids[10:30, 20:50] = 70
        info = {"id": 70, "label_id": 3, "label": "mug", "score": 0.5, "area": 600, "isthing": True}
        return Segmentation(ids, [info])

    def test_boxes_in_the_image_and_in_space(self) -> None:
        found = self.segmentation()
        maker = Messages(VISION, VISION, VISION, "mono16")
        places = found.in_space(np.full((40, 60), 2.0), (50.0, 50.0, 29.5, 19.5))
        (flat,) = maker.detections(segment_entries(found, places), "header").detections
        assert (flat.id, flat.header) == ("70", "header")
        assert (flat.bbox.center.position.x, flat.bbox.center.position.y) == (35.0, 20.0)
        assert (flat.bbox.size_x, flat.bbox.size_y) == (30.0, 20.0)
        assert flat.results[0].hypothesis.class_id == "mug"
        (solid,) = maker.detections_in_space([*places, None], "header").detections
        assert solid.bbox.center.position.z == pytest.approx(2.0)
        assert solid.bbox.size.x == pytest.approx(1.2, abs=0.05)
        assert solid.results[0].pose.pose.position.x == pytest.approx(0.2, abs=0.03)

    @pytest.mark.parametrize(("encoding", "kind"), [("mono16", "<u2"), ("32SC1", "<i4")])
    def test_label_images_hold_ids_and_classes(self, encoding: str, kind: str) -> None:
        found = self.segmentation()
        maker = Messages(SENSOR, STD, None, encoding)
        for message, value in ((maker.labels(found, "h"), 70), (maker.classes(found, "h"), 4)):
            assert (message.encoding, message.height, message.width) == (encoding, 40, 60)
            assert message.step == 60 * np.dtype(kind).itemsize and message.header == "h"
            pixels = np.frombuffer(message.data, kind).reshape(40, 60)
            assert (pixels == np.where(found.segmentation == 70, value, 0)).all()

    def test_an_id_that_does_not_fit_is_none_in_the_image_and_told(self) -> None:
        found = self.segmentation()
        found.segmentation[found.segmentation == 70] = 70_000
        found.segments_info[0]["id"] = 70_000
        for encoding, fits in (("mono16", False), ("32SC1", True)):
            maker = Messages(SENSOR, STD, None, encoding)
            assert maker.holds(found) is fits
            pixels = np.frombuffer(maker.labels(found, "h").data, LABEL_TYPES[encoding])
            assert pixels.max() == (70_000 if fits else 0)
            classes = np.frombuffer(maker.classes(found, "h").data, LABEL_TYPES[encoding])
            assert classes.max() == 4

    def test_an_image_without_segments_is_none_everywhere(self) -> None:
        empty = Segmentation(np.zeros((4, 6), np.int32), [])
        maker = Messages(SENSOR, STD, None, "mono16")
        for message in (maker.labels(empty, "h"), maker.classes(empty, "h")):
            assert bytes(message.data) == bytes(48)

    def test_classes_have_names(self) -> None:
        info = Messages(VISION, VISION, VISION, "mono16").label_info([(0, "none"), (4, "mug")], "h")
        assert [(one.class_id, one.class_name) for one in info.class_map] == [
            (0, "none"), (4, "mug"),
        ]  # fmt: skip

    def test_another_encoding_of_labels_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="mono16 or 32SC1"):
            Messages(VISION, VISION, VISION, "rgb8")


@pytest.mark.parametrize("seed", range(20))
def test_the_quaternion_of_a_box_is_its_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    if seed < 3:  # half a turn about an axis
        axes = np.diag(np.where(np.arange(3) == seed, 1.0, -1.0))
    x, y, z, w = quaternion(SpaceBox(np.zeros(3), np.ones(3), axes))
    again = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    assert np.allclose(again, axes, atol=1e-9)


def test_the_package_names_its_files() -> None:
    text = (PACKAGE / "setup.py").read_text()
    for name in ("package.xml", "launch/xdecoder.launch.py", "config/params.yaml"):
        assert (PACKAGE / name).is_file() and name in text
    compile((PACKAGE / "launch/xdecoder.launch.py").read_text(), "launch", "exec")
    assert issubclass(VocabularyError, XDecoderError)
