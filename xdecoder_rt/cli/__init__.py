"""The command ``xdecoder-rt``.

Nothing is imported here: :func:`main` sets its signals first, so that Ctrl-C ends a command in
one line while its modules are still being imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name; None takes the process's, which ends after
            this call.

    Returns:
        The exit code; nothing is raised for bad input.
    """
    try:
        from xdecoder_rt.cli.signals import ignore_interruptions, interruptible

        with interruptible() as interruption:
            from xdecoder_rt.cli.dispatch import dispatch

            code = dispatch(argv, interruption)
    except KeyboardInterrupt:  # before or after the command itself
        from xdecoder_rt.cli.signals import ignore_interruptions

        code = 130
    if argv is None:
        ignore_interruptions()
    return code
