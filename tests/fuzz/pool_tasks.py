"""Tasks for the pool's own tests."""

from __future__ import annotations

import os
from collections.abc import Callable

BlackBox = Callable[[bytes], None]


def double(number: int, black_box: BlackBox) -> int:
    return 2 * number


def abort(data: bytes, black_box: BlackBox) -> None:
    black_box(data)
    os.abort()


def spin(black_box: BlackBox) -> None:
    black_box(b"spins")
    while True:
        pass
