"""A bar while an engine is built, and Ctrl-C that ends the build."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType, TracebackType
from typing import Any

from tqdm import tqdm

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class BuildProgress:
    """Shows the outermost phase that a builder is in; a context manager around one build.

    The library calls Python back, and its bindings swallow what is raised there. So a signal whose
    handler would raise is noted, the build is told to stop, and the handler runs when the block is
    left.

    Args:
        module: the library.
        name: of the engine, for people.

    Attributes:
        monitor: the ``IProgressMonitor``, or None where the library has none.
        interruption: the signal that came, or None.
    """

    def __init__(self, module: ModuleType, name: str) -> None:
        self._bar: tqdm[Any] | None = None
        self._name = name
        self._phases: list[str] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self.interruption: int | None = None
        self.monitor = _monitor(module, self) if hasattr(module, "IProgressMonitor") else None

    def __enter__(self) -> BuildProgress:
        # disable=None: a terminal only.
        self._bar = tqdm(
            desc=self._name, total=0, leave=False, disable=None, file=sys.stderr, unit="step"
        )
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.interruption is not None:
            signal.raise_signal(self.interruption)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interruption = number

    def started(self, phase: str, steps: int) -> None:
        """Show that a phase began, within the one before it."""
        self._phases.append(phase)
        if self._bar is not None and len(self._phases) <= 2:
            self._bar.set_postfix_str(phase, refresh=False)
            self._bar.reset(total=steps)

    def stepped(self, phase: str, step: int) -> None:
        """Show that a step of a phase is done."""
        if self._bar is not None and phase in self._phases[:2]:
            self._bar.n = step + 1
            self._bar.refresh()

    def finished(self, phase: str) -> None:
        """Show that a phase ended."""
        if phase in self._phases:
            self._phases.remove(phase)


def _monitor(module: Any, progress: BuildProgress) -> Any:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.started(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.stepped(phase_name, step)
            return progress.interruption is None

        def phase_finish(self, phase_name: str) -> None:
            progress.finished(phase_name)

    return Monitor()
