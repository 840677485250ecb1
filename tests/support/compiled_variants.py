"""The compiled variants of the post-processing that this processor runs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec


def variants() -> Iterator[str]:
    """Name the modules in `xdecoder_rt.masks`."""
    yield "_postprocess"
    runs_avx2 = import_module("xdecoder_rt.masks._postprocess").runs_avx2()
    if runs_avx2 and find_spec("xdecoder_rt.masks._postprocess_avx2"):
        yield "_postprocess_avx2"
