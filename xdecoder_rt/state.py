"""An image that has been looked at: what vision and decode left for further questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Value
from xdecoder_rt.image import Letterbox


@dataclass(frozen=True)
class Decoded:
    """The latent queries' answers, which depend on the image alone.

    Attributes:
        class_embedding: float32 ``[Q, proj_dim]``, unnormalised; the last is the class token's.
        mask_embedding: float32 ``[Q, mask_dim]``.
    """

    class_embedding: npt.NDArray[np.float32]
    mask_embedding: npt.NDArray[np.float32]


@dataclass
class ImageState:
    """One encoded image; ``Engine.encode`` makes it, every other call takes it.

    Valid as long as its engine is open, and only with that engine. Calls on one state may come
    from many threads.

    Attributes:
        letterbox: where the image lies in the network's input.
        values: the vision graph's outputs, on the backend's device.
    """

    letterbox: Letterbox
    values: Mapping[str, Value]
    _decode: Callable[[Mapping[str, Value]], Decoded] = field(repr=False)
    _decoded: Decoded | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def decoded(self) -> Decoded:
        """The latent queries' answers, computed on first need and kept."""
        with self._lock:
            if self._decoded is None:
                self._decoded = self._decode(self.values)
            return self._decoded
