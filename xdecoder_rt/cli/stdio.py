"""Standard streams that are closed, full or gone."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from xdecoder_rt.errors import ArgumentError

__all__ = ["discard", "flush_streams", "prepare_streams", "write_stdout"]


def prepare_streams() -> None:
    """Give every standard stream that was closed a place, before a file takes its number.

    What is printed on a closed stderr would otherwise go to stdout. A closed stdout becomes one
    that cannot be written, so that results do not vanish silently.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A word that the terminal's encoding lacks is no reason to fail; stderr does so already.
        sys.stdout.reconfigure(errors="backslashreplace")


def write_stdout(text: str) -> None:
    """Write to stdout, and see that it is written.

    Raises:
        BrokenPipeError: its reader has gone (a pipe into head).
        ArgumentError: it is closed, or its place is full.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        # What is left in the buffer would fail again at the end, in words of Python's own.
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise ArgumentError(
            f"Standard output cannot be written: {getattr(error, 'strerror', None) or error}",
            fix="give it another place, or name files: --json FILE, -o FILE",
        ) from error


def flush_streams() -> None:
    """Write what is in the buffers.

    Raises:
        BrokenPipeError, ArgumentError: as :func:`write_stdout`.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)
    write_stdout("")


def discard(stream: TextIO) -> None:
    """Let all that a stream still holds, and gets, go nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
