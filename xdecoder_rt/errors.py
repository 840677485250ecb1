"""Every exception that xdecoder_rt raises on purpose.

All of them derive from `XDecoderError`, so one ``except`` catches what bad input can cause.
Each message is one line that says what was wrong, what was expected, and what to do.
"""

from __future__ import annotations

import importlib
import operator
import sys
import warnings
from types import FrameType, ModuleType

__all__ = [
    "ArgumentError",
    "BackendError",
    "BuildError",
    "CheckpointError",
    "DatasetError",
    "ImageError",
    "MissingExtraError",
    "PlanError",
    "PlanVersionError",
    "VocabularyError",
    "XDecoderError",
    "require",
    "quoted",
    "shortened",
    "warn_caller",
    "whole_number",
]


_LONGEST = 1000


def shortened(text: str) -> str:
    """Return a part of a message in at most 1000 characters, its begin and its end."""
    half = _LONGEST // 2 - 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


def _sentence(text: str) -> str:
    """Return `text` on one line, ending with a full stop, with what no terminal shows escaped."""
    line = shortened(" ".join(text.split()))
    if not line.isprintable():  # a name of a file, as it came
        line = shortened("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))
    return line if line.endswith((".", "!", "?")) else line + "."


class XDecoderError(Exception):
    """Base of all errors of this package.

    Args:
        what: what was wrong, as a sentence ("The image is empty").
        expected: what would have been right, to be read after "Expected".
        fix: what the reader can do, as an imperative, to be read after "Fix:".
    """

    def __init__(self, what: str, *, expected: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        """The message in one line: what. Expected …. Fix: …."""
        parts = [_sentence(self.what)]
        if self.expected:
            parts.append(_sentence(f"Expected {self.expected}"))
        if self.fix:
            parts.append(_sentence(f"Fix: {self.fix}"))
        return " ".join(parts)


class PlanError(XDecoderError):
    """A file that is not a usable plan.

    Not a plan at all, truncated, altered, naming members that are absent, oversized or outside
    the archive, or a bare TensorRT engine or ONNX graph.
    """


class PlanVersionError(PlanError):
    """A plan written in a format version that this release does not read."""


class BackendError(XDecoderError):
    """A backend that is unknown, absent, or cannot run this plan on this machine."""


class MemoryShortageError(BackendError, MemoryError):
    """A backend that found too little memory to load a graph or to run it; it may be called again.

    Args:
        task: what it could not do, to be read after "for".
    """

    def __init__(self, task: str) -> None:
        super().__init__(
            f"There is too little memory for {task}",
            fix="free some memory, or ask for fewer words, phrases or beams at once",
        )


class MissingExtraError(XDecoderError, ImportError):
    """An optional dependency that is not installed; the message names the extra to install."""


class ImageError(XDecoderError, ValueError):
    """An image that cannot be read or has the wrong shape, type or content."""


class VocabularyError(XDecoderError, ValueError):
    """A vocabulary, phrase or question that cannot be encoded."""


class CheckpointError(XDecoderError):
    """A checkpoint that is corrupt or does not hold the tensors that the model needs."""


class DatasetError(XDecoderError, ValueError):
    """A data set on disk (labelled folder, COCO files) that contradicts its format."""


class BuildError(XDecoderError):
    """An export or engine build that could not be completed."""


class ArgumentError(XDecoderError, ValueError):
    """A function argument outside its allowed values."""


def quoted(value: object, limit: int = 80) -> str:
    """Return a printable, bounded representation of untrusted `value` for an error message.

    Control characters and newlines come out escaped, and at most `limit` characters are shown.
    """
    # Slice before repr: the value may be a megabyte long.
    try:
        text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    except Exception:  # a number of too many digits, or a class of the caller's
        text = f"<{type(value).__name__}>"
    text = text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
    return text if len(text) <= limit else text[: limit - 1] + "…"


def whole_number(name: str, value: object, low: int, high: int | None, expected: str) -> int:
    """Return an argument that is a whole number within bounds, NumPy's included.

    Args:
        name: the argument's.
        value: as given.
        low: least value.
        high: greatest value; None for any.
        expected: the bounds in words.

    Raises:
        ArgumentError: it is something else, or outside the bounds.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        raise ArgumentError(f"{name} is {quoted(value)}", expected=expected)
    return number


def warn_caller(text: str) -> None:
    """Warn of `text` at the line outside of this package that led here."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, RuntimeWarning, stacklevel=level + 1)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == __package__


def printable(text: str, limit: int = 40) -> str:
    """Return `text` if it cannot disturb a terminal, else as :func:`quoted` has it.

    Args:
        text: may be untrusted.
        limit: characters at most.
    """
    return text if text.isprintable() and len(text) <= limit else quoted(text, limit)


def require(module: str, extra: str) -> ModuleType:
    """Import the optional dependency `module`, or says which extra brings it.

    Args:
        module: dotted name of the module to import.
        extra: the extra of xdecoder_rt that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: `module` is not installed or one of its own imports is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"The module {module!r} could not be imported ({error})",
            fix=f'pip install "xdecoder_rt[{extra}]"',
        ) from error
