"""Images of every kind come in as RGB or are refused with advice; the letterbox inverts exactly."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xdecoder_rt.errors import ArgumentError, ImageError
from xdecoder_rt.image import lay_image, letterbox, load_image, load_pixels, resize_shorter_side
from xdecoder_rt.pixels.letterbox import Letterbox, choose_size

FIXTURE = Path(__file__).parent / "data" / "focal_tiny_a"


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


# --- arrays ---------------------------------------------------------------------------------------


def test_an_rgb_array_is_taken_as_it_is(rgb):
    assert load_image(rgb) is rgb or np.shares_memory(load_image(rgb), rgb)


def test_grey_becomes_three_equal_channels(rgb):
    grey = rgb[:, :, 0]
    for image in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(load_image(image), np.stack([grey] * 3, axis=2))


def test_alpha_is_composited_over_black(rgb):
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    opaque = np.dstack([rgb, alpha])
    np.testing.assert_array_equal(load_image(opaque), rgb)
    alpha[:10], alpha[10:20] = 0, 128
    seen = load_image(np.dstack([rgb, alpha]))
    assert (seen[:10] == 0).all()
    np.testing.assert_array_equal(seen[10:20], np.rint(rgb[10:20] * (128 / 255)))
    np.testing.assert_array_equal(seen[20:], rgb[20:])


def test_bgr_arrays_become_rgb_and_what_knows_its_own_order_stays(rgb, tmp_path):
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    before = bgr.copy()
    for image in (bgr, rgb[:, :, ::-1], np.asfortranarray(bgr)):
        seen = load_image(image, "bgr")
        assert seen.flags.c_contiguous and not np.shares_memory(seen, image)
        np.testing.assert_array_equal(seen, rgb)
    np.testing.assert_array_equal(bgr, before)
    alpha = np.random.default_rng(1).integers(0, 256, rgb.shape[:2], np.uint8)
    np.testing.assert_array_equal(
        load_image(np.dstack([bgr, alpha]), "bgr"), load_image(np.dstack([rgb, alpha]))
    )
    for grey in (rgb[:, :, 0], rgb[:, :, :1]):
        np.testing.assert_array_equal(load_image(grey, "bgr"), load_image(grey))
    Image.fromarray(rgb).save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    for source in (tmp_path / "image.png", data, Image.fromarray(rgb)):
        np.testing.assert_array_equal(load_image(source, "bgr"), rgb)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_pixels_and_their_order_are_together_what_load_image_gives(rgb, tmp_path, channels):
    rgba = np.dstack([rgb, np.random.default_rng(1).integers(0, 256, rgb.shape[:2], np.uint8)])
    Image.fromarray(rgb).save(tmp_path / "image.png")
    arrays = [rgb, rgb[:, :, ::-1], rgb[:, ::-1], rgb[::2, 3:20], np.asfortranarray(rgb)]
    arrays += [rgba, rgba[:, :, ::-1], rgb[:, :, 0], rgb[:, :, :1], rgb[:1, :1], rgb[:1, :1, ::-1]]
    for source in (*arrays, Image.fromarray(rgb), tmp_path / "image.png"):
        wanted = load_image(source, channels)
        pixels, order = load_pixels(source, channels)
        assert pixels.flags.c_contiguous and pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels if order == "rgb" else pixels[:, :, ::-1], wanted)
        for target in ((64, 96), wanted.shape[:2]):
            box = Letterbox.fit(wanted.shape[:2], target)
            np.testing.assert_array_equal(
                lay_image(pixels, box, "bilinear", channels=order),
                lay_image(wanted, box, "bilinear"),
            )


def test_an_array_that_was_turned_round_by_a_view_is_not_copied(rgb):
    pixels, order = load_pixels(rgb[:, :, ::-1])
    assert np.shares_memory(pixels, rgb) and order == "bgr"
    pixels, order = load_pixels(rgb, "bgr")
    assert np.shares_memory(pixels, rgb) and order == "bgr"


@pytest.mark.parametrize("channels", ["BGR", "rgba", "", "b" * 10_000, None, 3, ["bgr"], b"bgr"])
def test_other_orders_of_channels_are_refused_for_every_source(rgb, channels):
    for source in (rgb, rgb[:, :, 0], Image.fromarray(rgb)):
        with pytest.raises(ArgumentError, match="channels is .* Expected 'rgb', or 'bgr'") as error:
            load_image(source, channels)
        assert len(str(error.value)) < 200
    with pytest.raises(ArgumentError, match="channels is"):
        lay_image(rgb, Letterbox.fit((30, 40), (8, 8)), "bilinear", channels=channels)


def test_strided_and_read_only_arrays_work_and_stay_as_they_were(rgb):
    before = rgb.copy()
    rgb.setflags(write=False)
    for image in (rgb, rgb[::-1], rgb[:, ::2], rgb[:, :, ::-1], np.asfortranarray(rgb)):
        seen = load_image(image)
        assert seen.flags.c_contiguous
        np.testing.assert_array_equal(seen, image)
        padded, _ = letterbox(seen, (64, 64))
        assert padded.flags.writeable
    np.testing.assert_array_equal(rgb, before)


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((4, 4, 3), np.float32), "(image * 255).round()"),
        (np.full((4, 4, 3), 200.0), "clip(0, 255)"),
        (np.full((4, 4, 3), np.nan), "nan_to_num"),
        (np.full((4, 4, 3), np.inf, np.float16), "nan_to_num"),
        (np.zeros((4, 4, 3), np.uint16), ">> 8"),
        (np.zeros((4, 4, 3), np.int64), "clip(0, 255)"),
        (np.zeros((4, 4), bool), "* 255"),
        (np.zeros((3, 40, 50), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((2, 40, 50, 3), np.uint8), "list(images)"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0), np.uint8), "empty"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros(12, np.uint8), "shape"),
        (np.zeros((), np.uint8), "shape"),
        (np.array([[["a"]]], dtype=object), "uint8"),
        (np.array([[[b"a"]]]), "uint8"),
        (np.zeros((2, 2, 3), np.complex64), "uint8"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_other_arrays_are_refused_with_advice(array, advice):
    with pytest.raises(ImageError) as caught:
        load_image(array)
    assert advice in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [3, [[1, 2]], {}])
def test_what_is_no_image(source):
    with pytest.raises(ImageError, match="of type"):
        load_image(source)


def test_one_pixel_and_very_wide_images(rgb):
    padded, box = letterbox(load_image(rgb[:1, :1]), (64, 96))
    assert box.valid == (64, 64) and (padded[:, :64] == rgb[0, 0]).all()
    wide = np.zeros((3, 20_000, 3), np.uint8)
    padded, box = letterbox(load_image(wide), (64, 96))
    assert box.valid == (1, 96) and padded.shape == (64, 96, 3)


# --- Pillow images and files ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pillow_modes(rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    np.testing.assert_array_equal(load_image(image), np.asarray(image.convert("RGB")))


def test_premultiplied_modes_are_over_black_already():
    image = Image.merge("LA", [Image.new("L", (4, 4), level) for level in (200, 51)])
    grey, colour = image.convert("La"), image.convert("RGBA").convert("RGBa")
    for premultiplied in (grey, colour):
        np.testing.assert_array_equal(load_image(premultiplied), np.full((4, 4, 3), 40))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pillow_modes_of_more_than_8_bits_are_refused(mode):
    with pytest.raises(ImageError, match="8 bits"):
        load_image(Image.new(mode, (4, 4)))


def test_a_palette_with_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=1)
    assert load_image(tmp_path / "p.png").tolist() == [[[10, 20, 30], [0, 0, 0]]]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_files(rgb, tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(rgb).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(load_image(path), rgb)
    np.testing.assert_array_equal(load_image(str(path)), rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_file_is_applied(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8, 0] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a camera has done
    stored = Image.fromarray(upright)
    if orientation != 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "camera.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "camera.png"), upright)


def test_files_that_cannot_be_read(tmp_path, rgb):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(rgb).save(whole)
    broken = {
        "truncated.jpg": whole.read_bytes()[:400],
        "empty.jpg": b"",
        "text.png": b"hello",
        "vector.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=name):
            load_image(tmp_path / name)
    for path in (tmp_path / "missing.jpg", tmp_path, "nul\0.jpg"):
        with pytest.raises(ImageError):
            load_image(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    for side in (12_000, 1 << 30):
        header = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
        (tmp_path / "bomb.png").write_bytes(bomb + chunk(b"IEND", b""))
        with pytest.raises(ImageError, match=r"bomb\.png"):
            load_image(tmp_path / "bomb.png")


# --- geometry -------------------------------------------------------------------------------------

SIDES = st.integers(1, 3000)
SIZES = st.tuples(SIDES, SIDES)


@given(source=SIZES, target=SIZES)
@settings(deadline=None)
def test_a_letterbox_keeps_the_aspect_ratio_to_half_a_pixel(source, target):
    box = Letterbox.fit(source, target)
    assert 1 <= box.valid[0] <= target[0] and 1 <= box.valid[1] <= target[1]
    assert box.valid[0] == target[0] or box.valid[1] == target[1]
    limiting = min(target[0] / source[0], target[1] / source[1])
    for side in (0, 1):
        exact = source[side] * limiting
        assert abs(box.valid[side] - exact) <= 0.5 + 1e-9 or (exact < 0.5 and box.valid[side] == 1)
    assert 0 <= box.padding < 1


@pytest.mark.parametrize(
    ("source", "sizes", "chosen"),
    [
        ((720, 1280), [(512, 512), (288, 512)], (288, 512)),
        ((1280, 720), [(512, 512), (288, 512), (512, 288)], (512, 288)),
        ((480, 480), [(288, 512), (512, 512)], (512, 512)),
        ((720, 1280), [(288, 512), (576, 1024)], (576, 1024)),
        ((288, 512), [(576, 1024), (288, 512)], (288, 512)),
        ((721, 1280), [(288, 512), (576, 1024)], (576, 1024)),
        ((1, 1), [(512, 512)], (512, 512)),
        ((1000, 1000), [(800, 1088), (1088, 800), (224, 224)], (800, 1088)),
        ((1080, 1920), [(288, 512), (800, 800)], (800, 800)),
        ((1080, 1920), [(448, 448), (512, 512)], (512, 512)),
        ((6000, 8000), [(448, 448), (512, 512)], (512, 512)),
        ((1920, 1080), [(800, 1088), (1088, 800)], (1088, 800)),
        ((100, 100), [(288, 512), (512, 512)], (512, 512)),
    ],
)
def test_the_size_that_shows_the_most_of_an_image_for_what_it_computes(source, sizes, chosen):
    assert choose_size(source, sizes) == chosen
    assert choose_size(source, sizes[::-1]) == chosen


def test_bad_sizes():
    for source, target in (((0, 5), (4, 4)), ((5, 5), (4, 0))):
        with pytest.raises(ArgumentError):
            Letterbox.fit(source, target)
    with pytest.raises(ArgumentError, match="no input sizes"):
        choose_size((4, 4), [])


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "filter_"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
def test_pixels_are_pillows_and_the_rest_is_zero(rgb, name, filter_):
    padded, box = letterbox(rgb, (64, 64), name)
    assert padded.shape == (64, 64, 3) and padded.dtype == np.uint8 and padded.flags.c_contiguous
    wanted = np.asarray(Image.fromarray(rgb).resize((64, 48), filter_))
    assert box == Letterbox((30, 40), (64, 64), (48, 64))
    np.testing.assert_array_equal(padded[:48], wanted)
    assert (padded[48:] == 0).all()


def test_an_image_of_the_inputs_size_is_copied_not_shared(rgb):
    same, box = letterbox(rgb, (30, 40))
    np.testing.assert_array_equal(same, rgb)
    assert not np.shares_memory(same, rgb) and box.scale == (1.0, 1.0)


def test_an_unknown_interpolation(rgb):
    with pytest.raises(ArgumentError, match="bilinear"):
        letterbox(rgb, (64, 64), "lanczos")


def test_the_originals_resize_of_the_shorter_side():
    with np.load(FIXTURE / "inputs.npz") as inputs, np.load(FIXTURE / "expected.npz") as expected:
        source, wanted = inputs["resize_src"], expected["resize.out"]
    np.testing.assert_array_equal(resize_shorter_side(source, 96), wanted)
    turned = resize_shorter_side(np.ascontiguousarray(source.transpose(1, 0, 2)), 96)
    assert turned.shape == (130, 96, 3)
    with pytest.raises(ArgumentError):
        resize_shorter_side(source, 0)
