"""Output of commands: the report, progress, tables and counts."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import real_path
from xdecoder_rt.cli.stdio import discard, write_stdout
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.files.output_file import check_writable, unwritable, writer

STDOUT = "-"


class CommandReport:
    """Output of a command: a text for people and a document for programs.

    Without ``--json`` the text goes to stdout. ``--json FILE`` writes the document to a file beside
    that. ``--json`` alone gives stdout to the document, and the text goes to stderr.

    Args:
        json_target: None, a path, or ``"-"`` for stdout.
        kind: what documents begin with under ``"schema"``, such as ``"segment/1"``; None for a
            command that writes none.

    Raises:
        ArgumentError: the file could not be written, or is one that should not be.
    """

    def __init__(self, json_target: str | None, kind: str | None = None) -> None:
        self._target = json_target
        self._kind = kind
        self._is_written = False
        if json_target not in (None, STDOUT):
            check_writable(json_target, "the JSON")
            _refuse_other_content(Path(json_target))

    def text(self, text: str = "") -> None:
        """Print for people."""
        self.piece(f"{text}\n")

    def piece(self, text: str) -> None:
        """Print for people without ending the line."""
        if self._target == STDOUT:
            note(text, end="")
        else:
            write_stdout(text)

    def document(self, value: Mapping[str, Any]) -> None:
        """Write for programs, where asked to, with the kind of document before all else."""
        self._is_written = True
        if self._target is None:
            return
        # ASCII: names of files need not be valid Unicode, and stdout need not be UTF-8.
        document = {"schema": self._kind, **value}
        text = json.dumps(document, allow_nan=False, indent=2) + "\n"
        if self._target == STDOUT:
            write_stdout(text)
        else:
            with writer(self._target, "the JSON") as file:
                file.write(text.encode("ascii"))

    @contextlib.contextmanager
    def kept(self, value: dict[str, Any]) -> Iterator[None]:
        """Write a document when the block ends, however that is.

        Its last key is ``"complete"``: true, or false when the block was left by an exception and
        there is only what was done until then. An error before anything is done leaves nothing.

        Args:
            value: filled by the block; ``"images"``, ``"answered"`` or ``"items"`` tell of work
                that is done.
        """
        try:
            yield
        except BaseException as error:
            is_begun = any(value.get(key) for key in ("images", "answered", "items"))
            if is_begun or isinstance(error, KeyboardInterrupt):
                self._stop_with(value)
            raise
        self.document({**value, "complete": True})

    def stop(self) -> None:
        """Write a document of an interrupted command that has written none: it is not complete."""
        if not self._is_written:
            self._stop_with({})

    def _stop_with(self, value: dict[str, Any]) -> None:
        """Write an incomplete document; what prevents it is told, and hides no other error."""
        try:
            self.document({**value, "complete": False})
        except (ArgumentError, BrokenPipeError) as error:
            note(f"error: {error}")


class ProgressPrinter:
    """Prints each step of long work on stderr, after the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, step: str) -> None:
        """Print one step."""
        note(f"[{self.seconds:6.1f} s] {step}")

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._start


def note(text: str, end: str = "\n") -> None:
    """Print a line on stderr; where that is closed or full there is nobody to tell."""
    writable = text.encode("utf-8", "backslashreplace").decode()  # half characters in names
    try:
        print(writable, end=end, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Count long work in a progress bar on stderr, on a terminal only.

    Args:
        description: what is counted; stands before the bar.

    Yields:
        A function to be called with the number done and the number in all.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    # Only where a bar is seen: a command starts sooner without it.
    from tqdm import tqdm

    with tqdm(desc=description, leave=False) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one place; no path leads anywhere that no file can have."""
    try:
        return real_path(path) == real_path(other)
    except OSError:
        return False


def harmless(text: str) -> str:
    """Return a text of any length with its control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left_columns: int = 1
) -> str:
    """Return columns in line, indented: the first `left_columns` flush left, others right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def cell(text: str, column: int) -> str:
        width = widths[column]
        return text.ljust(width) if column < left_columns else text.rjust(width)

    return "\n".join(
        "  " + "  ".join(cell(text, column) for column, text in enumerate(line)).rstrip()
        for line in lines
    )


def format_count(number: float) -> str:
    """Return a large count with its prefix: ``3.42 G``, ``7.1 M``."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:g}"


def _refuse_other_content(path: Path) -> None:
    """Refuse to replace a file that holds no JSON: ``--json photo.jpg`` is a slip of the hand."""
    if not os.path.isfile(path):
        return
    try:
        with path.open("rb") as file:
            head = file.read(64).lstrip()
    except OSError as error:
        raise unwritable(path, "the JSON", error.strerror or str(error)) from error
    if head and head[:1] not in (b"{", b"["):
        raise ArgumentError(
            f"{quoted(str(path), 200)} exists and holds something else than JSON",
            expected="--json alone, for standard output, or --json with a file for it",
            fix="put --json last, or name another file",
        )
