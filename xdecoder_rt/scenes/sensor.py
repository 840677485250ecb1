"""A camera's effect on a picture: exposure, colour cast, blur, vignette and noise, all light."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["photograph"]


def photograph(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture as a random, decent camera would take it.

    Args:
        image: uint8 RGB [h, w, 3].
        rng: Source of randomness.

    Returns:
        uint8 RGB [h, w, 3]; no pixel moves by more than about two pixels, so labels stay true.
    """
    picture = Image.fromarray(image)
    blur = rng.random()
    if blur < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1))))
    elif blur < 0.32:
        picture = picture.filter(_motion(rng))
    values = np.asarray(picture, dtype=np.float32) / 255.0
    if rng.random() < 0.6:
        gain = rng.uniform(0.75, 1.2) * rng.uniform(0.94, 1.06, 3)
        values = np.clip(values * gain.astype(np.float32), 0, 1) ** np.float32(
            rng.uniform(0.8, 1.25)
        )
    if rng.random() < 0.2:
        values = values * _vignette(values.shape[0], values.shape[1], rng)
    if rng.random() < 0.5:
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        values = values + noise * np.float32(rng.uniform(0.004, 0.03))
    result: NDArray[np.uint8] = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.25:
        return _compressed(result, int(rng.integers(40, 85)))
    return result


def _motion(rng: np.random.Generator) -> ImageFilter.Kernel:
    """A short streak through the centre of a 5 x 5 kernel."""
    dy, dx = ((0, 1), (1, 0), (1, 1), (1, -1))[int(rng.integers(4))]
    kernel = np.zeros((5, 5))
    for step in (-1, 0, 1):
        kernel[2 + step * dy, 2 + step * dx] = 1.0
    return ImageFilter.Kernel((5, 5), kernel.ravel().tolist())


def _vignette(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    fall = 1.0 - np.float32(rng.uniform(0.1, 0.35)) * (x * x + y * y) / 2
    return np.asarray(fall[..., None], dtype=np.float32)


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as again:
        return np.array(again.convert("RGB"), dtype=np.uint8)
