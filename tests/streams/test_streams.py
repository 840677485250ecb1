"""Sources of frames and sinks of pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.cli import sinks
from xdecoder_rt.cli.sinks import Folder, PictureWindow, Video, open_output
from xdecoder_rt.errors import ArgumentError, ImageError, MissingExtraError
from xdecoder_rt.streams.frames import open_frames


def picture(shade: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (shade, shade, shade))


@pytest.fixture
def cv2() -> Any:
    return pytest.importorskip("cv2", reason="videos need OpenCV (extra video)")


@pytest.fixture
def video(tmp_path: Path, cv2: Any) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for shade in range(0, 200, 20):
        writer.write(np.full((48, 64, 3), (0, 0, shade), np.uint8))  # BGR: red
    writer.release()
    return path


class TestFolderOfImages:
    def test_images_come_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        for number in (10, 9, 100, 1):
            picture(number).save(tmp_path / f"frame{number}.png")
        (tmp_path / "notes.txt").write_text("no image")
        source = open_frames(str(tmp_path))
        assert [int(frame.pixels[0, 0, 0]) for frame in source] == [1, 9, 10, 100]
        assert (source.fps, source.is_live, source.failures) == (10.0, False, [])

    def test_a_broken_image_is_skipped_and_reported(self, tmp_path: Path) -> None:
        picture(1).save(tmp_path / "1.png")
        (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        picture(3).save(tmp_path / "3.png")
        source = open_frames(str(tmp_path), 10)
        assert [int(frame.pixels[0, 0, 0]) for frame in source] == [1, 3]
        assert len(source.failures) == 1 and "2.png" in str(source.failures[0])

    def test_a_folder_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no images"):
            open_frames(str(tmp_path))


class TestVideosAndCameras:
    def test_a_video_gives_rgb_frames_at_its_own_pace(self, video: Path) -> None:
        source = open_frames(str(video))
        frames = list(source)
        source.close()
        assert (source.fps, source.is_live) == (25.0, False)
        assert len(frames) == 10
        assert frames[0].pixels.dtype == np.uint8 and frames[0].pixels.shape == (48, 64, 3)
        red, green, _ = frames[9].pixels.reshape(-1, 3).mean(axis=0)
        assert red > 150 and green < 40

    def test_the_pace_can_be_chosen(self, video: Path) -> None:
        assert open_frames(str(video), 5.0).fps == 5.0

    def test_a_file_that_is_no_video_is_refused(self, tmp_path: Path, cv2: Any) -> None:
        path = tmp_path / "clip.mp4"
        path.write_bytes(b"not a video" * 100)
        with pytest.raises(ImageError, match=r"clip\.mp4.*cannot be opened"):
            open_frames(str(path))

    def test_a_camera_that_is_not_there_is_refused(self, cv2: Any) -> None:
        with pytest.raises(ImageError, match="The camera 987 cannot be opened"):
            open_frames("987")

    @pytest.mark.timeout(20)
    def test_a_pipe_named_like_a_video_is_refused_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "p.mp4")
        with pytest.raises(ImageError, match=r"p\.mp4.*named pipe"):
            open_frames(str(tmp_path / "p.mp4"))

    def test_a_missing_file_is_refused(self) -> None:
        with pytest.raises(ImageError, match="no video or folder"):
            open_frames("/nowhere/clip.mp4")

    @pytest.mark.parametrize(("module", "source"), [("av", "clip.mp4"), ("cv2", "0")])
    def test_without_its_reader_the_extra_is_named(
        self, module: str, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "clip.mp4").write_bytes(b"")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[video\]"):
            open_frames(source)


class TestFolderOutput:
    def test_pictures_are_named_after_their_place_in_the_stream(self, tmp_path: Path) -> None:
        sink = Folder(tmp_path / "new" / "drawn")
        assert sink.show(picture(9), 0) and sink.show(picture(200), 17)
        sink.close(keep=True)
        names = sorted(path.name for path in (tmp_path / "new" / "drawn").iterdir())
        assert names == ["frame_000000.jpg", "frame_000017.jpg"]

    def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ArgumentError, match="cannot be made"):
            Folder(tmp_path / "file" / "drawn")


class TestVideoOutput:
    def frames_of(self, cv2: Any, path: Path) -> list[int]:
        capture = cv2.VideoCapture(str(path))
        shades = []
        while (read := capture.read())[0]:
            shades.append(round(float(read[1].mean()) / 50) * 50)
        capture.release()
        return shades

    def test_a_picture_stays_for_the_frames_that_were_dropped(
        self, tmp_path: Path, cv2: Any
    ) -> None:
        path = tmp_path / "found.avi"
        video = Video(path, 10)
        for shade, index in ((50, 2), (100, 3), (200, 6)):
            assert video.show(picture(shade), index)
        assert not path.exists()
        video.close(keep=True)
        assert self.frames_of(cv2, path) == [50, 100, 100, 100, 200]
        assert [p.name for p in tmp_path.iterdir()] == ["found.avi"]

    def test_pictures_of_another_size_are_fitted(self, tmp_path: Path, cv2: Any) -> None:
        video = Video(tmp_path / "found.avi", 10)
        video.show(picture(50, (65, 49)), 0)
        video.show(picture(100, (300, 20)), 1)
        video.close(keep=True)
        assert self.frames_of(cv2, tmp_path / "found.avi") == [50, 100]

    def test_a_failed_run_leaves_nothing(self, tmp_path: Path, cv2: Any) -> None:
        video = Video(tmp_path / "found.mp4", 10)
        video.show(picture(50), 0)
        video.close(keep=False)
        assert list(tmp_path.iterdir()) == []

    def test_no_picture_no_video(self, tmp_path: Path, cv2: Any) -> None:
        Video(tmp_path / "found.mp4", 10).close(keep=True)
        assert list(tmp_path.iterdir()) == []


class TestChoiceOfOutput:
    def test_the_ending_tells(self, tmp_path: Path, cv2: Any) -> None:
        assert isinstance(open_output(str(tmp_path / "drawn"), 10), Folder)
        assert isinstance(open_output(str(tmp_path / "found.mp4"), 10), Video)

    def test_the_name_of_a_picture_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="neither a folder nor a video"):
            open_output(str(tmp_path / "found.png"), 10)

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="there is no folder"):
            open_output(str(tmp_path / "no" / "found.mp4"), 10)


class TestWindow:
    def test_without_a_display_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(ArgumentError, match="window|tkinter"):
            PictureWindow("title")

    def test_pictures_are_shrunk_to_the_screen_and_escape_ends(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tk = FakeTk()
        monkeypatch.setitem(__import__("sys").modules, "tkinter", tk)
        window = PictureWindow("title")
        assert window.show(picture(7, (1000, 200)), 0)
        assert tk.pictures[-1].startswith(b"P6 450 90 255 ")
        assert tk.pictures[-1].count(b"\x07") == 450 * 90 * 3
        tk.bindings["<Escape>"]()
        assert not window.show(picture(7), 1)
        window.close(keep=True)
        assert tk.destroyed

    def test_small_pictures_stay_as_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tk = FakeTk()
        monkeypatch.setitem(__import__("sys").modules, "tkinter", tk)
        PictureWindow("title").show(picture(7), 0)
        assert tk.pictures[-1].startswith(b"P6 64 48 255 ")


class FakeTk:
    """As much of tkinter as a window uses, on a screen of 500 x 400."""

    class TclError(Exception):
        pass

    def __init__(self) -> None:
        self.pictures: list[bytes] = []
        self.bindings: dict[str, Any] = {}
        self.destroyed = False

    def Tk(self) -> FakeTk:  # noqa: N802
        return self

    def Label(self, *_: Any, **__: Any) -> FakeTk:  # noqa: N802
        return self

    def PhotoImage(self, data: bytes, format: str) -> bytes:  # noqa: N802
        assert format == "PPM"
        self.pictures.append(data)
        return data

    def bind(self, key: str, action: Any) -> None:
        self.bindings[key] = action

    def winfo_screenwidth(self) -> int:
        return 500

    def winfo_screenheight(self) -> int:
        return 400

    def destroy(self) -> None:
        self.destroyed = True

    def title(self, *_: Any) -> None: ...

    def protocol(self, *_: Any) -> None: ...

    def pack(self) -> None: ...

    def configure(self, **_: Any) -> None: ...

    def update(self) -> None: ...


def test_codecs_and_pictures_do_not_overlap() -> None:
    from xdecoder_rt.cli.pictures import PICTURE_FORMATS

    assert not set(sinks.CODECS) & set(PICTURE_FORMATS)
