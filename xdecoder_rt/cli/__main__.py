"""``python -m xdecoder_rt.cli``: the same as ``xdecoder-rt``."""

from __future__ import annotations

import sys

from xdecoder_rt.cli import main

if __name__ == "__main__":
    sys.exit(main())
