"""A bar while an engine is built, and Ctrl-C that ends the build."""

from __future__ import annotations

import sys
from types import ModuleType, TracebackType
from typing import Any

from tqdm import tqdm


class BuildProgress:
    """Shows the outermost phase that a builder is in; a context manager around one build.

    An exception must not travel through the library: an interruption is kept, the build is told to
    stop, and leaving the block raises it.

    Args:
        module: the library.
        name: of the engine, for people.

    Attributes:
        monitor: the ``IProgressMonitor``, or None where the library has none.
    """

    def __init__(self, module: ModuleType, name: str) -> None:
        self._bar: tqdm[Any] | None = None
        self._name = name
        self._phases: list[str] = []
        self.interruption: KeyboardInterrupt | None = None
        self.monitor = _monitor(module, self) if hasattr(module, "IProgressMonitor") else None

    def __enter__(self) -> BuildProgress:
        # disable=None: a terminal only.
        self._bar = tqdm(
            desc=self._name, total=0, leave=False, disable=None, file=sys.stderr, unit="step"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self.interruption is not None:
            raise self.interruption

    def started(self, phase: str, steps: int) -> None:
        """A phase began, within the one before it."""
        self._phases.append(phase)
        if self._bar is not None and len(self._phases) <= 2:
            self._bar.set_postfix_str(phase, refresh=False)
            self._bar.reset(total=steps)

    def stepped(self, phase: str, step: int) -> None:
        """A step of a phase is done."""
        if self._bar is not None and phase in self._phases[:2]:
            self._bar.n = step + 1
            self._bar.refresh()

    def finished(self, phase: str) -> None:
        """A phase ended."""
        if phase in self._phases:
            self._phases.remove(phase)


def _monitor(module: Any, shown: BuildProgress) -> Any:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._quietly(lambda: shown.started(phase_name, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._quietly(lambda: shown.stepped(phase_name, step))
            return shown.interruption is None

        def phase_finish(self, phase_name: str) -> None:
            self._quietly(lambda: shown.finished(phase_name))

        def _quietly(self, tell: Any) -> None:
            try:
                tell()
            except KeyboardInterrupt as interruption:
                shown.interruption = interruption

    return Monitor()
