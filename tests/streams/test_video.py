"""Video files: frames at their times, and what is missing is told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.cli.sinks import Video
from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.streams.frames import open_frames
from xdecoder_rt.streams.timed import TimedFrame

av = pytest.importorskip("av", reason="videos need PyAV (extra video)")

SIZE = (64, 48)
# As a browser records: 30 frames in a second, not quite even.
TIMES = [number / 30 + number % 3 * 0.004 for number in range(30)]


def noise(number: int) -> Any:
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def write_video(
    path: Path,
    times: Sequence[float] = TIMES,
    codec: str = "mpeg4",
    rate: int = 1000,
    **options: str,
) -> Path:
    """Write a video that counts in milliseconds and announces `rate` frames a second."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        clock = Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = clock
        for number, seconds in enumerate(times):
            frame = noise(number)
            frame.pts, frame.time_base = round(1000 * seconds), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path, fps: float | None = None) -> tuple[list[TimedFrame], Any]:
    source = open_frames(str(path), fps)
    frames = list(source)
    source.close()
    return frames, source


def cut(path: Path, share: float = 0.6) -> Path:
    target = path.with_name(f"cut{path.suffix}")
    data = path.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    return target


class TestTimes:
    @pytest.mark.parametrize("name", ["clip.webm", "clip.mp4", "clip.mkv"])
    def test_frames_come_at_their_time_stamps_whatever_rate_is_announced(
        self, tmp_path: Path, name: str
    ) -> None:
        path = write_video(tmp_path / name, codec="libvpx" if name == "clip.webm" else "mpeg4")
        frames, source = read(path)
        assert [frame.seconds for frame in frames] == pytest.approx(TIMES, abs=0.0015)
        assert 25 < source.fps < 35
        assert (source.missing, source.failures) == (0, [])

    def test_a_chosen_pace_replaces_the_time_stamps(self, tmp_path: Path) -> None:
        frames, source = read(write_video(tmp_path / "clip.mp4"), fps=10.0)
        assert [frame.seconds for frame in frames[:3]] == [0.0, 0.1, 0.2]
        assert source.fps == 10.0

    def test_a_pause_in_a_recording_stays_one(self, tmp_path: Path) -> None:
        times = [0.0, 0.1, 0.2, 5.2, 5.3]
        frames, source = read(write_video(tmp_path / "clip.mkv", times))
        assert [frame.seconds for frame in frames] == pytest.approx(times)
        assert source.missing == 0

    def test_a_clock_that_jumps_by_an_hour_does_not_stop_the_show(self, tmp_path: Path) -> None:
        frames, _ = read(write_video(tmp_path / "clip.mkv", [0.0, 0.1, 0.2, 3600.2, 3600.3]))
        assert frames[-1].seconds == pytest.approx(0.4)

    @pytest.mark.parametrize("rotation", [90, 180, 270])
    def test_frames_are_upright(self, tmp_path: Path, rotation: int) -> None:
        path = write_video(tmp_path / "clip.mp4")
        (plain, *_), _ = read(path)
        data = bytearray(path.read_bytes())
        place = data.index(b"tkhd") + 44  # the matrix of a track of version 0
        a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
        data[place : place + 36] = struct.pack(
            ">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30
        )
        path.write_bytes(data)
        (turned, *_), _ = read(path)
        np.testing.assert_array_equal(turned.pixels, np.rot90(plain.pixels, -rotation // 90))


class TestWhatIsMissing:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("clip.mp4", {"movflags": "faststart"}),
            ("clip.mp4", {"movflags": "frag_keyframe+empty_moov"}),
            ("clip.mkv", {}),
            ("clip.webm", {}),
            ("clip.webm", {"live": "1"}),  # a browser's: neither duration nor sizes
            ("clip.flv", {}),
        ],
    )
    def test_a_cut_video_says_so(self, tmp_path: Path, name: str, options: dict[str, str]) -> None:
        codec = {".webm": "libvpx", ".flv": "flv"}.get(Path(name).suffix, "mpeg4")
        whole = write_video(tmp_path / name, codec=codec, **options)
        frames, source = read(whole)
        assert (len(frames), source.missing) == (30, 0), source.failures
        frames, source = read(cut(whole))
        assert 0 < len(frames) < 30
        assert source.missing > 0
        assert "is not whole" in str(source.failures[0])

    def test_a_cut_avi_names_the_frames_announced(self, tmp_path: Path) -> None:
        sink = Video(tmp_path / "clip.avi", 25)
        for number in range(30):
            sink.show(noise(number).to_image(), number)
        sink.close(keep=True)
        frames, source = read(tmp_path / "clip.avi")
        assert (len(frames), source.missing, source.fps) == (30, 0, 25.0)
        frames, source = read(cut(tmp_path / "clip.avi"))
        assert len(frames) + source.missing == 30 and source.announced == 30
        assert "of 30 frames announced are missing" in str(source.failures[0])

    def test_a_damaged_video_counts_what_is_lost(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4")
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
        path.write_bytes(data)
        frames, source = read(path)
        assert source.missing > 0 and source.announced == 30
        assert "is not whole" in str(source.failures[0])

    def test_sound_alone_is_no_video(self, tmp_path: Path) -> None:
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with pytest.raises(ImageError, match="no moving pictures"):
            open_frames(str(path))

    @pytest.mark.parametrize(
        "text", ["ffconcat version 1.0\nfile clip.mp4\n", "#EXTM3U\n#EXTINF:10,\nclip.mp4\n"]
    )
    def test_a_play_list_opens_no_other_file(self, tmp_path: Path, text: str) -> None:
        write_video(tmp_path / "clip.mp4")
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(ImageError, match="cannot be opened"):
            open_frames(str(tmp_path / "list.mp4"))

    @pytest.mark.parametrize("name", ["z" * 300 + ".mp4", "a\0b.mp4", "\udcff.mp4", "\ud800.mp4"])
    def test_impossible_names_are_told(self, name: str) -> None:
        with pytest.raises(ImageError, match=r"There is no video|cannot be read"):
            open_frames(name)


class TestWriting:
    @pytest.mark.parametrize("name", ["found.mp4", "found.mkv"])
    def test_each_picture_has_its_time(self, tmp_path: Path, name: str) -> None:
        sink = Video(tmp_path / name, 30)
        for number, seconds in enumerate(TIMES):
            sink.show(noise(number).to_image(), number, seconds)
        assert not (tmp_path / name).exists()
        sink.close(keep=True)
        frames, source = read(tmp_path / name)
        assert [frame.seconds for frame in frames] == pytest.approx(TIMES, abs=0.0015)
        assert source.missing == 0
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["found.mp4", "found.mkv", "found.avi"])
    def test_a_full_disk_is_told_and_leaves_nothing(self, tmp_path: Path, name: str) -> None:
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        sink = Video(tmp_path / name, 30)
        big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8))
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
        try:
            with pytest.raises(ArgumentError, match="cannot be written: File too large"):
                for number in range(50):
                    sink.show(big, number)
                sink.close(keep=True)
            sink.close(keep=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == []
