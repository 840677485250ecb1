"""A frame with its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """A frame and when it was.

    Attributes:
        pixels: RGB, uint8 ``[H, W, 3]``, upright.
        seconds: since the stream's first frame.
    """

    pixels: npt.NDArray[np.uint8]
    seconds: float
