"""What is worked out of a table of words, kept for the next call with the same words."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from xdecoder_rt.words.text_graph import Features

__all__ = ["PerTable"]

_TABLES_KEPT = 16
_BYTES_KEPT = 64 << 20


class PerTable:
    """An array for each of the last tables, by the table's identity.

    The same words give the same table as long as it is kept here. Calls may come from many threads.

    Args:
        make: from a table to its array.
    """

    def __init__(self, make: Callable[[Features], Features]) -> None:
        self._make = make
        self._kept: OrderedDict[int, tuple[Features, Features]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, table: Features) -> Features:
        """Return the array of a table; read-only."""
        with self._lock:
            kept = self._kept.get(id(table))
            if kept is not None:
                self._kept.move_to_end(id(table))
                return kept[1]
        made = self._make(table)
        made.setflags(write=False)
        with self._lock:
            self._kept[id(table)] = table, made
            total_bytes = sum(array.nbytes for _, array in self._kept.values())
            while len(self._kept) > _TABLES_KEPT or (
                total_bytes > _BYTES_KEPT and len(self._kept) > 1
            ):
                total_bytes -= self._kept.popitem(last=False)[1][1].nbytes
        return made
