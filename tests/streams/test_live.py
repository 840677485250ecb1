"""Live streams: a real RTSP server that is killed, HTTP, GStreamer, cameras, watched folders."""

from __future__ import annotations

import http.server
import io
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.errors import ArgumentError, ImageError, MissingExtraError
from xdecoder_rt.streams import reconnect
from xdecoder_rt.streams.address import without_password
from xdecoder_rt.streams.frames import FrameSource, open_frames
from xdecoder_rt.streams.mailbox import FrameReader
from xdecoder_rt.streams.pipeline import csi_pipeline
from xdecoder_rt.streams.reconnect import LiveStream

PATIENCE = 60.0  # seconds that a busy machine may need for anything here


def red_square(shade: int) -> np.ndarray:
    return np.full((48, 64, 3), (shade, 0, 0), np.uint8)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "_LONGEST_WAIT", 1.0)


class RtspServer:
    """A server of RTSP, in a process that can be killed."""

    CODE = (
        "import asyncio, sys; from aio_rtsp_toolkit import server; "
        "asyncio.run(server.serve(sys.argv[1], '127.0.0.1', int(sys.argv[2])))"
    )

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"rtsp://127.0.0.1:{self.port}/clip.mp4"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(self.folder), str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(lambda: answers(self.port))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def rtsp(tmp_path: Path) -> Iterator[RtspServer]:
    pytest.importorskip("aio_rtsp_toolkit", reason="the RTSP server is aio-rtsp-toolkit (dev)")
    av = pytest.importorskip("av", reason="RTSP needs PyAV (extra video)")
    if "libx264" not in av.codecs_available:
        pytest.skip("this PyAV cannot encode the video that is served")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(25 * 60):
            frame = av.VideoFrame.from_ndarray(red_square(200), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    server = RtspServer(tmp_path)
    yield server
    server.kill()


class TestRtsp:
    @pytest.mark.timeout(240)
    def test_a_server_that_is_killed_and_started_again_goes_on_with_its_frames(
        self, rtsp: RtspServer, in_a_hurry: None
    ) -> None:
        told: list[str] = []
        source = open_frames(rtsp.address, tell=told.append)
        assert (source.is_live, source.fps, source.announced) == (True, 25.0, None)
        times: list[float] = []
        is_killed = False
        with FrameReader(source, on_stop=source.stop, on_end=source.close) as reader:
            while "is back after" not in " ".join(told) or len(times) < 20:
                frame = reader.box.take(timeout=PATIENCE)
                assert frame is not None
                assert frame.content.pixels.shape == (48, 64, 3)
                assert abs(int(frame.content.pixels[20, 30, 0]) - 200) < 12
                times.append(frame.content.seconds)
                if len(times) == 10:
                    rtsp.kill()
                    is_killed = True
                    threading.Timer(1.5, rtsp.start).start()
        assert is_killed
        assert len(told) == 2 and "is lost" in told[0] and "is back after" in told[1]
        assert times == sorted(times) and len(set(times)) == len(times)
        # The stream's own stamps: frames of 25 a second lie 40 ms apart.
        steps = np.diff(times[:9])
        assert np.allclose(steps / 0.04, np.round(steps / 0.04), atol=0.1)
        # The pause is in the times.
        assert max(np.diff(times)) > 1.0
        assert source.failures == []

    def test_a_server_that_is_not_there_is_refused_at_once(self) -> None:
        pytest.importorskip("av")
        with pytest.raises(ImageError, match=r"rtsp://127.*cannot be opened: connection refused"):
            open_frames(f"rtsp://127.0.0.1:{free_port()}/camera")

    def test_a_password_is_in_no_message(self) -> None:
        pytest.importorskip("av")
        with pytest.raises(ImageError) as error:
            open_frames(f"rtsp://admin:hunter2@127.0.0.1:{free_port()}/camera")
        assert "hunter2" not in str(error.value) and "127.0.0.1" in str(error.value)
        assert without_password("rtsp://a:b@host/x@y") == "rtsp://…@host/x@y"


class Camera(http.server.BaseHTTPRequestHandler):
    """An IP camera that sends JPEGs one after the other, and a file behind it."""

    clip = b""

    def do_GET(self) -> None:  # noqa: N802
        self.send_response(200)
        if self.path == "/clip.mkv":
            self.send_header("Content-Length", str(len(self.clip)))
            self.end_headers()
            self.wfile.write(self.clip)
            return
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for shade in range(0, 250, 50):
            picture = io.BytesIO()
            Image.fromarray(red_square(shade)).save(picture, "JPEG")
            self.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: "
                + str(len(picture.getvalue())).encode() + b"\r\n\r\n"
                + picture.getvalue() + b"\r\n"
            )  # fmt: skip
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    av = pytest.importorskip("av", reason="HTTP needs PyAV (extra video)")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(7):
            frame = av.VideoFrame.from_ndarray(red_square(100), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    monkeypatch.setattr(Camera, "clip", path.read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class TestHttp:
    def test_a_camera_that_sends_jpegs_is_read_and_opened_again_when_it_ends(
        self, web: str, in_a_hurry: None
    ) -> None:
        told: list[str] = []
        source = open_frames(f"{web}/video", tell=told.append)
        reds = []
        for frame in source:
            reds.append(round(int(frame.pixels[20, 30, 0]) / 50) * 50)
            if len(reds) == 7:
                source.stop()
        source.close()
        assert reds[0] == 0 and reds.count(0) == 2
        assert "is lost (" in told[0] and "is back" in told[1]

    def test_a_file_ends_where_it_ends(self, web: str) -> None:
        source = open_frames(f"{web}/clip.mkv")
        frames = list(source)
        source.close()
        assert len(frames) == 7
        assert np.allclose([frame.seconds for frame in frames], np.arange(7) / 10, atol=2e-3)

    def test_a_play_list_opens_no_file_of_this_machine(self, tmp_path: Path, web: str) -> None:
        listing = f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/clip.mkv\n#EXT-X-ENDLIST\n"
        Camera.clip = listing.encode()
        with pytest.raises(ImageError):
            list(open_frames(f"{web}/clip.mkv"))


needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="GStreamer's gst-launch-1.0 is not installed"
)


class TestPipelines:
    @needs_gstreamer
    def test_frames_come_with_their_time_stamps_and_the_end_is_the_end(self) -> None:
        pytest.importorskip("av")
        told: list[str] = []
        source = open_frames(
            "videotestsrc num-buffers=12 is-live=true pattern=red ! "
            "video/x-raw,width=64,height=48,framerate=5/1 ! videoconvert ! appsink drop=1",
            tell=told.append,
        )
        frames = list(source)
        source.close()
        assert source.is_live and source.fps == 5.0 and not told
        assert 1 < len(frames) <= 12  # old ones are let go of when the reader is late
        assert all(frame.pixels.shape == (48, 64, 3) for frame in frames)
        assert (frames[0].pixels[..., 0] > 240).all() and (frames[0].pixels[..., 1:] < 15).all()
        steps = np.diff([frame.seconds for frame in frames])
        assert np.allclose(steps / 0.2, np.round(steps / 0.2), atol=0.02) and steps.min() > 0

    @needs_gstreamer
    @pytest.mark.parametrize(
        ("pipeline", "reason"),
        [
            ("no_such_element ! videoconvert", "no_such_element"),
            ("filesrc location=/nowhere.mp4 ! decodebin", "not found"),
            ('videotestsrc ! "unclosed', "No closing quotation"),
        ],
    )
    def test_a_pipeline_that_gives_nothing_says_why(self, pipeline: str, reason: str) -> None:
        pytest.importorskip("av")
        with pytest.raises(ImageError, match=f"(?i){reason}"):
            open_frames(pipeline)

    @needs_gstreamer
    def test_a_pipeline_that_is_stopped_leaves_no_child(self) -> None:
        pytest.importorskip("av")
        source = open_frames("videotestsrc is-live=true ! video/x-raw,width=64,height=48")
        assert isinstance(source, LiveStream)
        with FrameReader(source, on_stop=source.stop, on_end=source.close) as reader:
            assert reader.box.take(PATIENCE) is not None
        child = source._connection._child  # type: ignore[union-attr]
        until(lambda: child.poll() is not None)

    def test_without_gstreamer_its_packages_are_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("av")
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(ImageError, match=r"gst-launch-1\.0.*apt install gstreamer1\.0-tools"):
            open_frames("videotestsrc ! videoconvert")

    def test_a_camera_on_csi_is_nvidias_own_pipeline(self) -> None:
        assert csi_pipeline("csi://0") == (
            "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12,width=1280,"
            "height=720,framerate=30/1 ! nvvidconv flip-method=0 ! video/x-raw,format=BGRx"
        )
        other = csi_pipeline("csi://1?width=1920&height=1080&fps=60&flip=2")
        assert "sensor-id=1" in other and "width=1920,height=1080,framerate=60/1" in other
        assert "flip-method=2" in other

    @pytest.mark.parametrize("address", ["csi://", "csi://x", "csi://0?speed=3", "csi://0?fps=x"])
    def test_an_address_that_is_no_camera_on_csi_is_refused(self, address: str) -> None:
        with pytest.raises(ArgumentError, match=r"csi://0\?width=1920"):
            open_frames(address)


class FakeOpenCV:
    """OpenCV with one camera, which is unplugged after three frames and back after two tries."""

    CAP_PROP_FPS, CAP_PROP_BUFFERSIZE, COLOR_BGR2RGB = 5, 38, 4

    def __init__(self) -> None:
        self.tries = 0
        self.released = 0
        self.buffers: list[float] = []

    def VideoCapture(self, number: int) -> FakeOpenCV:  # noqa: N802
        self.tries += 1
        self.left = 3
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return self.tries not in (2, 3)

    def get(self, name: int) -> float:
        return 15.0

    def set(self, name: int, value: float) -> None:
        self.buffers.append(value)

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return self.left >= 0, np.full((4, 6, 3), (0, 0, 9), np.uint8)

    def cvtColor(self, frame: Any, code: int) -> Any:  # noqa: N802
        return frame[:, :, ::-1]

    def release(self) -> None:
        self.released += 1


class TestCameras:
    @pytest.mark.parametrize("name", ["3", "/dev/video3"])
    def test_a_camera_that_is_unplugged_is_opened_again(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconnect, "_FIRST_WAIT", 0.01)
        cv2 = FakeOpenCV()
        monkeypatch.setitem(sys.modules, "cv2", cv2)
        told: list[str] = []
        source = open_frames(name, tell=told.append)
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 5:
                source.stop()
        source.close()
        assert source.fps == 15.0 and cv2.tries == 4 and set(cv2.buffers) == {1}
        assert [tuple(frame.pixels[0, 0]) for frame in frames] == [(9, 0, 0)] * 5
        assert told[0].startswith("camera 3 is lost (it gives no more frames)")
        assert "camera 3 is back" in told[1] and len(told) == 2

    def test_waiting_grows_and_a_frame_resets_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setitem(sys.modules, "cv2", cv2 := FakeOpenCV())
        source = open_frames("3")
        assert isinstance(source, LiveStream)
        monkeypatch.setattr(
            source._stopped,
            "wait",
            lambda seconds: bool(waits.append(seconds)),  # type: ignore
        )
        frames = iter(source)
        for _ in range(4):
            next(frames)
        assert waits == [0.5, 1.0, 2.0] and cv2.tries == 4
        for _ in range(3):
            next(frames)
        assert waits == [0.5, 1.0, 2.0, 0.5]

    def test_a_wait_for_a_lost_stream_ends_when_it_is_stopped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconnect, "_FIRST_WAIT", 600.0)
        monkeypatch.setitem(sys.modules, "cv2", FakeOpenCV())
        source = open_frames("3")
        threading.Timer(0.2, source.stop).start()
        start = time.monotonic()
        assert len(list(source)) == 3
        assert time.monotonic() - start < 30


class TestPatterns:
    @pytest.mark.parametrize(
        "pattern", ["*.png", "shot_%d.png", "shot_[0-9]*.png", "shot_%01d.png"]
    )
    def test_a_pattern_gives_its_files_by_number(self, pattern: str, tmp_path: Path) -> None:
        for number in (10, 2, 1):
            Image.fromarray(red_square(number)).save(tmp_path / f"shot_{number}.png")
        Image.fromarray(red_square(7)).save(tmp_path / "other.jpg")
        source = open_frames(str(tmp_path / pattern), 4.0)
        frames = list(source)
        assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2, 10]
        assert [frame.seconds for frame in frames] == [0, 0.25, 0.5]
        assert source.announced == 3

    def test_a_pattern_without_files_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="No file is named as"):
            open_frames(str(tmp_path / "shot_%05d.png"))


class TestWatchedFolder:
    def taken(self, source: FrameSource, reds: list[int]) -> FrameReader[Any]:
        return FrameReader(
            (reds.append(int(frame.pixels[0, 0, 0])) for frame in source), on_stop=source.stop
        )

    def test_images_are_given_as_they_come_and_partial_ones_are_waited_for(
        self, tmp_path: Path
    ) -> None:
        Image.fromarray(red_square(1)).save(tmp_path / "1.png")
        source = open_frames(f"watch:{tmp_path}")
        assert source.is_live
        reds: list[int] = []
        with self.taken(source, reds):
            until(lambda: reds == [1])
            whole = io.BytesIO()
            noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
            noise[0, 0, 0] = 2
            Image.fromarray(noise).save(whole, "PNG")
            with open(tmp_path / "2.png", "wb") as file:
                half = len(whole.getvalue()) // 2
                file.write(whole.getvalue()[:half])
                file.flush()
                time.sleep(0.5)
                assert reds == [1] and not source.failures
                file.write(whole.getvalue()[half:])
            until(lambda: reds == [1, 2])
            # Written anew under its name.
            Image.fromarray(red_square(3)).save(tmp_path / "1.png")
            until(lambda: reds == [1, 2, 3])
        assert source.missing == 0

    def test_a_file_that_stays_partial_is_reported_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("xdecoder_rt.streams.folders._PARTIAL_SECONDS", 0.3)
        (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        source = open_frames(f"watch:{tmp_path}")
        reds: list[int] = []
        with self.taken(source, reds):
            until(lambda: source.missing == 1)
            time.sleep(0.3)
        assert source.missing == 1 and "1.png" in str(source.failures[0]) and not reds

    def test_memory_does_not_grow_with_files_that_are_gone(self, tmp_path: Path) -> None:
        source = open_frames(f"watch:{tmp_path}")
        reds: list[int] = []
        with self.taken(source, reds):
            for number in range(5):
                Image.fromarray(red_square(number)).save(tmp_path / "latest.tmp.png")
                (tmp_path / "latest.tmp.png").rename(tmp_path / f"{number}.png")
                until(lambda number=number: number in reds)  # type: ignore[misc]
                (tmp_path / f"{number}.png").unlink()
            until(lambda: not source._given)  # type: ignore[attr-defined]

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="cannot be read"):
            open_frames(f"watch:{tmp_path}/none")


@pytest.mark.parametrize("source", ["rtsp://127.0.0.1/x", "http://127.0.0.1/x", "a ! b", "csi://0"])
def test_without_pyav_the_extra_is_named(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[video\]"):
        open_frames(source)
