"""Every exception that xdecoder_rt raises on purpose.

All of them derive from `XDecoderError`, so one ``except`` catches what bad input can cause.
Each message is one line that says what was wrong, what was expected, and what to do. The docstring
of each class begins with its usual cause; its paragraph ``Fix:`` says what to do.
"""

from __future__ import annotations

import importlib
import operator
import sys
import warnings
from collections.abc import Callable
from types import FrameType, ModuleType

__all__ = [
    "EXIT_INTERRUPTED",
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
    "exit_status",
    "require",
    "quoted",
    "shortened",
    "warn_caller",
    "whole_number",
]


EXIT_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""
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
    """Something given to this package cannot be used; the message says what and what to do.

    Fix: read the one line of the message. Code that calls the package catches this class for
    everything that bad input can cause, or one of its subclasses. Any other exception is a fault of
    the package: on the command line ``--debug`` shows where it comes from.

    Example:
        >>> error = XDecoderError("The image is empty", expected="one pixel", fix="look again")
        >>> str(error)
        'The image is empty. Expected one pixel. Fix: look again.'
        >>> error.what, error.expected, error.fix
        ('The image is empty', 'one pixel', 'look again')

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
    """The file is no plan, or a copy of one that was cut off or changed on its way.

    Also raised for a bare TensorRT engine or ONNX graph, and for a plan whose members are absent,
    oversized or outside the archive.

    Fix: copy it again and compare ``xdecoder-rt info FILE``, which checks every member; or build
    one: ``xdecoder-rt build -o model.plan``.
    """


class PlanVersionError(PlanError):
    """The plan was built by another release, in a format version that this one does not read.

    Fix: build it again from its checkpoint with this release, or install the release that built it.
    """


class BackendError(XDecoderError):
    """The library that is to run the plan is absent, too old, or cannot run it on this machine.

    A TensorRT plan runs on the kind of GPU and the version of TensorRT that it was built with;
    ``cuda`` needs a driver and a package with CUDA in it.

    Fix: ``xdecoder-rt doctor`` says which backends work here; choose one with ``--backend`` and
    ``--device``, or build a TensorRT plan on the device itself.
    """


class MemoryShortageError(BackendError, MemoryError):
    """There was too little memory to load a graph or to run it, on the GPU or the processor.

    The engine may be called again.

    Fix: close other programs, ask for fewer words, phrases or beams at once, or build a plan of a
    smaller input (``xdecoder-rt build --plan model.plan --size 288x512 -o small.plan``).

    Args:
        task: what it could not do, to be read after "for".
    """

    def __init__(self, task: str) -> None:
        super().__init__(
            f"There is too little memory for {task}",
            fix="free some memory, or ask for fewer words, phrases or beams at once",
        )


class MissingExtraError(XDecoderError, ImportError):
    """A package that this call needs is not installed, or does not import.

    Fix: run the ``pip install`` command of the message; ``xdecoder-rt doctor`` lists every extra
    and what is broken.
    """


class ImageError(XDecoderError, ValueError):
    """The image is damaged, of an unknown format, or an array of the wrong shape or type.

    ``cv2.imread`` returns None for a file that it cannot read.

    Fix: give a whole file of a common format, or an array of uint8, ``[H, W, 3]``, ``[H, W]`` or
    ``[H, W, 4]``; scale floating pixels to 0 to 255 and round them first.
    """


class VocabularyError(XDecoderError, ValueError):
    """A word, phrase or question is empty, there twice, too long, or no valid text.

    Names that differ in capitals or spaces alone are one word. A file of words may also be missing,
    or made for another plan.

    Fix: remove the word that the message quotes; join two names of one thing as synonyms:
    ``"sofa|couch"`` on the command line, ``["sofa", "couch"]`` in Python.
    """


class CheckpointError(XDecoderError):
    """The file of weights is incomplete, of another network, or could not be downloaded.

    Fix: ``xdecoder-rt info FILE`` says of which network it is and which tensors are missing; fetch
    it again, or convert a checkpoint of another form with ``xdecoder-rt convert``.
    """


class DatasetError(XDecoderError, ValueError):
    """The data set is not where it was said to be, or its files contradict each other.

    Fix: ``xdecoder-rt data inspect DIR`` names every image and map that cannot be read; the form of
    a labelled folder is in ``xdecoder-rt eval --help``.
    """


class BuildError(XDecoderError):
    """A plan could not be built: a graph is not exact, INT8 gains nothing, or a library refused.

    Nothing is left behind: a plan appears whole or not at all.

    Fix: try the precision, backend or size that the message names; for INT8 give more calibration
    images, or keep fp32.
    """


class ArgumentError(XDecoderError, ValueError):
    """An argument is outside its allowed values, or the plan was built without that task.

    Fix: the message says what is accepted; ``xdecoder-rt info FILE`` lists the tasks and input
    sizes of a plan, ``--help`` the values of an option.
    """


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


def install_command(extra: str) -> str:
    """Return the command that installs an extra; the package itself for ``""``."""
    return f'pip install "xdecoder_rt[{extra}]"' if extra else "pip install xdecoder_rt"


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
            fix=install_command(extra),
        ) from error


def exit_status(command: Callable[[], str]) -> int:
    """Run a command whose answer is a text; print that, or in one line on stderr why there is none.

    Args:
        command: what to run.

    Returns:
        The exit status: 0, 1 after an error of ours, 130 after Ctrl-C.
    """
    try:
        print(command())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0
