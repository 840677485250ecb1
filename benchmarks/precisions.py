"""Times plans of one model in several precisions, with eager PyTorch and a peer beside them.

    python benchmarks/precisions.py fp32.plan int8.plan --rounds 20 [--eager] [--peer yoloe.onnx]

A line a plan and runtime: an fp32 plan on ONNX Runtime and OpenVINO, the same graphs in bf16 on
OpenVINO where the processor has it, any other plan on OpenVINO and ONNX Runtime. With --eager the
same weights in eager PyTorch (see benchmarks/eager.py), and ratios are to its faster form. Every
form segments the same square picture (--size) end to end with the words known; the peer's files
(studies/peer_yoloe.py) are fed the same picture and do no post-processing: networks alone, on the
same runtimes. --peer-python names an environment with ultralytics, whose `predict` then segments
the picture end to end in a process of its own. All take turns. --busy keeps cores busy meanwhile,
as other programs of a robot do.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from eager import (
    EXAMPLE,
    FORMATS,
    PAUSE_SECONDS,
    STUFF,
    WORDS,
    EagerPath,
    is_plan_of,
    without_regions,
)

from xdecoder_rt import Engine
from xdecoder_rt.backends.openvino import OpenVINOBackend
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import ArgumentError, XDecoderError
from xdecoder_rt.export.sources import STARTER
from xdecoder_rt.image import load_image
from xdecoder_rt.plan.file import Plan

PEER = Path(__file__).parent / "studies" / "peer_yoloe.py"
Forms = dict[str, Callable[[], Any]]


def plan_forms(path: str, image: np.ndarray, threads: int, cache: Path, stack: ExitStack) -> Forms:
    """Return the forms of a plan: one call for each runtime and precision."""
    forms: Forms = {}
    backends: dict[str, Any] = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
    with Engine(path, backend="onnxruntime", cache_dir=cache) as engine:
        precision = engine.manifest.precision
    if precision == "fp32" and computes_bf16():
        backends["openvino, bf16"] = OpenVINOBackend(threads, "bf16", cache / "openvino, bf16")
    for name, backend in backends.items():
        engine = stack.enter_context(
            Engine(path, backend=backend, threads=threads, cache_dir=cache / name)
        )
        engine.warm(WORDS)
        label = name if "bf16" in name else f"{name}, {precision}"
        label = f"{Path(path).stem}, {label}"
        forms[label] = lambda engine=engine: engine.segment(image, WORDS, stuff=STUFF)  # type: ignore[misc]
    return forms


def eager_forms(checkpoint: Path, plan: str, image: np.ndarray) -> Forms:
    """Return eager PyTorch in both memory formats.

    Raises:
        ArgumentError: the plan holds other weights.
    """
    model = without_regions(checkpoint)
    with Plan.open(plan) as plan_file:
        manifest = plan_file.manifest
    if not is_plan_of(manifest, model):
        raise ArgumentError(
            f"{plan} does not hold the weights of {checkpoint}",
            expected="a plan that was built from the checkpoint",
            fix="build it with --no-regions --no-distractors; "
            "name its own checkpoint with --eager FILE",
        )
    paths = [EagerPath(model, manifest, memory_format) for memory_format in FORMATS]
    return {f"{path.name}, fp32": lambda path=path: path(image) for path in paths}  # type: ignore[misc]


def computes_bf16() -> bool:
    """Whether OpenVINO finds bf16 in this processor, which it would else compute in fp32."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def peer_forms(path: str, image: np.ndarray, threads: int, cache: Path) -> Forms:
    """Return a network of one float image ``[1, 3, H, W]`` from 0 to 1, the picture's size.

    Raises:
        ArgumentError: it has another size.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    if list(port.shape) != [1, 3, *image.shape[:2]]:
        raise ArgumentError(
            f"{path} takes {port.shape}", expected=f"[1, 3, {image.shape[0]}, {image.shape[1]}]"
        )

    def feeds() -> dict[str, np.ndarray]:
        pixels = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return {port.name: np.ascontiguousarray(pixels)}

    name = Path(path).stem
    forms: Forms = {f"{name}, network, onnxruntime": lambda: session.run(None, feeds())}
    for precision in ("fp32", "bf16") if computes_bf16() else ("fp32",):
        backend = OpenVINOBackend(threads, precision, cache)
        graph = backend.load(name, Path(path).read_bytes, is_steady=True)
        forms[f"{name}, network, openvino, {precision}"] = lambda graph=graph: graph(feeds())  # type: ignore[misc]
    return forms


def predict_forms(
    python: str, path: str, image: np.ndarray, threads: int, stack: ExitStack
) -> Forms:
    """Return the peer's `predict`, in a process of another Python.

    Raises:
        ArgumentError: the process ends before it is ready.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xdecoder-rt-")))
    np.save(folder / "image.npy", image)
    command = [python, str(PEER), "--predict", str(folder / "image.npy"), "-o", path]
    process = stack.enter_context(
        subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert process.stdin is not None and process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def reply() -> None:
        if not answers.readline():
            raise ArgumentError(
                f"{python} cannot run {PEER.name}", expected="a Python with ultralytics"
            )

    def ask(name: str) -> None:
        questions.write(f"{name}\n")
        questions.flush()
        reply()

    reply()
    return {
        f"{Path(path).stem}, predict, {name}": lambda name=name: ask(name)  # type: ignore[misc]
        for name in ("torch", "onnx")
    }


def keep_busy(processes: int, stack: ExitStack) -> None:
    """Start processes that compute until the stack ends."""
    for _ in range(processes):
        process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        stack.callback(process.kill)


def measure(forms: Forms, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of every form in every round."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        form()
        form()
    for number in range(rounds):
        for name in list(forms)[:: 1 if number % 2 else -1]:
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            forms[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def run(options: argparse.Namespace) -> None:
    """Measure and print a table."""
    torch.set_num_threads(options.threads)
    side = options.size
    image = np.ascontiguousarray(load_image(options.image)[:side, :side])
    with ExitStack() as stack:
        cache: Path = options.cache or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="xdecoder-rt-"))
        )
        cache.mkdir(mode=0o700, exist_ok=True)
        forms: Forms = {}
        for path in options.plans:
            forms |= plan_forms(path, image, options.threads, cache, stack)
        eager: Forms = {}
        if options.eager:
            eager = eager_forms(options.eager, options.plans[0], image)
        forms |= eager
        for path in options.peer:
            forms |= peer_forms(path, image, options.threads, cache)
        if options.peer_python:
            if not options.peer:
                raise ArgumentError("--peer-python was given without --peer")
            forms |= predict_forms(
                options.peer_python, options.peer[0], image, options.threads, stack
            )
        keep_busy(options.busy, stack)
        times = measure(forms, options.rounds)
    medians = {name: statistics.median(milliseconds) for name, milliseconds in times.items()}
    base = min(eager, key=lambda name: medians[name]) if eager else next(iter(times))
    print(machine_summary(describe_machine((*LIBRARIES, "torch"))), "\n")
    print(f"| form | ms, median | ms, least | times as fast as {base} |")
    print("| --- | ---: | ---: | ---: |")
    for name, milliseconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[base], milliseconds, strict=True))
        print(f"| {name} | {medians[name]:.1f} | {min(milliseconds):.1f} | {ratio:.2f} |")


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plans", nargs="+")
    parser.add_argument(
        "--eager",
        type=Path,
        nargs="?",
        const=STARTER,
        metavar="CHECKPOINT",
        help="eager PyTorch too, with these weights (default: the starter's)",
    )
    parser.add_argument(
        "--peer", nargs="+", default=[], metavar="ONNX", help="files of one fp32 image input"
    )
    parser.add_argument(
        "--peer-python", metavar="PYTHON", help="runs ultralytics' predict on the first of --peer"
    )
    parser.add_argument("--size", type=positive, default=512, help="side of the picture")
    parser.add_argument("--image", default=str(EXAMPLE))
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep compiled models there")
    parser.add_argument("--rounds", type=positive, default=20)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="cores kept busy")
    try:
        run(parser.parse_args())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
