"""The command ``xdecoder-rt``.

One module for each of `COMMANDS`, with a `SUMMARY`, a `DESCRIPTION`, `EXAMPLES`,
``add_arguments(parser)`` and ``run(args) -> int``.

Exit codes: 0 success; 1 an error, told in one line on stderr; 2 the command line itself is wrong;
130 interrupted. With ``--json`` and no file, standard output is JSON and nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn, TextIO

from xdecoder_rt import __version__
from xdecoder_rt.errors import XDecoderError

__all__ = ["main"]

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

COMMANDS = (
    "build",
    "segment",
    "refer",
    "caption",
    "answer",
    "rank",
    "run",
    "eval",
    "train",
    "vocab",
    "check",
    "info",
    "convert",
    "extract",
    "bench",
    "demo",
)

GUIDE = """\
xdecoder-rt finds things in pictures by name: any words, no training for them.

  1. make a plan, the one file that the others read:
       xdecoder-rt build -o model.plan
  2. find things:
       xdecoder-rt segment photo.jpg --words mug table "robot arm" -o found.png
  3. ask for more, all at once:
       xdecoder-rt run photo.jpg --words mug --phrases "the red mug" --caption -o all.png
  4. watch a camera:
       xdecoder-rt demo 0 --words mug hand

Commands:
{commands}

xdecoder-rt COMMAND --help explains a command with examples.
"""

EXIT_CODES = """\
exit codes:
  0    success
  1    an error; one line on stderr begins with "error:"
  2    the command line itself is wrong
  130  interrupted (Ctrl-C or SIGTERM)
"""


class _Parser(argparse.ArgumentParser):
    """Adds to a usage error what to do and where to read more."""

    def error(self, message: str) -> NoReturn:
        required, _, names = message.partition("the following arguments are required: ")
        if not required and not all(name.startswith("-") for name in names.split(", ")):
            # "--words mug photo.jpg": what follows such an option belongs to it.
            message += " (before options that take several values)"
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {message}\nMore: {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name; None takes the process's.

    Returns:
        The exit code; nothing is raised for bad input.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A word that the terminal's encoding lacks is no reason to fail; stderr does so already.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _build_parser()
    try:
        args = parser.parse_args(arguments)
        if args.command is None:
            print(GUIDE.format(commands=_command_list()), end="")
            return EXIT_OK
        return _run_command(args)
    except SystemExit as exit_:  # argparse, after --help or a usage error
        return exit_.code if isinstance(exit_.code, int) else EXIT_ERROR


def _run_command(args: argparse.Namespace) -> int:
    """Run the chosen command, turning whatever it raises into a line and a code."""
    try:
        with warnings.catch_warnings(), _terminable():
            warnings.showwarning = _show_warning
            code: int = args.run(args)
        # A closed pipe shows when the buffer is written, which would otherwise be after main.
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone (a pipe into head): nothing is left to say, and to nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        print(f"error: {_error_line(error)}", file=sys.stderr)
        return EXIT_ERROR


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: temporary files go, a video gets its end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _error_line(error: Exception) -> str:
    """Return an error in one line; the type is named where it may be a fault of this program."""
    if isinstance(error, XDecoderError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"The module {error.name!r} is not installed. Fix: pip install {error.name}."
    if isinstance(error, MemoryError):
        return "Out of memory. Fix: use a smaller image, fewer words, or close other programs."
    message = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {message}. Run again with --debug for the whole story."


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning in one line on stderr, without the source line that Python adds."""
    print(f"warning: {' '.join(str(message).split())}", file=file or sys.stderr)


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="xdecoder-rt",
        description="Segment, refer, describe, answer: build plans, run them, measure them.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xdecoder-rt {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name in COMMANDS:
        module = import_module(f"xdecoder_rt.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=f"examples:\n{module.EXAMPLES}\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        # SUPPRESS: absent here, the option given before the command keeps its value.
        command.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )
        command.set_defaults(run=module.run)
    return parser


def _command_list() -> str:
    summaries = {name: import_module(f"xdecoder_rt.cli.{name}").SUMMARY for name in COMMANDS}
    return "\n".join(f"  {name:9}{summary}" for name, summary in summaries.items())
