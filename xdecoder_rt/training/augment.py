"""Augmentation of an image and its id map: random scale, crop, flip, colour, blur and noise.

A view must leave true what is said of the image. A free crop makes "how many", "the largest" and
whole captions untrue, so an image that is shown with its texts is seen in a :func:`truthful_view`.

Everything is drawn from one generator, so a sample follows from its seed. The crop is cut before
it is resized: only the pixels that remain are ever resampled.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import require
from xdecoder_rt.image import RgbImage

IdMap = NDArray[np.integer[Any]]

SCALE_RANGE = (0.75, 1.5)
CROP_ATTEMPTS = 4
MIN_CROP_LABELLED = 0.02
BRIGHTNESS = 28.0
CONTRAST = (0.75, 1.3)
CHANNEL_GAIN = 0.08
SATURATION = (0.6, 1.4)
# Colour words must stay true: hue moves by at most 5 of OpenCV's 180 degrees.
HUE = 5
COLOUR_PROBABILITY = 0.8
BLUR_PROBABILITY = 0.15
BLUR_SIGMA = (0.4, 1.4)
NOISE_PROBABILITY = 0.15
NOISE_SIGMA = (2.0, 9.0)
FLIP_PROBABILITY = 0.5
TRUTHFUL_ZOOM = 1.5
TRUTHFUL_SCALE = 0.75


@dataclass(frozen=True)
class View:
    """A part of an image at some scale, perhaps mirrored.

    Attributes:
        top: first row of the part, in source pixels.
        left: first column.
        height: rows of the part in source pixels.
        width: columns.
        size: rows and columns after resizing.
        flipped: whether left and right are exchanged.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    flipped: bool = False

    def of_image(self, image: RgbImage) -> RgbImage:
        """Cut, resize and mirror an ``[H, W, 3]`` image."""
        cv2 = require("cv2", "train")
        part = image[self.top : self.top + self.height, self.left : self.left + self.width]
        height, width = self.size
        shrinks = height < self.height
        resized = cv2.resize(
            part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return np.ascontiguousarray(resized[:, ::-1] if self.flipped else resized)

    def of_ids(self, ids: IdMap) -> IdMap:
        """View an ``[H, W]`` id map: every pixel takes the id at its centre."""
        height, width = self.size
        rows = self.top + _centres(height, self.height)
        columns = self.left + _centres(width, self.width)
        if self.flipped:
            columns = columns[::-1]
        return ids[rows[:, None], columns]


def _centres(count: int, length: int) -> NDArray[np.int64]:
    """Source index under the centre of each of `count` pixels that share `length` source pixels."""
    centres: NDArray[np.int64] = ((np.arange(count) + 0.5) * (length / count)).astype(np.int64)
    return centres


def whole_view(shape: tuple[int, int], size: int) -> View:
    """Return the whole image, its long side resized to `size`."""
    height, width = shape
    scale = size / max(height, width)
    resized = (max(1, round(height * scale)), max(1, round(width * scale)))
    return View(0, 0, height, width, resized)


def random_view(ids: IdMap, size: int, rng: np.random.Generator) -> View:
    """Draw a random scale and crop of at most `size` by `size` pixels.

    The long side is scaled to 0.75 to 1.5 times `size`, evenly in the logarithm. A crop without
    labels teaches nothing, so a few are tried until one is labelled on 2 % of its pixels.

    Args:
        ids: the source's id map, 0 = unlabelled.
        size: largest side of the view in pixels.
        rng: source of randomness.
    """
    height, width = ids.shape
    low, high = np.log(SCALE_RANGE)
    scale = float(np.exp(rng.uniform(low, high))) * size / max(height, width)
    out = tuple(min(size, max(1, round(side * scale))) for side in (height, width))
    part = tuple(
        min(side, max(1, round(o / scale))) for side, o in zip((height, width), out, strict=True)
    )
    flipped = bool(rng.random() < FLIP_PROBABILITY)
    for _ in range(CROP_ATTEMPTS):
        top = int(rng.integers(height - part[0] + 1))
        left = int(rng.integers(width - part[1] + 1))
        crop = ids[top : top + part[0], left : left + part[1]]
        # Every fourth row and column is enough to see whether there are labels.
        if np.count_nonzero(crop[::4, ::4] > 0) >= MIN_CROP_LABELLED * crop[::4, ::4].size:
            break
    return View(top, left, part[0], part[1], (out[0], out[1]), flipped)


def truthful_view(
    ids: IdMap, whole_ids: Collection[int], size: int, rng: np.random.Generator
) -> View:
    """Draw a random scale and mild crop that leave texts true, but for mirrored sides.

    The crop is centred, so that what is on the left stays there and distances only grow; it cuts
    through nothing of `whole_ids`, so that order, number and sizes stay; and no segment vanishes.

    Args:
        ids: the source's id map, 0 = unlabelled.
        whole_ids: ids that must stay whole; without any, the whole image is shown.
        size: largest side of the view in pixels.
        rng: source of randomness.
    """
    height, width = ids.shape
    zoom = float(np.exp(rng.uniform(0, np.log(TRUTHFUL_ZOOM))))
    scale = float(np.exp(rng.uniform(np.log(TRUTHFUL_SCALE), 0)))
    flipped = bool(rng.random() < FLIP_PROBABILITY)
    whole = whole_view((height, width), max(1, round(scale * size)))
    kept_pixels = np.isin(ids, list(whole_ids))
    reach = [
        float(np.abs(np.flatnonzero(kept_pixels.any(axis=axis)) + 0.5 - side / 2).max(initial=0))
        for axis, side in ((1, height), (0, width))
    ]
    # Half a pixel beyond the outermost centres, as a share of the half side.
    outermost = ((r + 0.5) / (side / 2) for r, side in zip(reach, ids.shape, strict=True))
    share = max(1 / zoom, *outermost)
    top, left = (int(side * (1 - share) / 2) for side in (height, width))
    part = ids[top : height - top, left : width - left]
    if share >= 1 or not whole_ids or len(np.unique(part)) < len(np.unique(ids)):
        return replace(whole, flipped=flipped)
    return View(top, left, part.shape[0], part.shape[1], whole.size, flipped)


def jitter_colour(image: RgbImage, rng: np.random.Generator) -> RgbImage:
    """Vary brightness, contrast, the channels' gains, saturation and, a little, hue."""
    cv2 = require("cv2", "train")
    contrast = np.exp(rng.uniform(*np.log(CONTRAST)))
    gains = contrast * (1 + rng.uniform(-CHANNEL_GAIN, CHANNEL_GAIN, size=3))
    offset = rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.clip((levels - 127.5) * gains + 127.5 + offset, 0, 255).astype(np.uint8)
    jittered = cv2.LUT(image, table[None])
    hsv = cv2.cvtColor(jittered, cv2.COLOR_RGB2HSV)
    steps = np.arange(256)
    shift = int(rng.integers(-HUE, HUE + 1))
    hsv_table = np.stack(
        (
            (steps + shift) % 180,
            np.clip(steps * np.exp(rng.uniform(*np.log(SATURATION))), 0, 255),
            steps,
        ),
        axis=1,
    ).astype(np.uint8)
    out: RgbImage = cv2.cvtColor(cv2.LUT(hsv, hsv_table[None]), cv2.COLOR_HSV2RGB)
    return out


def degrade(image: RgbImage, rng: np.random.Generator) -> RgbImage:
    """Now and then, blur or add noise, as small cameras do."""
    cv2 = require("cv2", "train")
    if rng.random() < BLUR_PROBABILITY:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(*BLUR_SIGMA)))
    if rng.random() < NOISE_PROBABILITY:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noisy = image + noise * np.float32(rng.uniform(*NOISE_SIGMA))
        image = np.clip(noisy, 0, 255).astype(np.uint8)
    return image


def augmented(
    image: RgbImage, ids: IdMap, view: View, rng: np.random.Generator
) -> tuple[RgbImage, IdMap]:
    """View an image with its id map, and vary its colours.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        ids: ``[H, W]`` segment ids, 0 = unlabelled.
        view: what of it is seen.
        rng: source of randomness.

    Returns:
        ``[h, w, 3]`` uint8 and ``[h, w]`` ids of the view's size.
    """
    image, ids = view.of_image(image), view.of_ids(ids)
    if rng.random() < COLOUR_PROBABILITY:
        image = jitter_colour(image, rng)
    return degrade(image, rng), ids
