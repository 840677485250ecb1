"""Compiled loops in the variant for this processor.

``CMakeLists.txt`` compiles hot loops once per instruction set, each as a module of its own: one
wheel serves every processor of an architecture.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from types import ModuleType

__all__ = ["fastest", "runs_avx2"]


@lru_cache(maxsize=1)
def runs_avx2() -> bool:
    """Return whether this processor has AVX2 and FMA."""
    return bool(import_module("xdecoder_rt.pixels._scale").runs_avx2())


def fastest(name: str) -> ModuleType:
    """Import the variant of compiled loops that suits this processor best.

    Args:
        name: the module as compiled for every processor; beside it lies ``<name>_avx2``.
    """
    if runs_avx2():
        # Absent where the compiler that built the package does not know the instructions.
        with suppress(ImportError):
            return import_module(f"{name}_avx2")
    return import_module(name)
