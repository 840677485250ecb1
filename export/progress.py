"""The callback that a build tells its steps."""

from __future__ import annotations

from collections.abc import Callable

StepProgress = Callable[[str], None]
"""Called with a sentence before each step."""
