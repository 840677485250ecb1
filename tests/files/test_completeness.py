"""Files whose data end before their pixels do, and those that only look so."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.image_files import read_id_png, read_rgb_png_ids
from xdecoder_rt.errors import DatasetError, ImageError
from xdecoder_rt.files.image_file import read_header, read_image

RGB = np.random.default_rng(0).integers(1, 256, (9, 10, 3), np.uint8)
EARLY, FEW = "data end before its last row", "too few for its"
BITS = {"1": 1, "L": 8, "P": 8, "RGB": 24, "RGBA": 32, "I;16": 16}
COLOUR_TYPES = {"1": 0, "L": 0, "P": 3, "RGB": 2, "RGBA": 6, "I;16": 0}
PASSES = ((8, 8, 0, 0), (8, 8, 4, 0), (4, 8, 0, 4), (4, 4, 2, 0), (2, 4, 0, 2), (2, 2, 1, 0))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(mode: str, size: tuple[int, int], *, interlaced: bool, value: int, missing: str) -> bytes:
    """A PNG of one value whose stream ends in order: at its end, "a byte" or "a row" before it."""
    width, height = size
    rows = []
    for across, down, left, top in (*PASSES, (1, 2, 0, 1)) if interlaced else ((1, 1, 0, 0),):
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            rows += [b"\0" + bytes([value]) * (-(-columns * BITS[mode] // 8))] * lines
    depth = {"1": 1, "I;16": 16}.get(mode, 8)
    header = struct.pack(">IIBBBBB", *size, depth, COLOUR_TYPES[mode], 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if mode == "P" else b""
    whole = b"".join(rows)
    data = zlib.compress(
        whole[: len(whole) - {"a row": len(rows[-1]), "a byte": 1, "": 0}[missing]]
    )
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), palette, chunk(b"IDAT", data[:5]))
        + (chunk(b"IDAT", data[5:]), chunk(b"IEND", b""))
    )


def gif(
    size: tuple[int, int],
    count: int,
    *,
    value: int = 1,
    interlaced: bool = False,
    frame: tuple[int, int] | None = None,
) -> bytes:
    """A GIF of four colours whose stream has `count` pixels of one value, and its end."""
    codes: list[int] = []
    for place in range(count):
        codes += [4, value] if place % 2 == 0 else [value]  # 4 clears: codes keep their 3 bits
    codes.append(5)
    number = sum(code << 3 * place for place, code in enumerate(codes))
    packed = number.to_bytes((3 * len(codes) + 7) // 8, "little")
    blocks = b"".join(
        bytes([len(part)]) + part
        for part in (packed[at : at + 255] for at in range(0, len(packed), 255))
    )
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x81, 0, 0) + bytes(range(12))
    place = struct.pack("<HHHHB", 0, 0, *(frame or size), 0x40 if interlaced else 0)
    return head + b"," + place + b"\x02" + blocks + b"\0;"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", BITS)
def test_a_png_whose_stream_ends_before_its_last_row_is_damaged(
    mode: str, interlaced: bool
) -> None:
    for size in ((10, 9), (9, 10), (1, 1), (3, 1), (1, 3), (40, 2)):
        for value in (0xFF,) if mode == "I;16" else (0, 0xFF):
            whole = png(mode, size, interlaced=interlaced, value=value, missing="")
            assert read_image(whole).shape == (size[1], size[0], 3)
            # Pillow refuses what ends within a row, or before the first.
            early = EARLY if size[1] > 1 else f"{EARLY}|truncated"
            for missing, message in (("a row", early), ("a byte", "truncated")):
                short = png(mode, size, interlaced=interlaced, value=value, missing=missing)
                assert read_header(short).stored == size[::-1]
                with pytest.raises(ImageError, match=message):
                    read_image(short)


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_gif_whose_stream_ends_before_its_last_pixel_is_damaged(
    interlaced: bool,
) -> None:
    for size in ((10, 9), (9, 10), (1, 1), (3, 1), (1, 3)):
        for value in (0, 1, 3):
            pixels = size[0] * size[1]
            whole = gif(size, pixels, value=value, interlaced=interlaced)
            assert read_image(whole).shape == (size[1], size[0], 3)
            for count in (pixels - 1, pixels - size[0]):
                with pytest.raises(ImageError, match="truncated"):
                    read_image(gif(size, count, value=value, interlaced=interlaced))


def test_a_gif_whose_first_frame_is_smaller_than_its_canvas_is_whole() -> None:
    assert read_image(gif((40, 30), 50, frame=(10, 5))).shape == (30, 40, 3)
    with pytest.raises(ImageError, match="truncated"):
        read_image(gif((40, 30), 49, frame=(10, 5)))


@pytest.mark.parametrize("draft", [None, 40])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_ends_in_order_before_its_last_block_is_damaged(
    options: dict[str, object], mode: str, draft: int | None
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(pixels).resize((320, 240)).convert(mode)
    thumbnail = b"Exif\0\0" + encoded(image.resize((32, 24)), "JPEG")  # has an end of its own
    whole = encoded(image, "JPEG", exif=thumbnail, **options)
    rows = read_image(whole, draft=draft).shape[0]
    assert rows in (240, 120, 60)
    read_image(whole + b"and what cameras append \xff\xd9", draft=draft)
    scan = whole.rindex(b"\xff\xda")
    for share in (0.1, 0.5, 0.9, 0.98):
        cut = whole[: scan + int(share * (len(whole) - scan))].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(ImageError, match=EARLY):
            read_image(cut, draft=draft)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("value", [127, 128])
def test_a_grey_jpeg_is_whole(value: int, mode: str, progressive: bool) -> None:
    image = Image.new("L", (100, 70), value).convert(mode)
    noise = Image.fromarray(RGB).resize((60, 40)).convert(mode)
    image.paste(noise, (0, 0))
    data = encoded(image, "JPEG", progressive=progressive)
    assert read_image(data).shape == (70, 100, 3)
    assert read_image(data + data).shape == (70, 100, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM", "WEBP"])
@pytest.mark.parametrize("side", [1, 7, 300])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_blank_picture_is_whole_however_small_its_file_is(
    form: str, side: int, mode: str
) -> None:
    for value in (0, 1):
        image = Image.new(mode, (side * 5, side), value)
        if form in ("JPEG", "PPM") and mode == "P":
            image = image.convert("RGB")
        options = {"quality": 1, "progressive": True, "optimize": True} if form == "JPEG" else {}
        assert read_image(encoded(image, form, **options)).shape == (side, side * 5, 3)


@pytest.mark.parametrize(
    ("compression", "mode"),
    [(name, "L") for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "raw")]
    + [(name, "1") for name in ("group3", "group4", "tiff_ccitt", "tiff_lzw", "raw")],
)
def test_a_blank_tiff_is_whole_under_every_compression(compression: str, mode: str) -> None:
    data = encoded(Image.new(mode, (3_000, 2_000)), "TIFF", compression=compression)
    assert read_image(data).shape == (2_000, 3_000, 3)


def announce(data: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """Change the size that a file announces; of a PNG also its checksum."""
    forms = {b"\x89P": ">II", b"\xff\xd8": ">HH", b"GI": "<HH", b"BM": "<ii", b"P6": None}
    form = forms[data[:2]]
    if form is None:
        return data.replace(b"%d %d" % old, b"%d %d" % new, 1)
    if data[:2] == b"\xff\xd8":
        old, new = old[::-1], new[::-1]
    changed = data.replace(struct.pack(form, *old), struct.pack(form, *new), 1)
    assert changed != data
    if data[:2] == b"\x89P":
        changed = changed[:29] + struct.pack(">I", zlib.crc32(changed[12:29])) + changed[33:]
    return changed


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("GIF", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("PPM", {})]
    + [("BMP", {})],
)
@pytest.mark.timeout(20)
def test_a_small_file_that_announces_millions_of_pixels_is_damaged(
    form: str, options: dict[str, object]
) -> None:
    data = encoded(Image.fromarray(RGB), form, **options)
    with pytest.raises(ImageError, match=f"{FEW} 30000 x 4000 pixels|truncated"):
        read_image(announce(data, (10, 9), (30_000, 4_000)))


def run_length_bmp(width: int, height: int, data: bytes) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 256)
    start = 14 + len(sizes) + 1024
    return b"BM" + struct.pack("<III", start + len(data), 0, start) + sizes + bytes(1024) + data


def test_a_bmp_of_runs_that_skips_its_rows_is_damaged() -> None:
    assert read_image(run_length_bmp(10, 9, b"\x0a\x01\0\0" * 9 + b"\0\1")).shape == (9, 10, 3)
    skips = b"\0\2\xff\xff" * 16 + b"\0\1"  # 255 pixels to the right and 255 rows up, each
    with pytest.raises(ImageError, match=FEW):
        read_image(run_length_bmp(30_000, 4_000, skips))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_that_lacks_strips_is_damaged(compression: str) -> None:
    data = encoded(Image.fromarray(RGB), "TIFF", compression=compression)
    tall = data.replace(struct.pack("<HHII", 257, 4, 1, 9), struct.pack("<HHII", 257, 4, 1, 11), 1)
    if tall == data:  # the height may be a short
        old, new = (struct.pack("<HHIHH", 257, 3, 1, side, 0) for side in (9, 11))
        tall = data.replace(old, new, 1)
    assert tall != data
    with pytest.raises(ImageError, match="lacks strips|cannot be decoded"):
        read_image(tall)


def test_a_map_of_segments_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ids.png"
    path.write_bytes(png("RGB", (10, 9), interlaced=False, value=3, missing="a row"))
    with pytest.raises(DatasetError, match=EARLY):
        read_rgb_png_ids(path)
    path.write_bytes(png("P", (10, 9), interlaced=False, value=3, missing="a row"))
    with pytest.raises(DatasetError, match=EARLY):
        read_id_png(path)
    whole = png("RGB", (10, 9), interlaced=False, value=0, missing="")
    path.write_bytes(announce(whole, (10, 9), (10, 8_323_078)))
    with pytest.raises(DatasetError, match=f"{FEW} 10 x 8323078 pixels"):
        read_rgb_png_ids(path)


def damaged_tiff() -> bytes:
    """A TIFF with a tag whose values lie behind its end."""
    data = encoded(Image.fromarray(RGB), "TIFF", description="a" * 40)
    tag = struct.pack("<HHI", 270, 2, 41)
    assert tag in data
    return data.replace(tag, struct.pack("<HHI", 270, 2, 99_999))


def test_pillows_warnings_about_metadata_do_not_reach_users() -> None:
    data = damaged_tiff()
    broken_exif = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(data), RGB)
        assert read_image(broken_exif).shape == RGB.shape
        assert read_header(broken_exif).orientation == 1
    with pytest.warns(UserWarning), Image.open(io.BytesIO(data)) as image:  # that of others do
        image.load()


def test_warnings_of_other_threads_are_shown_while_an_image_is_read() -> None:
    data = damaged_tiff()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            read_image(data)

    def open_twenty() -> int:
        before = len(caught)
        for _ in range(20):
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        return len(caught) - before

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        alone = open_twenty()
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        beside = open_twenty()
        stop.set()
        for thread in threads:
            thread.join()
    assert beside == alone >= 20
