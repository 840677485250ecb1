#!/usr/bin/env python3
"""Build a plan: the same as ``xdecoder-rt build`` of the installed package."""

import sys

# Only the installed package is meant: this folder's modules are parts of it.
sys.path.pop(0)

try:
    from xdecoder_rt.cli import main
except ImportError as error:
    sys.exit(f'{error}. Install the package first: pip install -c constraints.txt ".[export]"')

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
