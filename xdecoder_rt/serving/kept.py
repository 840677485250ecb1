"""Encoded images that are kept for later questions."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from xdecoder_rt.errors import quoted
from xdecoder_rt.serving.limits import RefusedError
from xdecoder_rt.state import ImageState

__all__ = ["KeptImages"]


@dataclass(frozen=True)
class _Kept:
    plan: str
    state: ImageState


class KeptImages:
    """The latest used encoded images, by ids that cannot be guessed.

    Args:
        most: how many; the longest unused give way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._images: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def add(self, plan: str, state: ImageState) -> str:
        """Keep an image that a plan has encoded; return its id."""
        id_ = secrets.token_urlsafe(12)
        with self._lock:
            self._images[id_] = _Kept(plan, state)
            while len(self._images) > self._most:
                self._images.popitem(last=False)
        return id_

    def get(self, plan: str, id_: str) -> ImageState:
        """Return an image.

        Raises:
            RefusedError: 404: there is none of this id, or another plan has encoded it.
        """
        with self._lock:
            kept = self._images.get(id_)
            if kept is not None:
                self._images.move_to_end(id_)
        if kept is None or kept.plan != plan:
            raise RefusedError(
                404,
                f"There is no image {quoted(id_)} of the plan {quoted(plan)}",
                expected=f"one of the {self._most} used last",
                fix="send the image again",
            )
        return kept.state

    def remove(self, id_: str) -> bool:
        """Forget an image; False where there was none."""
        with self._lock:
            return self._images.pop(id_, None) is not None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._images.clear()
