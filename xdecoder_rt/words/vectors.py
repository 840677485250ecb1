"""Embeddings that a plan holds as they are: rows in the space of texts."""

from __future__ import annotations

import numpy as np

from xdecoder_rt.errors import PlanError
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.words.text_graph import Features

__all__ = ["read_vectors"]


def read_vectors(plan: Plan, member: str, count: int, what: str) -> Features:
    """Return the rows that a member of a plan holds: float32 ``[count, proj_dim]``, read-only.

    Args:
        plan: an open plan.
        member: float32 little-endian.
        count: how many rows there must be.
        what: they are, for the error.

    Raises:
        PlanError: the member is damaged, of another size, or holds values that are not finite.
    """
    width, data = plan.manifest.text.proj_dim, plan.read(member)
    if len(data) == count * width * 4:
        rows: Features = np.frombuffer(data, "<f4").reshape(count, width)
        if np.isfinite(rows).all():
            return rows
    raise PlanError(
        f"The {what} of the plan have {len(data):,} bytes",
        expected=f"{count} rows of {width} values of 4 bytes, all finite",
        fix="build the plan again: xdecoder-rt build",
    )
