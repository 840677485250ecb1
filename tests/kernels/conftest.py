"""Kernels run on the GPU where there is one, and under Triton's interpreter where there is none."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch")

# Read by Triton when a kernel's module is imported, so it is set before any test module is.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernels run: ``cuda`` or ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"
