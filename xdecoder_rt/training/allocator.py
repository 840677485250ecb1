"""Keeps the C library from giving memory back to the system after every layer.

A training step on a CPU frees and asks for the same gigabytes over and over. By default glibc maps
each large tensor anew and unmaps it when it is freed, and the kernel zeroes every page again: about
a tenth of a step of the compact model.
"""

from __future__ import annotations

import ctypes
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1
_TOP_PAD = 256 << 20


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process, for the rest of its life.

    Returns:
        Whether the C library is one that can be told so (glibc).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _TOP_PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
