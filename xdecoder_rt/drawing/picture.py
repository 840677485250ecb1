"""Drawing results over images, with Pillow.

Things are filled and outlined in a colour of their label, stuff more quietly; each label stands on
a plate inside its segment, where it hides least. Colours depend on the label's place in the
vocabulary alone, so that they stay the same from frame to frame. Regions that may overlap are
outlined over the segments, and carry a badge. What has a score under 50 % is paler the less sure it
is, its outline is dashed and its label greyed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from xdecoder_rt.drawing.certainty import dashes, faded, is_unsure, presence
from xdecoder_rt.drawing.fonts import Font, line_height, load_font, text_colour, text_size
from xdecoder_rt.drawing.labels import LabelPlace, LabelPlacer
from xdecoder_rt.drawing.outlines import RegionOutline, edges, paint_outlines
from xdecoder_rt.errors import ImageError
from xdecoder_rt.image import ImageSource, load_image

__all__ = ["LabelledRegion", "as_image", "colour", "draw_map", "index_map", "outline_colour"]

_GOLDEN_ANGLE = 137.50776405
_FIRST_HUE = 255.0
_LIGHTNESSES = (0.72, 0.62, 0.80)
_CHROMA = 0.16
_OUTLINE_LIGHTNESS, _OUTLINE_CHROMA = 0.80, 0.19
_THING_ALPHA, _STUFF_ALPHA = 0.46, 0.26
_STUFF_OUTLINE_ALPHA = 0.55
_PALEST = 0.2  # share of its alpha that is left to a segment of 0 %
_LINE_LIGHTER = 0.35
_TILE_ROWS = 256
_LABEL_LIMIT = 40
_SMALLEST_LABELLED = 4e-4  # share of the image

_Map = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabelledRegion:
    """A segment to be drawn with its label.

    Attributes:
        label: what to write.
        score: written after the label of things; under 50 % the region is dimmed.
        colour_index: which colour; equal indices get equal hues.
        is_quiet: whether it is background (stuff) rather than an object.
    """

    label: str
    score: float
    colour_index: int
    is_quiet: bool = False


def as_image(image: ImageSource) -> Image.Image:
    """Return the image as a new Pillow image, RGB."""
    return Image.fromarray(np.array(load_image(image)))


def colour(index: int, variant: int = 0) -> tuple[int, int, int]:
    """Return a colour for a label: hues a golden angle apart, of even lightness to the eye.

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


def outline_colour(index: int) -> tuple[int, int, int]:
    """Return a colour for an outline: stronger than those of labels, in hues between theirs."""
    hue = math.radians(_FIRST_HUE + _GOLDEN_ANGLE * (index + 0.5))
    return _oklch_to_srgb(_OUTLINE_LIGHTNESS, _OUTLINE_CHROMA, hue)


def _oklch_to_srgb(lightness: float, chroma: float, hue: float) -> tuple[int, int, int]:
    """Convert by B. Ottosson's OKLab (https://bottosson.github.io/posts/oklab), clipped to sRGB."""
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
    """Replace each of `ids` in `segmentation` by its place in them, from 1; the rest is 0."""
    result = np.zeros(segmentation.shape, dtype=np.int32)
    if not ids or not segmentation.size:
        return result
    order = np.argsort(ids)
    ordered = np.asarray(ids, dtype=np.int64)[order]
    for rows in _tiles(segmentation.shape[0]):
        place = np.searchsorted(ordered, segmentation[rows]).clip(max=len(ids) - 1)
        result[rows] = np.where(ordered[place] == segmentation[rows], order[place] + 1, 0)
    return result


def draw_map(
    image: ImageSource,
    indices: _Map,
    regions: Sequence[LabelledRegion],
    font: str | None = None,
    outlines: Sequence[RegionOutline] = (),
) -> Image.Image:
    """Draw segments that do not overlap, and outlines that may.

    Args:
        image: the image that they belong to.
        indices: int32 ``[H, W]``: 0 for nothing, k for ``regions[k - 1]``.
        regions: how to draw each.
        font: path of a TrueType font, or None for the built-in one.
        outlines: drawn over the segments; tinted if there are none of these.

    Returns:
        A new RGB image of the same size.

    Raises:
        ImageError: the image is unreadable or of another size than `indices` or an outline.
        ArgumentError: the font cannot be read.
    """
    pixels = load_image(image)
    _check_size(pixels, indices)
    colours = _region_colours(regions)
    blended = _blend(pixels, indices, regions, colours)
    for outline in outlines:
        _check_size(pixels, outline.mask)
    paint_outlines(blended, outlines, filled=not regions)
    canvas = Image.fromarray(blended)
    _draw_labels(canvas, indices, regions, colours, outlines, font)
    return canvas


def _check_size(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.generic]) -> None:
    if mask.shape != pixels.shape[:2]:
        raise ImageError(
            f"The image is {pixels.shape[1]} x {pixels.shape[0]} pixels and the result is "
            f"{mask.shape[1]} x {mask.shape[0]}",
            fix="draw over the image that the result was made from",
        )


def _region_colours(regions: Sequence[LabelledRegion]) -> list[tuple[int, int, int]]:
    variants: dict[int, int] = {}
    colours = []
    for region in regions:
        variant = variants.get(region.colour_index, 0)
        variants[region.colour_index] = variant + 1
        colours.append(colour(region.colour_index, variant))
    return colours


def _tiles(height: int) -> Iterator[slice]:
    return (slice(top, top + _TILE_ROWS) for top in range(0, height, _TILE_ROWS))


def _blend(
    pixels: npt.NDArray[np.uint8],
    indices: _Map,
    regions: Sequence[LabelledRegion],
    colours: Sequence[tuple[int, int, int]],
) -> npt.NDArray[np.uint8]:
    """Blend fill and outline, a band of rows at a time to keep memory small."""
    count = len(regions) + 1
    quiet = np.array([True] + [region.is_quiet for region in regions])
    fill = np.where(quiet, _STUFF_ALPHA, _THING_ALPHA)
    line = np.where(quiet, _STUFF_OUTLINE_ALPHA, 1.0)
    strength = _PALEST + (1 - _PALEST) * np.array([1.0] + [presence(r.score) for r in regions])
    fill, line = fill * strength, line * np.sqrt(strength)
    dashed = np.array([False] + [is_unsure(region.score) for region in regions])
    fill[0] = line[0] = 0.0
    palette = np.array([(0, 0, 0), *colours], dtype=np.float64)
    # Lines are lighter than the fill, so that they stand out on it.
    light = palette + (255 - palette) * _LINE_LIGHTER
    # In 256ths, so that blending is integer arithmetic: entries from `count` on are the lines.
    alpha = np.rint(256 * np.concatenate([fill, line]))
    paint = np.rint(alpha[:, None] * np.concatenate([palette, light])).astype(np.uint16)
    keep = (256 - alpha).astype(np.uint16)[:, None]
    width = max(1, round(min(indices.shape) / 320))
    result = np.empty_like(pixels)
    for rows in _tiles(len(indices)):
        top, bottom = max(0, rows.start - width), min(len(indices), rows.stop + width)
        margin = rows.start - top
        edge = edges(indices[top:bottom], width)[margin : margin + _TILE_ROWS]
        if dashed.any():
            edge &= ~dashed[indices[rows]] | dashes(edge.shape, width, rows.start)
        index = indices[rows] + count * edge
        blended = pixels[rows] * keep[index] + paint[index]
        result[rows] = blended >> 8
    return result


def _text_of(region: LabelledRegion) -> str:
    label = " ".join(region.label.split())
    label = label if len(label) <= _LABEL_LIMIT else label[: _LABEL_LIMIT - 1] + "…"
    return label if region.is_quiet else f"{label} {100 * region.score:.0f}%"


@dataclass(frozen=True)
class _Label:
    """A label or a badge that has found its place."""

    text: str
    text_at: tuple[float, float]
    text_anchor: str
    font: Font
    plate: tuple[int, int, int, int]
    radius: int
    shade: tuple[int, int, int, int]
    ring: tuple[int, int, int] | None
    anchor: tuple[int, int] | None


def _draw_labels(
    canvas: Image.Image,
    indices: _Map,
    regions: Sequence[LabelledRegion],
    colours: Sequence[tuple[int, int, int]],
    outlines: Sequence[RegionOutline],
    font_path: str | None,
) -> None:
    size = text_size(canvas.width, canvas.height)
    draw = ImageDraw.Draw(canvas, "RGBA")
    placer = LabelPlacer(indices, [region.is_quiet for region in regions])
    # Badges first: there are few, they are small, and what they stand for is told by nothing else.
    labels = list(_placed_badges(draw, placer, outlines, load_font(font_path, size), size))
    labels += _placed_labels(draw, placer, indices, regions, colours, font_path, size)
    width = max(1, size // 8)
    for label in labels:  # all lines first: none may cross a text
        if label.anchor is not None:
            left, top, right, bottom = label.plate
            start = ((left + right) / 2, (top + bottom) / 2)
            if label.ring is not None:
                draw.line((start, label.anchor), fill=label.ring, width=width + 2)
            draw.line((start, label.anchor), fill=label.shade, width=width)
            x, y = label.anchor
            draw.ellipse((x - width, y - width, x + width, y + width), fill=label.shade)
    for label in labels:
        draw.rounded_rectangle(label.plate, label.radius, fill=label.shade, outline=label.ring)
        draw.text(
            label.text_at,
            label.text,
            font=label.font,
            fill=text_colour(label.shade),
            anchor=label.text_anchor,
        )


def _placed_badges(
    draw: ImageDraw.ImageDraw,
    placer: LabelPlacer,
    outlines: Sequence[RegionOutline],
    font: Font,
    size: int,
) -> Iterator[_Label]:
    """Place a badge for every outlined region that has room, the small first."""
    height = round(1.3 * line_height(draw, font))
    for outline in sorted(outlines, key=lambda item: int(item.mask.sum())):
        if not outline.badge:
            continue
        text_width = math.ceil(draw.textlength(outline.badge, font=font))
        plate = (max(height, text_width + round(0.7 * size)), height)
        place = placer.take_mask(outline.mask, plate)
        if place is not None:
            left, top, right, bottom = box = _plate(place, plate)
            yield _Label(
                text=outline.badge,
                text_at=((left + right) / 2, (top + bottom) / 2),
                text_anchor="mm",
                font=font,
                plate=box,
                radius=height // 2,
                shade=(*faded(outline.colour, outline.score), 255),
                ring=(16, 16, 16),
                anchor=place.anchor,
            )


def _placed_labels(
    draw: ImageDraw.ImageDraw,
    placer: LabelPlacer,
    indices: _Map,
    regions: Sequence[LabelledRegion],
    colours: Sequence[tuple[int, int, int]],
    font_path: str | None,
    size: int,
) -> Iterator[_Label]:
    """Place a label for every segment that is large enough and has room, things first."""
    fonts = {False: load_font(font_path, size), True: load_font(font_path, round(size * 0.85))}
    areas = np.bincount(indices.ravel(), minlength=len(regions) + 1)[1:]
    smallest = max(1, _SMALLEST_LABELLED * indices.size)
    # Things before stuff; within each the small first, which have the fewest places.
    order = sorted(range(len(regions)), key=lambda k: (regions[k].is_quiet, areas[k]))
    for k in order:
        if areas[k] < smallest:
            continue
        text, font = _text_of(regions[k]), fonts[regions[k].is_quiet]
        left, _, right, _ = (int(edge) for edge in draw.textbbox((0, 0), text, font=font))
        pad_x, pad_y = round(size * 0.4), round(size * 0.22)
        # The height of the font, not of these letters: plates of one picture are alike.
        plate = (right - left + 2 * pad_x, line_height(draw, font) + 2 * pad_y)
        place = placer.take(k + 1, plate)
        if place is not None:
            yield _Label(
                text=text,
                text_at=(place.x + pad_x - left, place.y + pad_y),
                text_anchor="la",
                font=font,
                plate=_plate(place, plate),
                radius=max(2, size // 4),
                shade=_plate_colour(colours[k], regions[k]),
                ring=None,
                anchor=place.anchor,
            )


def _plate(place: LabelPlace, size: tuple[int, int]) -> tuple[int, int, int, int]:
    return place.x, place.y, place.x + size[0] - 1, place.y + size[1] - 1


def _plate_colour(
    colour: tuple[int, int, int], region: LabelledRegion
) -> tuple[int, int, int, int]:
    shade = faded(colour, region.score)
    if region.is_quiet:
        red, green, blue = (round(0.35 * channel) for channel in shade)
        return red, green, blue, 150
    return (*shade, round(150 + 85 * presence(region.score)))
