"""Where an image lies in a network input.

All sizes are (height, width) in pixels. Nothing compiled is needed: kernels reckon with it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdecoder_rt.errors import ArgumentError, ImageError


@dataclass(frozen=True)
class Letterbox:
    """The place of an image in a network input: scaled, at the top left, padded right and below.

    All sizes are (height, width) in pixels.

    Attributes:
        source: of the original image.
        target: of the network input.
        valid: of the scaled image inside the target, at least 1 x 1.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    valid: tuple[int, int]

    @classmethod
    def fit(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        """Return the largest letterbox of the source's aspect ratio inside `target`.

        The side that limits fills the target exactly; the other is rounded to the nearest pixel
        (half up) and is at least 1. Smaller images are enlarged.

        Raises:
            ArgumentError: a side is below 1.
        """
        if min(*source, *target) < 1:
            raise ArgumentError(
                f"An image of {source} cannot be fitted into {target}",
                expected="heights and widths of at least 1",
            )
        height, width = source
        # Integers throughout: equal aspect ratios must come out equal.
        if target[0] * width <= target[1] * height:
            valid = (target[0], max(1, (2 * width * target[0] + height) // (2 * height)))
        else:
            valid = (max(1, (2 * height * target[1] + width) // (2 * width)), target[1])
        return cls(source, target, valid)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input per pixel of the source, vertically and horizontally.

        The two differ by the rounding of `valid` only.
        """
        return self.valid[0] / self.source[0], self.valid[1] / self.source[1]

    @property
    def is_unscaled(self) -> bool:
        """Whether the image goes in pixel by pixel."""
        return self.valid == self.source

    @property
    def padding(self) -> float:
        """The share of the target that is padding, 0 to 1."""
        return 1 - (self.valid[0] * self.valid[1]) / (self.target[0] * self.target[1])


def choose_size(source: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Choose the input size that shows the most of an image for what it computes.

    A size is worth the resolution that it keeps (1 where nothing is scaled down) times the root of
    the share that is no padding. Among sizes worth within one percent of the best (rounding makes
    them differ), the smallest wins.

    Args:
        source: (height, width) of the image.
        sizes: (height, width) of the inputs to choose from.

    Returns:
        One of `sizes`.

    Raises:
        ArgumentError: there are no sizes.
    """
    if not sizes:
        raise ArgumentError("There are no input sizes to choose from")

    def worth(size: tuple[int, int]) -> float:
        box = Letterbox.fit(source, size)
        return float(min(1.0, *box.scale) * (1 - box.padding) ** 0.5)

    least = 0.99 * max(map(worth, sizes))
    return min((size for size in sizes if worth(size) >= least), key=_size_order)


def _size_order(size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return size[0] * size[1], size


@dataclass(frozen=True)
class ResizeRule:
    """How images are scaled into network inputs.

    Attributes:
        name: ``"letterbox"``: to fill the input that fits best. ``"short_side"``: to a short side,
            whatever the input, which must hold the scaled image. ``"squash"``: to the input's
            height and width, without keeping proportions.
        short_side: pixels of a scaled image's short side, of ``"short_side"`` alone.
        longest_side: pixels that its long side may have, for which it is scaled less; None for no
            limit.
    """

    name: str = "letterbox"
    short_side: int | None = None
    longest_side: int | None = None

    def scaled_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that ``"short_side"`` scales an image to.

        Sides are rounded half up, as detectron2's `ResizeShortestEdge` rounds; without a limit of
        the long side it is rounded down, as torchvision's `Resize` does.

        Args:
            source: (height, width) of the image.

        Raises:
            ArgumentError: a side is below 1, or the rule is another.
        """
        if min(source) < 1 or self.short_side is None:
            raise ArgumentError(
                f"An image of {source} cannot be scaled by the rule {self.name}",
                expected="a height and width of at least 1, and the rule short_side",
            )
        short, long = min(source), max(source)
        if self.longest_side is None:
            sides = self.short_side, self.short_side * long // short
        else:
            # In floating point and in this order, as there: halves round alike.
            exact = [float(self.short_side), self.short_side / short * long]
            if exact[1] > self.longest_side:
                scale = self.longest_side / exact[1]
                exact = [side * scale for side in exact]
            sides = max(1, int(exact[0] + 0.5)), int(exact[1] + 0.5)
        return sides if source[0] <= source[1] else (sides[1], sides[0])

    def place(self, source: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> Letterbox:
        """Return where an image goes: which input, and which part of it.

        The smallest input that holds the scaled image is taken. An image that none holds is scaled
        less, by the input that shows it largest.

        Args:
            source: (height, width) of the image.
            sizes: (height, width) of the inputs to choose from.

        Raises:
            ArgumentError: there are no sizes, or a side is below 1.
        """
        if self.name == "letterbox":
            return Letterbox.fit(source, choose_size(source, sizes))
        if self.name == "squash":
            target = choose_size(source, sizes)
            return Letterbox(source, target, target)
        scaled = self.scaled_size(source)
        holding = [size for size in sizes if size[0] >= scaled[0] and size[1] >= scaled[1]]
        if holding:
            return Letterbox(source, min(holding, key=_size_order), scaled)
        boxes = [Letterbox.fit(source, size) for size in sorted(sizes, key=_size_order)]
        return max(boxes, key=lambda box: box.valid[0] * box.valid[1])

    def place_unscaled(
        self, source: tuple[int, int], sizes: Sequence[tuple[int, int]]
    ) -> Letterbox:
        """Return where an image goes that is taken pixel by pixel; the arguments of :meth:`place`.

        Raises:
            ImageError: the rule scales it.
        """
        if self.name == "letterbox":
            return unscaled_letterbox(source, sizes)
        box = self.place(source, sizes)
        if not box.is_unscaled:
            size = f"{box.valid[0]} x {box.valid[1]}"
            raise _would_be_scaled(source, f"{size}, as the plan scales it")
        return box


def unscaled_letterbox(source: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> Letterbox:
    """Return the letterbox that takes an image pixel by pixel, with the least padding.

    Args:
        source: (height, width) of the image.
        sizes: (height, width) of the inputs to choose from.

    Raises:
        ImageError: every input would scale it.
    """
    boxes = [Letterbox.fit(source, size) for size in sizes]
    fitting = [box for box in boxes if box.is_unscaled]
    if not fitting:
        raise _would_be_scaled(
            source,
            "a height or width of the plan's input, the other side no larger: "
            + ", ".join(f"{height} x {width}" for height, width in sizes),
        )
    return min(fitting, key=lambda box: box.padding)


def _would_be_scaled(source: tuple[int, int], expected: str) -> ImageError:
    return ImageError(
        f"The image of {source[0]} x {source[1]} on the device would have to be scaled",
        expected=expected,
        fix="scale it on the device first, give it as a NumPy array, or build the plan with "
        "compiled kernels, which scale frames",
    )
