"""Depth images of a demo's frames, from a folder, and distances drawn over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.errors import ImageError, quoted
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.streams.folders import images_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from xdecoder_rt.results import Segmentation

__all__ = ["DepthFolder", "read_depth"]


class DepthFolder:
    """A depth image a frame, in the order of frames.

    Args:
        folder: of depth images, see `read_depth`.
        intrinsics: fx, fy, cx and cy, pixels.

    Raises:
        ImageError: the folder holds no images, or cannot be read.
    """

    def __init__(self, folder: str, intrinsics: Sequence[float]) -> None:
        self._files = images_in(Path(folder)).images
        self._intrinsics = intrinsics

    def draw(self, picture: Image.Image, result: Segmentation, index: int) -> None:
        """Draw boxes and distances of things over a frame's picture; nothing past the last depth.

        Raises:
            ImageError: the frame's depth image cannot be read.
            ArgumentError: it, or the intrinsics, do not fit the frame.
        """
        from xdecoder_rt.drawing.boxes import draw_boxes

        if index >= len(self._files):
            return
        places = result.in_space(read_depth(self._files[index]), self._intrinsics)
        things = [
            place
            for place, info in zip(places, result.segments_info, strict=True)
            if place is not None and info["isthing"]
        ]
        draw_boxes(picture, things, self._intrinsics)


def read_depth(path: Path) -> npt.NDArray[np.uint16]:
    """Return a depth image in millimetres, uint16 ``[H, W]``.

    Args:
        path: a PNG or TIFF of one channel of 16 bits.

    Raises:
        ImageError: it is none, or cannot be read.
    """
    import numpy as np
    from PIL import Image

    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG", "TIFF")) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"The depth image {quoted(str(path), 200)} cannot be read") from error
    # Pillow has 16 bits as I;16, and in some files as 32.
    if (
        not mode.startswith("I")
        or pixels.ndim != 2
        or not 0 <= pixels.min() <= pixels.max() < 65536
    ):
        raise ImageError(
            f"The depth image {quoted(str(path), 200)} is of the mode {quoted(mode)}",
            expected="one channel of 16 bits, in millimetres",
        )
    result: npt.NDArray[Any] = pixels.astype(np.uint16)
    return result
