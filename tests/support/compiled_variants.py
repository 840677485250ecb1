"""The compiled variants of the hot loops that this processor runs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from xdecoder_rt.pixels.variants import runs_avx2


def variants(name: str) -> Iterator[str]:
    """Name the modules that `name` is compiled as.

    Args:
        name: the module for every processor, such as ``xdecoder_rt.masks._postprocess``.
    """
    yield name
    if runs_avx2() and find_spec(f"{name}_avx2"):
        yield f"{name}_avx2"
