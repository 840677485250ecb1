"""Lines typed while a program works, read without waiting for them."""

from __future__ import annotations

import os
import select

_CHUNK = 65536
_LINE_LIMIT = 1 << 20


class LineInput:
    """Whole lines from a file descriptor, as far as they have come.

    Nothing blocks and no thread is used: one that waits for input would have to be left behind at
    the end of the program.

    Args:
        descriptor: a terminal or a pipe; None for none.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._pending = b""

    def poll(self) -> list[str]:
        """Return the lines completed since the last call, without their ends."""
        while self._descriptor is not None and self._has_data(self._descriptor):
            try:
                data = os.read(self._descriptor, _CHUNK)
            except OSError:
                data = b""
            self._pending += data
            if not data or len(self._pending) > _LINE_LIMIT:
                # The end; what was begun counts as a line.
                self._descriptor = None
                self._pending += b"\n"
        *lines, self._pending = self._pending.split(b"\n")
        return [line.decode("utf-8", "replace").strip("\r") for line in lines if line.strip()]

    @staticmethod
    def _has_data(descriptor: int) -> bool:
        try:
            ready, _, _ = select.select([descriptor], [], [], 0)
        except (OSError, ValueError):  # closed
            return True
        return bool(ready)
