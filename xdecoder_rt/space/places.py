"""Where a mask lies in space: its points by an aligned depth image, without what bleeds over edges.

Coordinates are those of the camera's optical frame, as ROS has them: x right, y down, z forward,
metres. The centre of the pixel in column u and row v is at ``((u - cx) * z / fx, (v - cy) * z / fy,
z)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted

__all__ = ["Intrinsics", "IntrinsicsSource", "Place", "SpaceBox", "depth_in_metres", "place_of"]

Floats = npt.NDArray[np.float64]

_LEAST_POINTS = 10
_MOST_POINTS = 20_000
# An edge is a step of depth of this share: points beside it may be mixtures of both sides.
_EDGE_STEP = 0.03
# A gap in depth of this share is where another surface begins; in it there may be this share of the
# points.
_GAP, _STRAY, _MOST_BINS = 0.04, 0.001, 500
_TAIL = 0.5  # percent at each end of an extent that noise may have


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera.

    Attributes:
        fx (float; pixels): focal length across.
        fy (float; pixels): focal length down.
        cx (float; pixels): column that the optical axis meets.
        cy (float; pixels): row that the optical axis meets.

    Example:
        >>> Intrinsics(500.0, 500.0, 320.0, 240.0).fx
        500.0
    """

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of(cls, source: IntrinsicsSource, size: tuple[int, int]) -> Intrinsics:
        """Return the intrinsics of an image, in any form that a call takes.

        Args:
            source: these, four numbers fx, fy, cx and cy, or the matrix K: 3 x 3 or its 9 numbers
                by rows (``CameraInfo.k``).
            size: (height, width) of the image.

        Raises:
            ArgumentError: they are none, or those of an image of another size.

        Example:
            >>> Intrinsics.of([[500, 0, 320], [0, 500, 240], [0, 0, 1]], (480, 640))
            Intrinsics(fx=500.0, fy=500.0, cx=320.0, cy=240.0)
        """
        if isinstance(source, Intrinsics):
            numbers = np.array([source.fx, source.fy, source.cx, source.cy])
        else:
            try:
                numbers = np.asarray(source, np.float64)
            except (TypeError, ValueError):
                numbers = np.zeros(0)
            if numbers.shape in ((3, 3), (9,)):
                matrix = numbers.reshape(3, 3)
                numbers = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]])
        height, width = size
        if numbers.shape != (4,) or not np.isfinite(numbers).all() or numbers[:2].min() <= 0:
            raise ArgumentError(
                f"The intrinsics are {quoted(source)}",
                expected="fx, fy, cx and cy in pixels, or the 3 x 3 matrix K",
            )
        fx, fy, cx, cy = numbers.tolist()
        if not (0 <= cx <= width and 0 <= cy <= height):
            raise ArgumentError(
                f"The optical axis meets the image at {cx:g}, {cy:g}, outside its {width} x "
                f"{height} pixels",
                expected="the intrinsics of this image",
                fix="scale them as the image was scaled",
            )
        return cls(fx, fy, cx, cy)


IntrinsicsSource: TypeAlias = "Intrinsics | Sequence[float] | npt.ArrayLike"


@dataclass(frozen=True, eq=False)
class SpaceBox:
    """A box along the axes of what is seen of a thing.

    Attributes:
        centre (float64 [3]; metres): its centre.
        size (float64 [3]; metres): along its axes, the longest first.
        axes (float64 [3, 3]; unit vectors): the columns are its axes, a right-handed rotation.

    Example:
        >>> box = SpaceBox(np.zeros(3), np.array([2.0, 1.0, 1.0]), np.eye(3))
        >>> float(box.size.prod())
        2.0
    """

    centre: Floats
    size: Floats
    axes: Floats

    def corners(self) -> Floats:
        """Return its corners, float64 ``[8, 3]``; bit i of the index is the side of axis i.

        Example:
            >>> box = SpaceBox(np.zeros(3), np.array([2.0, 1.0, 1.0]), np.eye(3))
            >>> box.corners()[0].tolist()
            [-1.0, -0.5, -0.5]
        """
        signs = np.array([[(n >> i & 1) - 0.5 for i in range(3)] for n in range(8)])
        corners: Floats = self.centre + (signs * self.size) @ self.axes.T
        return corners


@dataclass(frozen=True, eq=False)
class Place:
    """Where a segment is.

    Attributes:
        id (int; id): the segment's.
        label (str): the segment's.
        score (float; 0 to 1): the segment's.
        median (float64 [3]; metres): the median of its points: x right, y down, z forward.
        distance (float; metres): of the median from the camera.
        low (float64 [3]; metres): the least of its extent along the camera's axes.
        high (float64 [3]; metres): the greatest of its extent along the camera's axes.
        box (SpaceBox): an oriented box around what is seen of it.
        points (int; pixels): of its mask with a depth that was believed.
        share (float; 0 to 1): these, of the mask's pixels.

    Example:
        >>> (place,) = result.in_space(np.full((480, 640), 2.0), [500, 500, 320, 240])
        >>> place.label, float(place.median[2])
        ('mug', 2.0)
    """

    id: int
    label: str
    score: float
    median: Floats
    distance: float
    low: Floats
    high: Floats
    box: SpaceBox
    points: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``, metres.

        Example:
            >>> (place,) = result.in_space(np.full((480, 640), 2.0), [500, 500, 320, 240])
            >>> place.to_dict()["label"]
            'mug'
        """
        return {
            "id": self.id,
            "label": self.label,
            "score": self.score,
            "median": self.median.tolist(),
            "distance": self.distance,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "box": {
                "centre": self.box.centre.tolist(),
                "size": self.box.size.tolist(),
                "axes": self.box.axes.tolist(),
            },
            "points": self.points,
            "share": self.share,
        }


def depth_in_metres(depth: object, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return a depth image in metres, NaN where there is none.

    Args:
        depth: of the image's size: uint16 millimetres, 0 for none, or floating metres, NaN,
            infinite or not positive for none.
        size: (height, width) of the image that it must be aligned with.

    Returns:
        float32 ``[H, W]``.

    Raises:
        ArgumentError: it is of another size or type.
    """
    array = np.asarray(depth)
    if array.shape != size:
        raise ArgumentError(
            f"The depth image has the shape {quoted(array.shape)}, and the image {size}",
            expected="depth aligned with the image, of its height and width",
            fix="take the camera's aligned depth (depth_registered, aligned_depth_to_color)",
        )
    if array.dtype == np.uint16:
        metres = array.astype(np.float32) * np.float32(1e-3)
    elif array.dtype.kind == "f":
        metres = array.astype(np.float32)
    else:
        raise ArgumentError(
            f"The depth image is of the type {array.dtype}",
            expected="uint16 in millimetres, or float32 in metres",
        )
    metres[~((metres > 0) & np.isfinite(metres))] = np.nan
    return metres


def place_of(
    mask: npt.NDArray[np.bool_],
    metres: npt.NDArray[np.float32],
    camera: Intrinsics,
    info: dict[str, Any],
) -> Place | None:
    """Return where a segment is, or None where too few of its pixels have a depth.

    Args:
        mask: bool ``[H, W]``.
        metres: of :func:`depth_in_metres`.
        camera: the image's.
        info: the segment's entry of `segments_info`.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, depth = mask[window], metres[window]
    with np.errstate(invalid="ignore"):
        believed = _believed(inside, depth)
    count = int(believed.sum())
    if count < _LEAST_POINTS:
        return None
    v, u = np.nonzero(believed)
    step = -(-count // _MOST_POINTS)
    v, u = v[::step], u[::step]
    z = depth[v, u].astype(np.float64)
    x = (u + columns[0] - camera.cx) * z / camera.fx
    y = (v + rows[0] - camera.cy) * z / camera.fy
    points = np.stack((x, y, z), axis=1)
    median = np.median(points, axis=0)
    low, high = np.percentile(points, (_TAIL, 100 - _TAIL), axis=0)
    return Place(
        int(info["id"]),
        str(info["label"]),
        float(info["score"]),
        median,
        float(np.linalg.norm(median)),
        low,
        high,
        _oriented(points),
        count,
        count / int(inside.sum()),
    )


def _believed(
    inside: npt.NDArray[np.bool_], depth: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Return pixels of a mask whose depth is the thing's: no hole, no edge, no other surface."""
    known = inside & ~np.isnan(depth)
    core = known & ~_on_edge(depth)
    if core.sum() < max(_LEAST_POINTS, known.sum() // 4):  # too thin to leave its edges out
        core = known
    z = depth[core]
    if not len(z):
        return core
    low, high = _one_surface(z)
    result: npt.NDArray[np.bool_] = core & (depth >= low) & (depth <= high)
    return result


def _one_surface(depths: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the least and greatest depth of what hangs together with the median."""
    middle = float(np.median(depths))
    bins = np.floor(np.log(depths / middle) / _GAP + 0.5).astype(np.int64)
    bins = bins.clip(-_MOST_BINS, _MOST_BINS) + _MOST_BINS
    counts = np.bincount(bins, minlength=2 * _MOST_BINS + 1)
    is_empty = counts <= _STRAY * len(depths)
    below = np.flatnonzero(is_empty[:_MOST_BINS])
    above = np.flatnonzero(is_empty[_MOST_BINS + 1 :])
    first = -_MOST_BINS if not len(below) else int(below[-1]) + 1 - _MOST_BINS
    last = _MOST_BINS if not len(above) else int(above[0])
    low, high = np.exp((first - 0.5) * _GAP), np.exp((last + 0.5) * _GAP)
    return middle * float(low), middle * float(high)


def _on_edge(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return pixels beside a step of depth: where the disparity, linear on a plane, has a bend."""
    edge = np.zeros(depth.shape, np.bool_)
    disparity = 1.0 / depth
    for part, bends in ((disparity, edge), (disparity.T, edge.T)):
        bend = np.abs(part[:-2] - 2 * part[1:-1] + part[2:])
        bends[1:-1] |= bend > _EDGE_STEP * part[1:-1]
    return edge


def _oriented(points: Floats) -> SpaceBox:
    """Return a box along the principal axes of points ``[N, 3]``."""
    middle = points.mean(axis=0)
    centred = points - middle
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1]
    along = centred @ axes
    low, high = np.percentile(along, (_TAIL, 100 - _TAIL), axis=0)
    order = np.argsort(low - high, kind="stable")
    axes = axes[:, order]
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    low, high = np.percentile(centred @ axes, (_TAIL, 100 - _TAIL), axis=0)
    return SpaceBox(middle + axes @ ((low + high) / 2), high - low, axes)
