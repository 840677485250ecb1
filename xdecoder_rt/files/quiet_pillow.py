"""Pillow's warnings about damaged metadata, kept from users while this package reads an image.

They tell of tags that are skipped; the pixels are there, or an error says that they are not.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

__all__ = ["quiet_pillow"]


class _PillowWhileReading(threading.local):
    """The modules of Pillow, in threads that read, in the place of a filter's regular expression.

    `warnings.catch_warnings` would change the filters of all threads, and restore what another
    thread had changed.
    """

    depth = 0

    def match(self, module: str) -> bool:
        return self.depth > 0 and module.split(".")[0] == "PIL"


_modules = _PillowWhileReading()
_FILTER = ("ignore", None, Warning, _modules, 0)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Show no warning of Pillow that this thread causes inside the block."""
    filters = cast("list[Any]", warnings.filters)
    if _FILTER not in filters[:1]:
        filters.insert(0, _FILTER)
    _modules.depth += 1
    try:
        yield
    finally:
        _modules.depth -= 1
