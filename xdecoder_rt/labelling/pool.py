"""Pictures labelled by several processes of one machine.

The parent gives each process one picture at a time and takes its result; it alone writes. A
process that ends (killed, out of memory) is replaced, and the picture that it had is given once
more to another. Processes end when their parent does, however that ends.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from xdecoder_rt.errors import BackendError, ImageError, XDecoderError
from xdecoder_rt.labelling.asking import EngineOptions, Labeller, Request
from xdecoder_rt.labelling.pictures import Picture

__all__ = ["Outcome", "label_here", "label_in_processes"]

_TRIES = 2
_PATIENCE = 5.0  # seconds for a process to close its engine


@dataclass(frozen=True)
class Outcome:
    """What became of a picture.

    Attributes:
        picture: it.
        values: its results, or None.
        error: why there are none.
    """

    picture: Picture
    values: dict[str, Any] | None
    error: str | None = None


def label_here(labeller: Labeller, pictures: Sequence[Picture]) -> Iterator[Outcome]:
    """Label pictures in this process, in their order."""
    for picture in pictures:
        try:
            yield Outcome(picture, labeller.label(picture))
        except ImageError as error:
            yield Outcome(picture, None, str(error))


def label_in_processes(
    options: EngineOptions, request: Request, pictures: Sequence[Picture], jobs: int
) -> Iterator[Outcome]:
    """Label pictures in several processes, in the order in which they are done.

    Raises:
        BackendError: no process can be started that opens the plan.
        XDecoderError: what is asked is refused.
    """
    waiting = deque(pictures)
    tries = Counter[str]()
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < min(jobs, len(waiting) + len(workers)):
                workers.append(_Worker(options, request))
            for worker in _heard(workers):
                picture = worker.picture
                try:
                    message = json.loads(worker.connection.recv_bytes())
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.end()
                    if picture is None:
                        raise BackendError(
                            "A process that was to label pictures ended before its first",
                            fix="use fewer --jobs, or free some memory",
                        ) from None
                    if tries[picture.key] < _TRIES:
                        waiting.appendleft(picture)
                    else:
                        error = f"The process that labelled it ended, {_TRIES} times."
                        yield Outcome(picture, None, error)
                    continue
                if "fatal" in message:
                    raise BackendError(message["fatal"])
                if waiting:
                    worker.give(waiting.popleft(), tries)
                else:
                    workers.remove(worker)
                    worker.end()
                if picture is not None:
                    yield Outcome(picture, message.get("values"), message.get("error"))
    finally:
        for worker in workers:
            worker.end(at_once=True)


class _Worker:
    """A process with an engine, and the picture that it has."""

    def __init__(self, options: EngineOptions, request: Request) -> None:
        # Spawned: a fork of a process with an engine's threads may hang.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.picture: Picture | None = None
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, options, request), daemon=True
        )
        # Ctrl-C is of a terminal's whole group. It waits until the process has begun, for it would
        # end its imports with a traceback.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()

    def give(self, picture: Picture, tries: Counter[str]) -> None:
        self.picture = picture
        tries[picture.key] += 1
        with suppress(OSError):  # it has ended, which reading from it will tell
            self.connection.send_bytes(json.dumps([picture.key, picture.path]).encode())

    def end(self, at_once: bool = False) -> None:
        self.connection.close()
        if at_once:
            self._process.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _heard(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait for messages; return the workers that have one or have ended."""
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


def _work(connection: Connection, options: EngineOptions, request: Request) -> None:
    """Label what comes until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def say(**message: Any) -> None:
        connection.send_bytes(json.dumps(message).encode())

    with suppress(EOFError, OSError):  # the parent has gone
        try:
            labeller = Labeller(options, request)
        except XDecoderError as error:
            say(fatal=str(error))
            return
        with labeller:
            say(ready=True)
            while True:
                picture = Picture(*json.loads(connection.recv_bytes()))
                try:
                    say(values=labeller.label(picture))
                except ImageError as error:
                    say(error=str(error))
                except XDecoderError as error:
                    say(fatal=str(error))
                    return
