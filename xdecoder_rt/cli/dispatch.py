"""The command line of ``xdecoder-rt``: its commands, how they are run, and how they end.

One module for each of `COMMANDS`, with a `SUMMARY`, a `DESCRIPTION`, `EXAMPLES`,
``add_arguments(parser)`` and ``run(args) -> int``, which finds its `CommandReport` in
``args.command_report``.

Exit codes: 0 success; 1 an error, told in one line on stderr; 2 the command line itself is wrong;
130 interrupted. With ``--json`` and no file, standard output is JSON and nothing else.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn, TextIO

from xdecoder_rt import __version__
from xdecoder_rt.cli.documents import DOCUMENTS, kind_of
from xdecoder_rt.cli.output import CommandReport, note
from xdecoder_rt.cli.signals import Interruption
from xdecoder_rt.cli.stdio import flush_streams, prepare_streams, write_stdout
from xdecoder_rt.errors import EXIT_INTERRUPTED, XDecoderError, quoted, shortened

__all__ = ["dispatch"]

EXIT_OK, EXIT_ERROR, EXIT_USAGE = 0, 1, 2

PURPOSES = {
    "ask about images": ("segment", "refer", "caption", "answer", "rank", "run"),
    "see a video or a camera": ("demo",),
    "build plans": ("build", "convert", "vocab"),
    "label and learn": ("label", "data", "train", "eval"),
    "serve": ("serve", "export-triton"),
    "look inside": ("doctor", "info", "check", "bench", "extract", "schema"),
}
COMMANDS = tuple(name for names in PURPOSES.values() for name in names)

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
  5. know what this machine can run, and what to install for more:
       xdecoder-rt doctor

{commands}

xdecoder-rt COMMAND --help explains a command with examples.
"""

EXIT_CODES = """\
exit codes:
  0    success
  1    an error; one line on stderr begins with "error:"
  2    the command line itself is wrong
  130  interrupted (Ctrl-C, SIGTERM or SIGHUP)
"""


class _Parser(argparse.ArgumentParser):
    """Takes options anywhere among the others, and says in a usage error where to read more."""

    _is_within = False

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is no choice, and name the nearest one: argparse lists them all."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        is_command = isinstance(action, argparse._SubParsersAction)
        noun = "command" if is_command else "choice"
        similar = difflib.get_close_matches(str(value), names, n=1)
        if similar:
            hint = f"did you mean {similar[0]}?"
        elif is_command:
            hint = f"{self.prog} --help lists them"
        else:
            hint = f"choose from {', '.join(names)}"
        message = f"there is no {noun} {quoted(value)}; {hint}"
        raise argparse.ArgumentError(None if is_command else action, message)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse with options before, after and between a command's positional arguments.

        argparse alone gives a positional that may be absent its default as soon as an option
        comes first, and has no place left for it: ``check PLAN --against PLAN IMAGE``.
        """
        arguments = sys.argv[1:] if args is None else list(args)
        if self._subparsers is not None or self._is_within:
            return super().parse_known_args(arguments, namespace)
        arguments = _with_plan_first(self, arguments)
        if "--" in arguments:  # the first of argparse's two passes would drop it
            return super().parse_known_args(arguments, namespace)
        self._is_within = True
        try:
            return self.parse_known_intermixed_args(arguments, namespace)
        finally:
            self._is_within = False

    def error(self, message: str) -> NoReturn:
        required, _, names = message.partition("the following arguments are required: ")
        if not required and not all(name.startswith("-") for name in names.split(", ")):
            # "--words mug photo.jpg": what follows such an option belongs to it.
            message += " (before options that take several values)"
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {shortened(message)}\nMore: {self.prog} --help\n")


def _with_plan_first(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    """Return a command line whose ``--plan FILE`` is the positional PLAN, if there is such a one.

    Half of the commands take the plan as an option; those that take it as their first argument
    take both forms. A plan that is named in both is one argument too many, and refused.
    """
    positionals = parser._get_positional_actions()
    if not positionals or positionals[0].dest != "plan":
        return arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for place, argument in enumerate(arguments[:end]):
        name, is_joined, value = argument.partition("=")
        if name != "--plan":
            continue
        if is_joined:
            return [value, *arguments[:place], *arguments[place + 1 :]]
        if place + 1 < end:
            return [arguments[place + 1], *arguments[:place], *arguments[place + 2 :]]
        parser.error("argument --plan: expected one argument")
    return arguments


def dispatch(argv: Sequence[str] | None, interruption: Interruption) -> int:
    """Run the command line; see :func:`xdecoder_rt.cli.main`."""
    prepare_streams()
    debug = "--debug" in (sys.argv if argv is None else argv)
    try:
        code = _parse_and_run(list(sys.argv[1:] if argv is None else argv), interruption)
        flush_streams()
        return code
    except KeyboardInterrupt:
        note("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone (a pipe into head): nothing is left to say, and to nobody.
        code = EXIT_ERROR
    except Exception as error:
        if debug:
            traceback.print_exc()
        note(f"error: {_error_line(error)}")
        code = EXIT_ERROR
    # A terminal that hangs up, or an import that was interrupted, ends in errors, too.
    return EXIT_INTERRUPTED if interruption.has_come else code


def _parse_and_run(arguments: list[str], interruption: Interruption) -> int:
    parser = _build_parser()
    try:
        args = parser.parse_args(arguments)
    except SystemExit as exit_:  # after --help or a usage error
        return exit_.code if isinstance(exit_.code, int) else EXIT_ERROR
    if args.command is None:
        write_stdout(GUIDE.format(commands=_command_map()))
        return EXIT_OK
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        kind = kind_of(args.command) if args.command in DOCUMENTS else None
        args.command_report = CommandReport(getattr(args, "json", None), kind)
        try:
            code: int = args.run(args)
        except BaseException as error:
            if interruption.has_come or isinstance(error, KeyboardInterrupt):
                args.command_report.stop()
            raise
        return code


def _error_line(error: Exception) -> str:
    """Return an error in one line; the type is named where it may be a fault of this program."""
    if isinstance(error, XDecoderError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"The module {error.name!r} is not installed. Fix: pip install {error.name}."
    if isinstance(error, MemoryError):
        return "Out of memory. Fix: use a smaller image, fewer words, or close other programs."
    message = shortened(" ".join(str(error).split())) or "no message"
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
    note(f"warning: {' '.join(str(message).split())}")


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
        module = _module_of(name)
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


def _command_map() -> str:
    """Return the commands by their purpose, a line each."""
    width = max(map(len, COMMANDS)) + 1
    lines = []
    for purpose, names in PURPOSES.items():
        lines.append(f"{purpose}:")
        lines += [f"  {name:{width}}{_module_of(name).SUMMARY}" for name in names]
    return "\n".join(lines)


def _module_of(command: str) -> ModuleType:
    return import_module(f"xdecoder_rt.cli.{command.replace('-', '_')}")
