"""Times plans of one model in several precisions side by side, and a peer's ONNX file beside them.

    python benchmarks/precisions.py fp32.plan int8.plan --rounds 20 [--peer yoloe.onnx]

A line a plan and runtime: an fp32 plan on ONNX Runtime and OpenVINO, the same graphs in bf16 on
OpenVINO, any other plan on OpenVINO and ONNX Runtime. Every form segments the same picture end to
end with the words known; the peer is its network alone, on the same runtimes. All take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from xdecoder_rt import Engine
from xdecoder_rt.backends.openvino import OpenVINOBackend
from xdecoder_rt.cli import synthetic
from xdecoder_rt.cli.machine import LIBRARIES, describe, summary
from xdecoder_rt.cli.options import positive
from xdecoder_rt.image import load_image

EXAMPLE = Path(__file__).parent.parent / "examples" / "workcell.jpg"
WORDS = 20
Forms = dict[str, Callable[[], Any]]


def plan_forms(path: str, image: np.ndarray, threads: int, stack: ExitStack) -> Forms:
    """What runs a plan: one call a runtime and precision."""
    words = synthetic.words(WORDS)
    forms: Forms = {}
    cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="xdecoder-rt-"))
    backends: dict[str, Any] = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
    with Engine(path, backend="onnxruntime", cache_dir=cache) as engine:
        precision = engine.manifest.precision
    if precision == "fp32":
        backends["openvino, bf16"] = OpenVINOBackend(threads, "bf16")
    for name, backend in backends.items():
        engine = stack.enter_context(
            Engine(path, backend=backend, threads=threads, cache_dir=f"{cache}/{name}")
        )
        engine.warm(words)
        label = name if "bf16" in name else f"{name}, {precision}"
        forms[label] = lambda engine=engine: engine.segment(image, words)  # type: ignore[misc]
    return forms


def peer_forms(path: str, threads: int) -> Forms:
    """A network of one input, on zeros of its own shape."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in port.shape]
    feeds = {port.name: np.zeros(shape, np.float32)}
    forms: Forms = {"peer, onnxruntime, fp32": lambda: session.run(None, feeds)}
    for precision in ("fp32", "bf16"):
        backend = OpenVINOBackend(threads, precision)
        graph = backend.load("peer", memoryview(Path(path).read_bytes()))
        forms[f"peer, openvino, {precision}"] = lambda graph=graph: graph(feeds)  # type: ignore[misc]
    return forms


def measure(forms: Forms, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every form in every round."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        form()
        form()
    for number in range(rounds):
        for name in list(forms)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            forms[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main() -> int:
    """Read the command line, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plans", nargs="+")
    parser.add_argument("--peer", help="an ONNX file of one fp32 image input")
    parser.add_argument("--image", default=str(EXAMPLE))
    parser.add_argument("--rounds", type=positive, default=20)
    parser.add_argument("--threads", type=positive, default=2)
    options = parser.parse_args()
    image = load_image(options.image)[:512, :512]
    with ExitStack() as stack:
        forms: Forms = {}
        for path in options.plans:
            forms |= plan_forms(path, image, options.threads, stack)
        if options.peer:
            forms |= peer_forms(options.peer, options.threads)
        times = measure(forms, options.rounds)
    first = times[next(iter(times))]
    print(summary(describe(LIBRARIES)), "\n")
    print("| form | ms, median | ms, least | times as fast as the first |")
    print("| --- | ---: | ---: | ---: |")
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(first, own, strict=True))
        print(f"| {name} | {statistics.median(own):.1f} | {min(own):.1f} | {ratio:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
