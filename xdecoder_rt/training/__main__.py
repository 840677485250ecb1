"""``python -m xdecoder_rt.training``: the same as ``xdecoder-rt train``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xdecoder_rt.errors import XDecoderError, require
from xdecoder_rt.training.arguments import add_arguments, config_from_args


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, print the checkpoint's path; 2 and one line on an error of ours."""
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.training", description="Train an X-Decoder."
    )
    add_arguments(parser)
    try:
        config = config_from_args(parser.parse_args(arguments))
        require("torch", "train")
        from xdecoder_rt.training.trainer import train

        print(train(config))
    except XDecoderError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
