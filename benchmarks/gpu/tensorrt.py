"""Runs a plan by the TensorRT backend, with PyTorch in place of TensorRT's engines.

All but the engines is what runs beside TensorRT: staging through page-locked memory, frames and
panoptic maps by kernels compiled ahead of time, blocks and downloads, events between streams, CUDA
graphs, lanes for threads. Answers are compared with those of ONNX Runtime on the CPU; with pycuda,
where it is installed, and with cuda-bindings alone. compute-sanitizer looks on once.

    python -m gpu.tensorrt PLAN SUPPORT        # one frame, as under compute-sanitizer
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from gpu.engine import (
    PER_PIXEL,
    WORDS,
    Way,
    check_frames,
    check_threads,
    difference,
    questions,
    timed,
)
from gpu.loader import native
from gpu.sanitizer import FOUND, PLACES
from gpu.section import Context, last_line, run_limited
from gpu.timing import first_line
from xdecoder_rt import Engine
from xdecoder_rt.backends.cuda import context as cuda_context
from xdecoder_rt.backends.tensorrt import library as tensorrt_library
from xdecoder_rt.backends.torch.program import Model, Program
from xdecoder_rt.kernels import aot, cuda_driver
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.streams import synthetic

NEEDS = ("pytest", "onnx", "onnxruntime")
FORMS = "^own_|^relabel$|^frame_"
VERSION = "10.3.0"
MOST_ROWS = 512
"""Rows of one run of the decode engine: enough for what is asked here."""
SANITIZER_SECONDS = 45.0
"""The least that compute-sanitizer is begun with: it slows PyTorch down."""


class TorchMachine:
    """The GPU's memory and streams, as the stand-in for TensorRT sees them."""

    pause: Callable[[], None] | None = None

    def __init__(self) -> None:
        major, minor = torch.cuda.get_device_capability()
        self.capability = f"{major}.{minor}"
        self._captured: list[Any] = []

    def check_current(self) -> None:
        assert int(cuda_driver.call_driver("cuCtxGetCurrent")), "no context is current"

    def may_allocate(self, stream: int) -> bool:
        return int(cuda_driver.call_driver("cuStreamIsCapturing", stream)) == 0

    def check(self, address: int, size: int) -> None:
        base, whole = map(int, cuda_driver.call_driver("cuMemGetAddressRange", address))
        assert base <= address and address + size <= base + whole, f"{address:#x} is not ours"

    def array(self, address: int, shape: Sequence[int], dtype: Any) -> Any:
        memory = type("Memory", (), {})()
        memory.__cuda_array_interface__ = {
            "shape": tuple(shape),
            "typestr": np.dtype(dtype).str,
            "data": (address, False),
            "version": 2,
        }
        return torch.as_tensor(memory, device="cuda")

    def submit(
        self, stream: int, work: Callable[[], None], reads: Sequence[Any], writes: Sequence[Any]
    ) -> None:
        self.check_current()
        place: Any = nullcontext()
        if not self.may_allocate(stream):
            # What a CUDA graph uses between its inputs and outputs is nobody else's.
            pool = torch.cuda.MemPool()
            self._captured.append(pool)
            place = torch.cuda.use_mem_pool(pool)
        queue = torch.cuda.ExternalStream(stream)
        with torch.inference_mode(), torch.cuda.stream(queue), place:
            work()


def torch_engine(base: type[Any], device: str) -> type[Any]:
    """Return the stand-in's engine, run by PyTorch's operators."""

    class TorchEngine(base):  # type: ignore[misc]
        def __init__(self, machine: Any, logger: Any, header: Any, model: bytes) -> None:
            super().__init__(machine, logger, header, model)
            self._model = Model("engine", model, torch.device(device), kernels=False)
            self._programs: dict[Any, Program] = {}

        def read(self, address: int, shape: Sequence[int], kind: Any) -> Any:
            if device == "cpu":
                return super().read(address, shape, kind)
            if not prod(shape):
                return torch.from_numpy(np.zeros(shape, kind)).to(device)
            return self.machine.array(address, shape, kind)

        def run(self, feeds: dict[str, Any]) -> list[Any]:
            tensors = {
                name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                for name, value in feeds.items()
            }
            shapes = tuple(tuple(tensor.shape) for tensor in tensors.values())
            with torch.inference_mode():
                if (program := self._programs.get(shapes)) is not None:
                    outputs = program.run(tensors)
                else:
                    self._programs[shapes], outputs = self._model.record(tensors)
            return [outputs[name] for name in self.outputs]

    return TorchEngine


def install(device: str) -> str:
    """Put the stand-in into the place of TensorRT; return the capability that it is for."""
    import fake_tensorrt
    from fake_tensorrt import cuda_bindings, driver, library

    machine: Any
    if device == "cuda":
        machine = TorchMachine()
    else:
        stand_in = driver.Driver()
        package: Any = ModuleType("pycuda")
        package.driver = stand_in
        sys.modules |= {"pycuda": package, "pycuda.driver": stand_in}
        sys.modules["cuda.bindings.driver"] = cuda_bindings.module(stand_in)
        cuda_context.pop_unknown_to_pycuda = stand_in.pop_directly
        machine = fake_tensorrt.StandInMachine(stand_in)
    module: Any = library.module("tensorrt", VERSION, machine)
    engine = torch_engine(library.Engine, device)
    module.Runtime._made = lambda self, header, model: engine(
        self.machine, self._logger, header, model
    )
    sys.modules["tensorrt"] = module
    tensorrt_library.distributions = lambda: []  # type: ignore[assignment]
    capability: str = machine.capability
    return capability


def run(context: Context) -> None:
    """Run the plan over every driver that is here; there is nothing to do without a plan."""
    if context.plan is None:
        context.verdict("not there", "no plan was named: --plan FILE")
        return
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        context.verdict("not there", f"it needs {' and '.join(missing)}")
        return
    support = context.work / "tree" / "tests" / "support"
    sys.path.append(str(support))
    import fake_tensorrt

    is_cuda = context.device == "cuda"
    capability = install(context.device)
    more = kernel_files(context.work / "plan-kernels", capability) if is_cuda else {}
    plan = context.work / "stand-in.plan"
    with Plan.open(context.plan) as source:
        change = as_built(source.manifest)
    fake_tensorrt.tensorrt_plan(
        context.plan, plan, version=VERSION, capability=capability, change=change, more=more
    )
    image = synthetic.image((480, 640) if is_cuda else (40, 60), 7)
    with Engine(context.plan, backend="onnxruntime", device="cpu", cache_dir=context.work) as base:
        facts = base.manifest
        context.emit("plan", model=facts.model.name, precision=facts.precision)
        expected = {name: ask() for name, ask in questions(base, image).items()}
    for name in drivers() if is_cuda else ["a driver in Python"]:
        if context.remaining() < 0:
            context.emit("left out", way=name, reason="no time was left")
        else:
            measure(context, Way(name, True, True), plan, image, expected)
    if is_cuda and context.remaining() > SANITIZER_SECONDS:
        sanitize(context, plan, support)


def as_built(manifest: Manifest) -> Callable[[str, bytes], bytes]:
    """Return what gives the stand-in's engines the profiles of a build."""
    import onnx
    from fake_tensorrt import engine, read_engine

    from xdecoder_rt.export.tensorrt.profiles import profiles_of

    def change(name: str, data: bytes) -> bytes:
        graph = re.split(r"[_.]", name)[0]
        if graph == "frame":
            return data
        header, model = read_engine(data)
        built = profiles_of(graph, onnx.load_from_string(model), manifest, 1, MOST_ROWS)
        ranges = [{port: (one.least, one.most) for port, one in each.items()} for each in built]
        return engine(model, ranges, header.version, header.capability)

    return change


def drivers() -> list[str]:
    """Return what drives the GPU, the first choice first; the last is alone when it comes."""
    first = cuda_driver.choose("tensorrt")
    return ["cuda-bindings"] if first is cuda_driver else ["pycuda", "cuda-bindings"]


def kernel_files(folder: Path, capability: str) -> dict[str, bytes]:
    """Compile the kernels of frames and maps for the GPU; return the members of a plan."""
    goal = native(int(capability.replace(".", "")))
    if goal is None:
        return {}
    aot.compile_kernels(folder, [goal], only=FORMS, jobs=2)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {f"kernels/{path.relative_to(folder)}": path.read_bytes() for path in files}


def measure(context: Context, way: Way, plan: Path, image: Any, expected: dict[str, Any]) -> None:
    """Compare and time every task over one driver, and record a row for each."""
    if way.name == "cuda-bindings":
        sys.modules |= {"pycuda": None, "pycuda.driver": None}  # type: ignore[dict-item]
    try:
        with Engine(plan) as engine:
            for name, ask in questions(engine, image).items():
                row: dict[str, Any] = {"ours": True, "whole": True, "wrong": False}
                answer, row["ms"] = timed(context, ask)
                if fault := difference(answer, expected[name]):
                    row |= {"wrong": True, "failed": fault}
                context.emit("row", way=way.name, task=name, ways={way.name: row})
            if context.device == "cuda":
                check_frames(context, way, engine, image)
            check_threads(context, way, engine, image)
    except Exception as error:
        failed = {"ours": True, "whole": True, "wrong": True, "failed": first_line(error)}
        context.emit("row", way=way.name, task="all", ways={way.name: failed})


def sanitize(context: Context, plan: Path, support: Path) -> None:
    """Run one frame under memcheck, where compute-sanitizer is installed."""
    places = (shutil.which("compute-sanitizer", path=folder) for folder in (None, *PLACES))
    tool = next((place for place in places if place), None)
    if tool is None:
        context.emit("left out", way="memcheck", reason="compute-sanitizer is not installed")
        return
    log = context.work / "tensorrt-memcheck.log"
    command = [tool, "--tool", "memcheck", "--error-exitcode", str(FOUND), sys.executable, "-m"]
    with log.open("wb") as output:
        code = run_limited(
            [*command, "gpu.tensorrt", str(plan), str(support)],
            context.remaining(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if code is None:
        context.emit("left out", way="memcheck", reason="it took longer than there was time")
        return
    row: dict[str, Any] = {"ours": True, "whole": True, "wrong": code != 0}
    if code:
        row["failed"] = last_line(log)
    context.emit("row", way="memcheck", task="segment", ways={"memcheck": row})


def main() -> None:
    """Segment one frame on the device by a plan that was made for the stand-in."""
    parser = argparse.ArgumentParser(prog="python -m gpu.tensorrt", description=main.__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("support", help="folder of the stand-in for TensorRT")
    options = parser.parse_args()
    sys.path.append(options.support)
    install("cuda")
    image = synthetic.image((480, 640), 7)
    with Engine(options.plan) as engine:
        expected = engine.segment(image, WORDS).segmentation
        made = engine.segment(torch.from_numpy(image).cuda(), WORDS).segmentation
    assert (made != expected).mean() <= PER_PIXEL


if __name__ == "__main__":
    main()
