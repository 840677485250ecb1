"""A classifier's own names in the words of a call: which of them mean which word."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import PlanError
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import RegionInfo
from xdecoder_rt.words.text_graph import Features

__all__ = ["RegionNames", "names_of"]

_TABLES_KEPT = 16
_BYTES_KEPT = 64 << 20


class RegionNames:
    """The names of the classifier that a plan brings. Calls may come from many threads.

    Args:
        info: the plan's region section.
        vectors: float32 ``[names, D]``, each name in the space of texts.
    """

    def __init__(self, info: RegionInfo, vectors: Features) -> None:
        self.info = info
        self._vectors = vectors
        # By the table's identity: the same words give the same array as long as it is kept here.
        self._kept: OrderedDict[int, tuple[Features, Features]] = OrderedDict()
        self._lock = threading.Lock()

    def joined_by(self, info: RegionInfo) -> RegionNames:
        """Return the same names, joined in another way."""
        return RegionNames(info, self._vectors)

    def embedding(self, scores: Features) -> Features:
        """Return what the classifier says of a region as a point in the space of texts.

        Args:
            scores: float32 ``[names]``, probabilities.

        Returns:
            float32 ``[D]``: the names' vectors in these parts.
        """
        point: Features = scores @ self._vectors
        return point

    def relation(self, table: Features) -> Features:
        """Return how likely each word is meant by each name, and none of them.

        A softmax over the words, by the products of their embeddings with the name's vector, and
        over void, whose product is the plan's constant: so a name that fits none of the words
        speaks for void, whatever the words are.

        Args:
            table: ``[K + 1, D]`` unit rows, the last one void's, which is not read.

        Returns:
            float32 ``[K + 1, names]``, columns summing to 1; read-only, kept for the table's next
            call.
        """
        with self._lock:
            kept = self._kept.get(id(table))
            if kept is not None:
                self._kept.move_to_end(id(table))
                return kept[1]
        logits = np.empty((len(table), len(self._vectors)), np.float32)
        np.matmul(table[:-1], self._vectors.T, out=logits[:-1])
        logits[-1] = self.info.void
        logits *= np.float32(self.info.scale)
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=0)
        logits.setflags(write=False)
        with self._lock:
            self._kept[id(table)] = table, logits
            total_bytes = sum(relation.nbytes for _, relation in self._kept.values())
            while len(self._kept) > _TABLES_KEPT or (
                total_bytes > _BYTES_KEPT and len(self._kept) > 1
            ):
                total_bytes -= self._kept.popitem(last=False)[1][1].nbytes
        return logits


def names_of(plan: Plan) -> RegionNames | None:
    """Return the names that a plan's classifier of regions has; None for a plan without.

    Raises:
        PlanError: their member is damaged or of another size.
    """
    info = plan.manifest.region
    if info is None:
        return None
    width = plan.manifest.text.proj_dim
    vectors: npt.NDArray[np.float32] = np.frombuffer(plan.read(info.vectors), "<f4")
    if vectors.size != info.names * width or not np.isfinite(vectors).all():
        raise PlanError(
            f"The names of regions of the plan have {vectors.size:,} values",
            expected=f"{info.names} vectors of {width}, all finite",
            fix="build the plan again: xdecoder-rt build",
        )
    return RegionNames(info, vectors.reshape(info.names, width))
