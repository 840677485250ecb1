"""Runs the plugins under ``plugin_host.cpp``, in a process of its own: it stands in for libnvinfer.

    python tests/support/fake_tensorrt/plugin_host.py FOLDER     # with TensorRT's headers

writes what the host and the fake driver were told, and counts of what is left.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CUDA_HEADERS = Path("/usr/local/cuda/include")
QUERIES, KEYS = 101, 1024


def _host(headers: Path, linked: str) -> ctypes.CDLL:
    """The host, loaded under the name that the bindings link."""
    with tempfile.TemporaryDirectory() as folder:
        objects = Path(folder, "shim.o")
        made = Path(folder, linked)
        # The registry is the host's.
        renamed = "-DgetPluginRegistry=shimPluginRegistry"
        subprocess.run(
            ["cc", "-c", "-fPIC", renamed, "-o", str(objects), str(HERE / "shim.c")], check=True
        )
        command = ["c++", "-std=c++17", "-shared", "-fPIC", "-w", f"-Wl,-soname,{linked}"]
        command += [f"-I{headers}", f"-I{CUDA_HEADERS}", "-o", str(made)]
        subprocess.run([*command, str(HERE / "plugin_host.cpp"), str(objects)], check=True)
        return ctypes.CDLL(str(made), ctypes.RTLD_GLOBAL)


def main() -> None:
    """Host a plugin of each kind, then one whose engine has another number."""
    sys.path += [str(HERE.parent), str(HERE.parents[2] / "benchmarks")]
    import fake_cuda

    import fake_tensorrt
    from fake_tensorrt import bindings

    linked = bindings.linked_names()
    host = _host(Path(sys.argv[1]), linked.pop("nvinfer"))
    trt = bindings.over_shim(linked)
    if host.hostMajorVersion() != int(trt.__version__.split(".")[0]):
        sys.exit(f"the headers are not of TensorRT {trt.__version__}")

    fake = fake_cuda.library()
    from gpu import cuda_driver

    from xdecoder_rt.backends.tensorrt.plugins import PLUGINS, PluginKernels, offered, register
    from xdecoder_rt.kernels.compiled import CompiledKernels
    from xdecoder_rt.kernels.masked_attention.nodes import INPUTS, OUTPUT

    cuda_driver.init()
    context = cuda_driver.Device(0).retain_primary_context()
    context.push()
    said: list[str] = []
    compiled = CompiledKernels(fake_tensorrt.kernel_files(87).__getitem__)
    kernels = PluginKernels(compiled, (8, 7), (12, 6), said.append)
    register(trt, PLUGINS)
    stream = cuda_driver.Stream()
    names = dict.fromkeys(name for node in INPUTS for name in (*INPUTS[node], OUTPUT[node]))
    held = {name: cuda_driver.mem_alloc(1 << 22) for name in names}
    addresses = {name: int(one) for name, one in held.items()}
    runs = [(node, -1) for node in INPUTS] + [("AttendBits", 1)]
    for node, kept in runs:
        tensors = [addresses[name] for name in (*INPUTS[node], OUTPUT[node])]
        given: Any = (ctypes.c_void_p * len(tensors))(*tensors)
        sizes = ctypes.c_int64(QUERIES), ctypes.c_int64(KEYS)
        with offered(kernels):
            host.hostPlugin(
                node.encode(), kernels.number, kept, *sizes, given, ctypes.c_void_p(stream.handle)
            )
    kernels.close()
    gc.collect()
    left = [one for one in gc.get_objects() if type(one).__name__ == "Plugin"]
    launches = []
    for one in fake.launches():
        is_given = one.stream == stream.handle
        parameters = one.parameters.hex()
        launches.append([one.name, one.grid, one.block, one.shared, is_given, parameters])
    facts = {
        "addresses": addresses,
        "launches": launches,
        "said": said,
        "modules": fake.live().modules,
        "holding kernels": sum(hasattr(one, "kernels") for one in left),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
