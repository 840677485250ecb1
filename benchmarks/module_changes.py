"""How often a warm ``segment`` goes from one of our Python modules into another.

    python benchmarks/module_changes.py model.plan

A reader who follows a frame through the code changes the file as often. Calls are counted under
``sys.setprofile`` on ONNX Runtime, with one image and four words, after two calls that fill the
caches. A call counts where the module of the function that is called is another than the module of
ours that called it, whatever lies between them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import xdecoder_rt

EXAMPLE = Path(__file__).parent.parent / "examples" / "workcell.jpg"
WORDS = ["robot arm", "table", "bin", "floor"]


def _module(frame: FrameType | None) -> str | None:
    """The module of ours that is nearest among a frame and its callers."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] == "xdecoder_rt":
            return str(name)
        frame = frame.f_back
    return None


def counted(engine: xdecoder_rt.Engine, image: Path) -> tuple[int, Counter[tuple[str, str]]]:
    """Calls of our functions, and how many of them go from which module into which other."""
    calls = 0
    changes: Counter[tuple[str, str]] = Counter()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if (
            event != "call"
            or frame.f_globals.get("__name__", "").partition(".")[0] != "xdecoder_rt"
        ):
            return
        calls += 1
        caller, called = _module(frame.f_back), str(frame.f_globals["__name__"])
        if caller is not None and caller != called:
            changes[caller, called] += 1

    sys.setprofile(profile)
    try:
        engine.segment(image, WORDS)
    finally:
        sys.setprofile(None)
    return calls, changes


def main() -> None:
    """Print the count, and with ``--list`` every pair of modules."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", help="a portable plan")
    parser.add_argument("--image", type=Path, default=EXAMPLE)
    parser.add_argument("--list", action="store_true", help="print every pair of modules")
    options = parser.parse_args()
    with xdecoder_rt.Engine(options.plan, backend="onnxruntime", threads=1) as engine:
        for _ in range(2):
            engine.segment(options.image, WORDS)
        calls, changes = counted(engine, options.image)
    modules = {module for pair in changes for module in pair}
    if options.list:
        for (caller, called), count in changes.most_common():
            print(f"{count:4}  {caller} -> {called}")
    print(f"{changes.total()} changes of module in {calls} calls, {len(modules)} modules")


if __name__ == "__main__":
    main()
