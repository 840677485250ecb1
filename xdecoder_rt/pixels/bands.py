"""Bands of output rows worked on by several threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from xdecoder_rt.cores import usable_cores

__all__ = ["in_bands"]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="xdecoder_rt")


if hasattr(os, "register_at_fork"):
    # The threads of a pool do not survive a fork; a child makes its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_bands(rows: int, multiple: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` on consecutive bands of ``range(rows)``, one band a thread.

    The caller's thread takes the last band, the others go to a shared pool.

    Args:
        rows: number of rows.
        multiple: every band starts at a multiple of this.
        threads: bands to make, at most.
        work: must release the GIL to gain anything.
    """
    blocks = -(-rows // multiple)
    count = max(1, min(threads, blocks))
    edges = [min(rows, blocks * i // count * multiple) for i in range(count + 1)]
    *shared_bands, last_band = zip(edges[:-1], edges[1:], strict=True)
    futures = [_pool().submit(work, start, stop) for start, stop in shared_bands]
    try:
        work(*last_band)
    finally:
        # Even when the own band failed: the others write into the caller's arrays.
        for future in futures:
            future.result()
