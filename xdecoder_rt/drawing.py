"""Drawing results over images, with Pillow.

Things are filled and outlined in a colour of their label, stuff more quietly; each label stands on
a plate inside its segment, where it hides least. Colours depend on the label's place in the
vocabulary alone, so that they stay the same from frame to frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from xdecoder_rt.errors import ArgumentError, ImageError, shown
from xdecoder_rt.image import ImageSource, load_image
from xdecoder_rt.label_placement import LabelPlacer

__all__ = ["Region", "as_image", "colour", "draw_map", "draw_masks", "index_map"]

_GOLDEN_ANGLE = 137.50776405
_FIRST_HUE = 255.0
_LIGHTNESSES = (0.72, 0.62, 0.80)
_CHROMA = 0.16
_THING_ALPHA, _STUFF_ALPHA = 0.46, 0.26
_STUFF_OUTLINE_ALPHA = 0.55
_OUTLINE_LIGHTER = 0.35
_TILE_ROWS = 256
_LABEL_LIMIT = 40
_SMALLEST_LABELLED = 4e-4  # share of the image

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Map = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Region:
    """How one segment is to be drawn.

    Attributes:
        label: what to write.
        score: written after the label of things.
        colour_index: which colour; equal indices get equal hues.
        is_quiet: whether it is background (stuff) rather than an object.
    """

    label: str
    score: float
    colour_index: int
    is_quiet: bool = False


def as_image(image: ImageSource) -> Image.Image:
    """The image as a new Pillow image, RGB."""
    return Image.fromarray(np.array(load_image(image)))


def colour(index: int, variant: int = 0) -> tuple[int, int, int]:
    """A colour for a label: hues a golden angle apart, of even lightness to the eye.

    Args:
        index: the label's place in the vocabulary.
        variant: tells several segments of one label apart by small steps.

    Returns:
        sRGB, each 0 to 255.
    """
    step = (0, 1, -1, 2, -2)[variant % 5]
    hue = math.radians(_FIRST_HUE + _GOLDEN_ANGLE * index + 9 * step)
    lightness = _LIGHTNESSES[index % len(_LIGHTNESSES)] + 0.04 * step
    return _oklch_to_srgb(lightness, _CHROMA, hue)


def _oklch_to_srgb(lightness: float, chroma: float, hue: float) -> tuple[int, int, int]:
    """Björn Ottosson's OKLab (https://bottosson.github.io/posts/oklab), clipped to sRGB."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )

    def encode(value: float) -> int:
        value = min(max(value, 0.0), 1.0)
        curved = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
        return round(255 * curved)

    return encode(linear[0]), encode(linear[1]), encode(linear[2])


def index_map(segmentation: npt.NDArray[np.int32], ids: Sequence[int]) -> _Map:
    """`segmentation` with each of `ids` replaced by its place in them, from 1; 0 elsewhere."""
    result = np.zeros(segmentation.shape, dtype=np.int32)
    if not ids or not segmentation.size:
        return result
    order = np.argsort(ids)
    ordered = np.asarray(ids, dtype=np.int64)[order]
    for rows in _tiles(segmentation.shape[0]):
        place = np.searchsorted(ordered, segmentation[rows]).clip(max=len(ids) - 1)
        result[rows] = np.where(ordered[place] == segmentation[rows], order[place] + 1, 0)
    return result


def draw_masks(
    image: ImageSource,
    masks: Sequence[npt.NDArray[np.bool_]],
    regions: Sequence[Region],
    font: str | None = None,
) -> Image.Image:
    """Draws masks, which may overlap: where they do, the later one lies on top.

    Args:
        image: the image that they belong to.
        masks: bool ``[H, W]`` each.
        regions: one per mask.
        font: path of a TrueType font, or None for the built-in one.

    Returns:
        A new RGB image.

    Raises:
        ImageError: the image is unreadable or of another size than the masks.
        ArgumentError: the font cannot be read.
    """
    pixels = load_image(image)
    indices = np.zeros(pixels.shape[:2], dtype=np.int32)
    for index, mask in enumerate(masks):
        _check_size(pixels, mask)
        indices[mask] = index + 1
    return draw_map(pixels, indices, regions, font)


def draw_map(
    image: ImageSource, indices: _Map, regions: Sequence[Region], font: str | None = None
) -> Image.Image:
    """Draws segments that do not overlap.

    Args:
        image: the image that they belong to.
        indices: int32 ``[H, W]``: 0 for nothing, k for ``regions[k - 1]``.
        regions: how to draw each.
        font: path of a TrueType font, or None for the built-in one.

    Returns:
        A new RGB image.

    Raises:
        ImageError: the image is unreadable or of another size than `indices`.
        ArgumentError: the font cannot be read.
    """
    pixels = load_image(image)
    _check_size(pixels, indices)
    colours = _region_colours(regions)
    canvas = Image.fromarray(_blend(pixels, indices, regions, colours))
    _draw_labels(canvas, indices, regions, colours, font)
    return canvas


def _check_size(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.generic]) -> None:
    if mask.shape != pixels.shape[:2]:
        raise ImageError(
            f"The image is {pixels.shape[1]} x {pixels.shape[0]} pixels and the result is "
            f"{mask.shape[1]} x {mask.shape[0]}",
            fix="draw over the image that the result was made from",
        )


def _region_colours(regions: Sequence[Region]) -> list[tuple[int, int, int]]:
    seen: dict[int, int] = {}
    colours = []
    for region in regions:
        variant = seen.get(region.colour_index, 0)
        seen[region.colour_index] = variant + 1
        colours.append(colour(region.colour_index, variant))
    return colours


def _tiles(height: int) -> Iterator[slice]:
    return (slice(top, top + _TILE_ROWS) for top in range(0, height, _TILE_ROWS))


def _blend(
    pixels: npt.NDArray[np.uint8],
    indices: _Map,
    regions: Sequence[Region],
    colours: Sequence[tuple[int, int, int]],
) -> npt.NDArray[np.uint8]:
    """Fill and outline, a band of rows at a time to keep memory small."""
    count = len(regions) + 1
    quiet = np.array([True] + [region.is_quiet for region in regions])
    fill = np.where(quiet, _STUFF_ALPHA, _THING_ALPHA)
    line = np.where(quiet, _STUFF_OUTLINE_ALPHA, 1.0)
    fill[0] = line[0] = 0.0
    palette = np.array([(0, 0, 0), *colours], dtype=np.float64)
    # Lines are lighter than the fill, so that they stand out on it.
    light = palette + (255 - palette) * _OUTLINE_LIGHTER
    # In 256ths, so that blending is integer arithmetic: entries from `count` on are the lines.
    alpha = np.rint(256 * np.concatenate([fill, line]))
    paint = np.rint(alpha[:, None] * np.concatenate([palette, light])).astype(np.uint16)
    keep = (256 - alpha).astype(np.uint16)[:, None]
    width = max(1, round(min(indices.shape) / 320))
    result = np.empty_like(pixels)
    for rows in _tiles(len(indices)):
        top, bottom = max(0, rows.start - width), min(len(indices), rows.stop + width)
        margin = rows.start - top
        edge = _edges(indices[top:bottom], width)[margin : margin + _TILE_ROWS]
        index = indices[rows] + count * edge
        blended = pixels[rows] * keep[index] + paint[index]
        result[rows] = blended >> 8
    return result


def _edges(indices: _Map, width: int) -> npt.NDArray[np.bool_]:
    """Pixels with another segment within `width` pixels along an axis."""
    edge = np.zeros(indices.shape, dtype=bool)
    for distance in range(1, width + 1):
        below = indices[distance:] != indices[:-distance]
        edge[distance:] |= below
        edge[:-distance] |= below
        beside = indices[:, distance:] != indices[:, :-distance]
        edge[:, distance:] |= beside
        edge[:, :-distance] |= beside
    return edge


def _load_font(path: str | None, size: int) -> _Font:
    try:
        return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)
    except OSError as error:
        raise ArgumentError(
            f"The font {shown(path)} cannot be read", expected="a TrueType or OpenType file"
        ) from error


def _text_of(region: Region) -> str:
    label = " ".join(region.label.split())
    label = label if len(label) <= _LABEL_LIMIT else label[: _LABEL_LIMIT - 1] + "…"
    return label if region.is_quiet else f"{label} {100 * region.score:.0f}%"


@dataclass(frozen=True)
class _Label:
    """A label that has found its place."""

    text: str
    text_at: tuple[int, int]
    font: _Font
    plate: tuple[int, int, int, int]
    shade: tuple[int, int, int, int]
    anchor: tuple[int, int] | None


def _draw_labels(
    canvas: Image.Image,
    indices: _Map,
    regions: Sequence[Region],
    colours: Sequence[tuple[int, int, int]],
    font_path: str | None,
) -> None:
    size = max(10, round(math.sqrt(canvas.width * canvas.height) / 40))
    draw = ImageDraw.Draw(canvas, "RGBA")
    labels = list(_placed_labels(draw, indices, regions, colours, font_path, size))
    for label in labels:  # all lines first: none may cross a text
        if label.anchor is not None:
            left, top, right, bottom = label.plate
            start = ((left + right) / 2, (top + bottom) / 2)
            draw.line((start, label.anchor), fill=label.shade, width=max(1, size // 8))
            (x, y), radius = label.anchor, max(1, size // 8)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=label.shade)
    for label in labels:
        draw.rounded_rectangle(label.plate, radius=max(2, size // 4), fill=label.shade)
        draw.text(label.text_at, label.text, font=label.font, fill=_text_colour(label.shade))


def _placed_labels(
    draw: ImageDraw.ImageDraw,
    indices: _Map,
    regions: Sequence[Region],
    colours: Sequence[tuple[int, int, int]],
    font_path: str | None,
    size: int,
) -> Iterator[_Label]:
    """A label for every segment that is large enough and has room, things first."""
    fonts = {False: _load_font(font_path, size), True: _load_font(font_path, round(size * 0.85))}
    placer = LabelPlacer(indices, [region.is_quiet for region in regions])
    areas = np.bincount(indices.ravel(), minlength=len(regions) + 1)[1:]
    smallest = max(1, _SMALLEST_LABELLED * indices.size)
    # Things before stuff; within each the small first, which have the fewest places.
    order = sorted(range(len(regions)), key=lambda k: (regions[k].is_quiet, areas[k]))
    for k in order:
        if areas[k] < smallest:
            continue
        text, font = _text_of(regions[k]), fonts[regions[k].is_quiet]
        left, _, right, _ = (int(edge) for edge in draw.textbbox((0, 0), text, font=font))
        # The height of the font, not of these letters: plates of one picture are alike.
        line_height = int(draw.textbbox((0, 0), "Ág", font=font)[3])
        pad_x, pad_y = round(size * 0.4), round(size * 0.22)
        plate = (right - left + 2 * pad_x, line_height + 2 * pad_y)
        place = placer.take(k + 1, plate)
        if place is not None:
            yield _Label(
                text=text,
                text_at=(place.x + pad_x - left, place.y + pad_y),
                font=font,
                plate=(place.x, place.y, place.x + plate[0] - 1, place.y + plate[1] - 1),
                shade=_plate_colour(colours[k], regions[k].is_quiet),
                anchor=place.anchor,
            )


def _plate_colour(colour: tuple[int, int, int], is_quiet: bool) -> tuple[int, int, int, int]:
    if is_quiet:
        red, green, blue = (round(0.35 * channel) for channel in colour)
        return red, green, blue, 150
    return (*colour, 235)


def _text_colour(plate: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever contrasts more (relative luminance of WCAG 2)."""
    linear = [(channel / 255) ** 2.2 for channel in plate[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (16, 16, 16) if luminance > 0.18 else (255, 255, 255)
