"""Processes that may die: each does one task after another, within bounds, and is replaced."""

from __future__ import annotations

import importlib
import mmap
import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_BOX_BYTES = 16 << 20
_CONTEXT = multiprocessing.get_context("spawn")


class DeathError(Exception):
    """A process ended, or had to be ended, in the middle of a task.

    Attributes:
        reason: the signal's name, "exit N", or "no answer".
        data: what the task had told its black box last.
    """

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.data = data


class BlackBox:
    """What a process noted last, readable after its death; resets its allowance of CPU time.

    Args:
        descriptor: of an open file of `_BOX_BYTES`.
        seconds: CPU time from one note to the next; more of it, and the kernel ends the process.
    """

    def __init__(self, descriptor: int, seconds: int) -> None:
        self._memory = mmap.mmap(descriptor, _BOX_BYTES)
        self._seconds = seconds

    def __call__(self, data: bytes) -> None:
        """Note some bytes."""
        kept = data[: _BOX_BYTES - 8]
        self._memory[:8] = len(kept).to_bytes(8, "little")
        self._memory[8 : 8 + len(kept)] = kept
        used = resource.getrusage(resource.RUSAGE_SELF)
        allowed = int(used.ru_utime + used.ru_stime) + self._seconds + 1
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, most))

    def read(self) -> bytes:
        """Return what was noted last."""
        length = int.from_bytes(self._memory[:8], "little")
        return bytes(self._memory[8 : 8 + length])


class Worker:
    """A process that does tasks.

    Args:
        seconds: CPU time of a task between two notes of its black box.
        memory: bytes of address space; None for no limit.
        patience: wall-clock seconds to wait for a task's answer.
    """

    def __init__(self, seconds: int, memory: int | None, patience: float) -> None:
        self._limits = (seconds, memory)
        self._patience = patience
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this
        self._file.truncate(_BOX_BYTES)
        self._box = BlackBox(self._file.fileno(), seconds)
        self._process: Any = None
        self._connection: Connection | None = None

    def do(self, function: str, *arguments: object) -> Any:
        """Call ``module:function(*arguments, black_box)`` there and return what it returns.

        Raises:
            DeathError: the process ended.
        """
        if self._process is None:
            self._start()
        assert self._connection is not None
        self._box._memory[:8] = bytes(8)
        try:
            self._connection.send((function, arguments))
            if not self._connection.poll(self._patience):
                self._process.kill()
                self._process.join()
                raise DeathError(self._end("no answer"), self._box.read())
            return self._connection.recv()
        except (EOFError, ConnectionError, OSError) as error:
            self._process.join(10)
            raise DeathError(self._end(None), self._box.read()) from error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._end(None)

    def _start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        self._process = _CONTEXT.Process(
            target=_serve, args=(theirs, path, *self._limits), daemon=True
        )
        self._process.start()
        theirs.close()
        ours.recv()  # it has opened the black box
        self._connection = ours

    def _end(self, reason: str | None) -> str:
        code = self._process.exitcode
        self._process, self._connection = None, None
        if reason is None and code is not None and code < 0:
            return signal.Signals(-code).name
        return reason or f"exit {code}"


def _serve(connection: Connection, box: str, seconds: int, memory: int | None) -> None:
    descriptor = os.open(box, os.O_RDWR)
    black_box = BlackBox(descriptor, seconds)
    connection.send(None)
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started this ends it
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        module, _, name = function.partition(":")
        task: Callable[..., Any] = getattr(importlib.import_module(module), name)
        connection.send(task(*arguments, black_box))
