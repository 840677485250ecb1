"""The reader of image files: which it takes, how it turns them, what they may cost."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.errors import ImageError
from xdecoder_rt.files.image_file import ImageHeader, read_header, read_image
from xdecoder_rt.image import load_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + chunk(b"IEND", b"")


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits: grey ``[H, W]``, or RGB or RGBA ``[H, W, C]``."""
    height, width = values.shape[:2]
    kind = 0 if values.ndim == 2 else {3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, kind, rows)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_format_is_read_upright_and_its_header_says_the_upright_size(
    form: str, orientation: int
) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = Image.fromarray(upright)
    if orientation != 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    data = encoded(stored, form, exif=tagged(orientation))
    assert np.abs(read_image(data).astype(int) - upright).max() < 60
    header = read_header(data)
    assert header == ImageHeader(stored.size[::-1], orientation)
    assert header.upright == (16, 32)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_the_bytes_of_a_file_are_taken_as_the_file_is(kind: type) -> None:
    data = encoded(Image.fromarray(RGB), "PNG")
    np.testing.assert_array_equal(load_image(kind(data)), RGB)


def test_a_buffer_that_was_just_written_is_read_from_its_start() -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    np.testing.assert_array_equal(load_image(file), RGB)


def test_none_is_explained_as_a_failed_imread() -> None:
    with pytest.raises(ImageError, match=r"None was given.*cv2\.imread returns None"):
        load_image(None)  # type: ignore[arg-type]


def test_encoded_bytes_in_an_array_are_told_how_to_be_given() -> None:
    data = np.frombuffer(encoded(Image.fromarray(RGB), "PNG"), np.uint8)
    with pytest.raises(ImageError, match=r"image\.tobytes\(\)"):
        load_image(data)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image of a known format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is an HEIC image.*pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "is an AVIF image.*convert"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "is a video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript file"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"\n <svg xmlns=", "is an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
        (b"\xff\x0a\0\0", "is a JPEG XL image"),
    ],
)
def test_what_is_not_decoded_is_named(tmp_path: Path, head: bytes, words: str) -> None:
    path = tmp_path / "e.png"
    path.write_bytes(head)
    with pytest.raises(ImageError, match=rf"e\.png.*{words}") as caught:
        load_image(path)
    assert "MPO" not in str(caught.value) and "\n" not in str(caught.value)


def test_only_the_decoders_of_the_allowed_formats_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "e.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    code = (
        "import sys\nfrom xdecoder_rt.image import load_image\n"
        "from xdecoder_rt.errors import ImageError\n"
        "try: load_image(sys.argv[1])\nexcept ImageError: pass\n"
        "print('PIL.EpsImagePlugin' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "e.png")], capture_output=True, text=True
    )
    assert run.stdout.strip() == "False", run.stderr


@pytest.mark.timeout(20)
def test_a_pipe_a_device_a_socket_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    named = {
        tmp_path / "pipe.png": "a named pipe",
        tmp_path / "link.png": "a named pipe",
        Path("/dev/zero"): "a device",
        tmp_path: "a folder",
    }
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        named[tmp_path / "s"] = "a socket"
        for path, words in named.items():
            with pytest.raises(ImageError, match=words):
                load_image(path)


@pytest.mark.parametrize("name", ["nul\0.png", "half\ud800.png"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(ImageError):
        load_image(name)


class TestSixteenBits:
    FULL = np.array([[0, 0x12FF, 0xFFFF], [0x8000, 0x80FF, 0x0100]], np.uint16)

    def test_the_upper_eight_bits_are_taken_of_grey_and_of_colour(self) -> None:
        expected = np.repeat((self.FULL >> 8)[:, :, None], 3, 2)
        grey, colour = self.FULL, np.repeat(self.FULL[:, :, None], 3, 2)
        for data in (
            deep_png(grey),
            deep_png(colour),
            encoded(Image.fromarray(grey), "TIFF"),
            b"P5 3 2 65535\n" + grey.astype(">u2").tobytes(),
        ):
            np.testing.assert_array_equal(load_image(data), expected)
        np.testing.assert_array_equal(load_image(Image.fromarray(grey)), expected)

    @pytest.mark.parametrize("bits", [8, 10, 12, 14])
    def test_fewer_bits_in_sixteen_are_refused_with_the_shift_that_mends_it(
        self, bits: int
    ) -> None:
        grey = np.array([[0, 5, (1 << bits) - 1]], np.uint16)
        colour = np.repeat(grey[:, :, None], 3, 2)
        alpha = np.concatenate([colour, np.full((1, 3, 1), 0xFFFF, np.uint16)], 2)
        for data in (
            deep_png(grey),
            deep_png(colour),
            deep_png(alpha),
            encoded(Image.fromarray(grey), "TIFF"),
            b"P5 3 1 65535\n" + grey.astype(">u2").tobytes(),
            b"P6 3 1 65535\n" + colour.astype(">u2").tobytes(),
        ):
            with pytest.raises(ImageError, match=f"of which it uses {bits}.*image << 4"):
                load_image(data)
        with pytest.raises(ImageError, match=f"of which it uses {bits}"):
            load_image(Image.fromarray(grey))

    def test_black_is_black_at_any_depth(self) -> None:
        black = np.zeros((2, 3), np.uint16)
        assert not load_image(deep_png(black)).any()
        assert not load_image(Image.fromarray(black)).any()

    def test_a_declared_depth_is_scaled_by(self) -> None:
        values = np.array([[0, 2048, 4095]], ">u2").tobytes()
        assert load_image(b"P5 3 1 4095\n" + values)[0, :, 0].tolist() == [0, 128, 255]

    def test_an_array_of_twelve_bits_is_told_the_right_shift(self) -> None:
        with pytest.raises(ImageError, match=r"image >> 4"):
            load_image(np.full((2, 2, 3), 4000, np.uint16))  # type: ignore[arg-type]


class TestBounds:
    def peak(self, path: Path) -> int:
        """MiB that reading a file adds to the peak of a process, whatever comes of it."""
        code = (
            "import re, sys, warnings\nwarnings.simplefilter('ignore')\n"
            "from xdecoder_rt.image import load_image\n"
            "from xdecoder_rt.errors import ImageError\n"
            # Not getrusage: its peak begins as that of the parent process.
            "status = lambda: open('/proc/self/status').read()\n"
            "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status())[1]) >> 10\n"
            "before = peak()\n"
            "try: load_image(sys.argv[1])\nexcept ImageError as error: print(error)\n"
            "print(peak() - before)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True
        )
        return int(run.stdout.split()[-1])

    @pytest.mark.slow
    @pytest.mark.parametrize(("depth", "kind", "channels"), [(8, 6, 4), (16, 6, 8), (8, 3, 1)])
    def test_the_largest_png_takes_no_more_than_eight_bytes_a_pixel(
        self, tmp_path: Path, depth: int, kind: int, channels: int
    ) -> None:
        side = 11584  # 134 million pixels
        rows = (b"\0" + b"\xc0" * side * channels) * side if kind != 3 else bytes(side * (side + 1))
        palette = [chunk(b"PLTE", bytes(3)), chunk(b"tRNS", b"\x80")] if kind == 3 else []
        path = tmp_path / "large.png"
        path.write_bytes(png(side, side, depth, kind, rows, *palette))
        del rows
        assert path.stat().st_size < 2 << 20
        assert self.peak(path) < 1100

    def test_a_tile_larger_than_its_image_is_refused(self, tmp_path: Path) -> None:
        fields = [
            (256, 4, 16),
            (257, 4, 16),
            (258, 3, 8),
            (259, 3, 8),
            (262, 3, 1),
            (277, 3, 1),
            (322, 4, 32768),
            (323, 4, 32768),
            (324, 4, 8),
            (325, 4, 100),
        ]
        directory = b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in fields)
        data = b"II*\0" + struct.pack("<I", 200) + bytes(192)
        path = tmp_path / "tile.tif"
        path.write_bytes(data + struct.pack("<H", len(fields)) + directory + bytes(4))
        with pytest.raises(ImageError, match="tiles of 32768 x 32768"):
            load_image(path)
        assert self.peak(path) < 100

    def test_a_webp_is_refused_by_its_size_before_its_decoder_allocates(self) -> None:
        canvas = b"\0" * 4 + (16000).to_bytes(3, "little") * 2
        body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
        with pytest.raises(ImageError, match=r"16001 x 16001 pixels.*at most 67"):
            load_image(b"RIFF" + struct.pack("<I", len(body)) + body)

    def test_a_jpeg_of_very_many_scans_is_refused(self) -> None:
        data = encoded(Image.fromarray(RGB), "JPEG", progressive=True)
        at = data.rindex(b"\xff\xda")
        scan = data[at:-2]
        with pytest.raises(ImageError, match="scans"):
            load_image(data[:-2] + scan * 200 + data[-2:])

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_damaged_metadata_leaves_the_pixels_as_they_are(self) -> None:
        rows = b"".join(b"\0" + row.tobytes() for row in RGB)
        broken = chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff\x01")
        np.testing.assert_array_equal(load_image(png(10, 6, 8, 2, rows, broken)), RGB)
