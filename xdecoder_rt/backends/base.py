"""Protocols of backends: graphs that take and return values, and nothing of the model.

A *value* is whatever a backend keeps arrays in, on its own device. Values go from one graph of a
backend into another without visiting the host; only :meth:`Backend.to_numpy` brings them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ImageError, PlanError
from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.pixels.letterbox import Letterbox

Array = npt.NDArray[Any]
Value = Any
ModelReader: TypeAlias = "Callable[[], bytes]"
"""Gives a serialized graph; whoever needs it again asks again, so that nobody holds the bytes."""


@runtime_checkable
class DigestedModel(Protocol):
    """A :data:`ModelReader` that tells its model without giving it."""

    def digest(self) -> str:
        """Return a digest that no other graph has, of bytes that were checked to have it just now.

        Raises:
            PlanError: they have another.
        """


@runtime_checkable
class PreparingBackend(Protocol):
    """Ability of a backend to get ready for a graph beside other work."""

    def prepare(self, name: str, model: ModelReader) -> None:
        """Begin to bring in what `Backend.load` of this graph will need; errors are left to that.

        Args:
            name: the graph's.
            model: gives the serialized graph.
        """


class Recurring(np.ndarray[Any, Any]):
    """An input whose values come again in most calls of its shapes: a backend may compile for them.

    ``array.view(Recurring)`` marks an array; it must not be written to any more.
    """


class Graph(Protocol):
    """A compiled graph. Calls may come from many threads.

    Attributes:
        inputs: names of what it takes.
    """

    inputs: tuple[str, ...]

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Run the graph on arrays or on values of the same backend; returns every output."""


def feeds_error(name: str, inputs: Iterable[str], feeds: Iterable[str]) -> PlanError:
    """Return the error of a graph that does not get what it takes, as in plans of other versions.

    Args:
        name: the graph's.
        inputs: names of what it takes.
        feeds: names of what it gets.
    """
    return PlanError(
        f"The {name} graph of the plan takes {', '.join(sorted(inputs))}; this version of "
        f"xdecoder_rt gives {', '.join(sorted(feeds))}",
        expected="a plan that this version built",
        fix="build the plan again: xdecoder-rt build",
    )


def check_same_gpu(image: int, plan: int) -> None:
    """Refuse an image on another GPU than the plan's, which may not read it.

    Args:
        image: number of the GPU where it is.
        plan: number of the plan's.

    Raises:
        ImageError: they differ.
    """
    if image != plan:
        raise ImageError(
            f"The image is on GPU {image} and the plan on GPU {plan}",
            expected="an image on the GPU of the plan, or on the host",
            fix=f"move it, as image.to('cuda:{plan}') of PyTorch does, or open the plan with "
            f"device='cuda:{image}'",
        )


# What the C++ library, ONNX Runtime, OpenVINO, oneDNN and PyTorch say, without a kind of its own.
_SHORTAGE = re.compile(
    r"bad_alloc|bad allocation|allocat\w+ (\w+ )?memory|(out of|not enough|insufficient) memory"
    r"|Resource temporarily unavailable"  # a thread for which there is no stack
    r"|ALLOC(ATION)?_FAILED",  # cuBLAS, cuDNN
    re.IGNORECASE,
)


def is_shortage(error: BaseException) -> bool:
    """Whether a library failed for want of memory."""
    return isinstance(error, MemoryError) or _SHORTAGE.search(str(error)) is not None


class Backend(Protocol):
    """A library that compiles and runs graphs on one device.

    Attributes:
        name: as given to ``Engine(backend=…)``.
        version: the library's.
        device: where it runs, for people.
    """

    name: str
    version: str
    device: str

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Compile a graph.

        Args:
            name: for messages.
            model: gives the serialized graph, now and while the graph is in use.
            is_steady: whether most calls come with the shapes of the first one, for which a
                backend may then compile.

        Raises:
            BackendError: the library cannot run it; `MemoryShortageError` for want of memory.
            PlanError: the graph cannot be read.
        """

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Return a value as an array on the host; it may share the value's memory."""

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Return every output of a graph as :meth:`to_numpy` does."""

    def close(self) -> None:
        """Release what the backend holds."""


PanopticMap = Callable[
    [
        npt.NDArray[np.float32],
        npt.NDArray[np.int64],
        Value,
        Letterbox,
        npt.NDArray[np.bool_],
        float,
    ],
    tuple[npt.NDArray[np.int32], tuple[MapSegment, ...]],
]
"""From scores ``[K]``, labels ``[K]``, mask logits ``[1, K, h, w]`` on the device, letterbox, which
classes are things and the overlap threshold to the map ``[H, W]`` and its segments, as
:func:`xdecoder_rt.masks.postprocess.panoptic` makes them."""


@runtime_checkable
class DeviceBackend(Protocol):
    """Abilities of a backend with a device of its own, beside those of a :class:`Backend`.

    Attributes:
        scales_frames: whether :meth:`frame` scales.
        panoptic_map: what makes panoptic maps on the device, or None.
    """

    scales_frames: bool
    panoptic_map: PanopticMap | None

    def take_kernels(self, read: Callable[[str], bytes]) -> None:
        """Use a plan's compiled kernels. Without them frames and maps are the CPU's work.

        Args:
            read: gives a file by its name; see
                :class:`xdecoder_rt.kernels.compiled.CompiledKernels`.

        Raises:
            PlanError: they are damaged.
        """

    def picture(self, image: object) -> Any | None:
        """Return an image that is on the device already as a picture, or None.

        Returns:
            Something with the ``shape`` ``(height, width, 3)``, for :meth:`frame`.

        Raises:
            ImageError: it is on the device and not uint8 RGB.
        """

    def frame(self, picture: Any, box: Letterbox, interpolation: str) -> Value:
        """Return a picture laid into a network input: ``(1, H, W, 3)``.

        Args:
            picture: uint8 ``[h, w, 3]`` on the host, or what :meth:`picture` gave.
            box: where it goes; it scales only where :attr:`scales_frames` says so.
            interpolation: as of :func:`xdecoder_rt.image.letterbox`.
        """
