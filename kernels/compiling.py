"""Compiles the kernels for one target; needs Triton, and no GPU.

A process of its own for each target (``python -m xdecoder_rt.kernels.compiling``), because a
compiler that lacks a target may abort: :mod:`xdecoder_rt.kernels.aot` starts them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from xdecoder_rt.kernels import catalog
from xdecoder_rt.kernels.spec import ARGUMENT_ALIGNMENT, KernelSpec
from xdecoder_rt.kernels.targets import Target, target


def compile_form(spec: KernelSpec, target: Target, **options: Any) -> Any:
    """Compile one form.

    Args:
        spec: the form.
        target: for which GPU.
        options: more of Triton's CUDA options.
    """
    function = getattr(import_module(spec.module), spec.function)
    names = function.arg_names
    signature = {name: spec.arguments.get(name, "constexpr") for name in names}
    constants = {(i,): spec.constants[n] for i, n in enumerate(names) if n in spec.constants}
    divisible = [["tt.divisibility", ARGUMENT_ALIGNMENT]]
    attributes = {(i,): divisible for i, name in enumerate(names) if name in spec.aligned}
    if spec.registers is not None:
        options["maxnreg"] = spec.registers
    return triton.compile(
        ASTSource(function, signature, constants, attributes),
        target=GPUTarget("cuda", target.capability, 32),
        options={"num_warps": spec.warps, "num_stages": spec.stages, **options},
    )


def facts(spec: KernelSpec, target: Target, folder: Path) -> dict[str, Any]:
    """Compile one form into files of a folder, and say what a launcher must know.

    Raises:
        RuntimeError: the kernel asks for scratch memory, which launchers do not give.
    """
    kernel = compile_form(spec, target)
    if kernel.metadata.global_scratch_size or kernel.metadata.profile_scratch_size:
        raise RuntimeError(f"{spec.name} asks for scratch memory")
    folder.mkdir(parents=True, exist_ok=True)
    cubin, ptx = kernel.asm["cubin"], kernel.asm["ptx"]
    entry: dict[str, Any] = {
        "entry": kernel.metadata.name,
        "shared": kernel.metadata.shared,
        "cubin": _write(folder / f"{spec.name}.cubin", cubin),
        "ptx": _write(folder / f"{spec.name}.ptx", ptx.encode()),
        **_resources(cubin),
    }
    version = target.old_ptx
    old = compile_form(spec, target, ptx_version=version).asm["ptx"]
    kind = f"ptx_{version // 10}_{version % 10}"
    entry[kind] = _write(folder / f"{spec.name}.ptx{version}", old.encode())
    return entry


def _write(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    name = f"{path.parent.name}/{path.name}"
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def _resources(cubin: bytes) -> dict[str, int]:
    """Registers a thread, and bytes of stack, which is where registers spill to."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run(
            [str(tool), "--dump-resource-usage", file.name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", listing)
    if match is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {listing}")
    registers, stack, local = (int(text) for text in match.groups())
    return {"registers": registers, "spilled": stack + local}


def main() -> None:
    """Compile for one target and print the facts as JSON."""
    parser = argparse.ArgumentParser(prog="python -m xdecoder_rt.kernels.compiling")
    parser.add_argument("capability", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names that match this regular expression")
    arguments = parser.parse_args()
    goal = target(arguments.capability)
    forms = {
        spec.name: facts(spec, goal, arguments.folder / goal.name)
        for spec in catalog.shipped(goal)
        if re.search(arguments.only, spec.name)
    }
    print(json.dumps(forms))


if __name__ == "__main__":
    main()
