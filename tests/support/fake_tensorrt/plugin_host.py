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
        shared_library = Path(folder, linked)
        # The registry is the host's.
        renamed = "-DgetPluginRegistry=shimPluginRegistry"
        subprocess.run(
            ["cc", "-c", "-fPIC", renamed, "-o", str(objects), str(HERE / "shim.c")], check=True
        )
        command = ["c++", "-std=c++17", "-shared", "-fPIC", "-w", f"-Wl,-soname,{linked}"]
        command += [f"-I{headers}", f"-I{CUDA_HEADERS}", "-o", str(shared_library)]
        subprocess.run([*command, str(HERE / "plugin_host.cpp"), str(objects)], check=True)
        return ctypes.CDLL(str(shared_library), ctypes.RTLD_GLOBAL)


def main() -> None:
    """Host a plugin of each kind, then one whose engine has another number."""
    sys.path.append(str(HERE.parent))
    import fake_cuda

    from fake_tensorrt import bindings

    linked = bindings.linked_names()
    host = _host(Path(sys.argv[1]), linked.pop("nvinfer"))
    trt = bindings.over_shim(linked)
    if host.hostMajorVersion() != int(trt.__version__.split(".")[0]):
        sys.exit(f"the headers are not of TensorRT {trt.__version__}")

    fake = fake_cuda.library()
    from fake_cuda.bindings import current_context

    with current_context():
        print(json.dumps(_hosted(host, trt, fake)))


def _hosted(host: ctypes.CDLL, trt: Any, fake: Any) -> dict[str, Any]:
    """What the host and the driver were told, and counts of what is left."""
    import fake_tensorrt
    from xdecoder_rt.backends.tensorrt.plugins import (
        PLUGINS,
        PluginKernels,
        offering,
        register_plugins,
    )
    from xdecoder_rt.kernels.compiled import CompiledKernels
    from xdecoder_rt.kernels.cuda_driver import Stream, mem_alloc
    from xdecoder_rt.kernels.masked_attention.nodes import INPUTS, OUTPUT

    messages: list[str] = []
    compiled = CompiledKernels(fake_tensorrt.kernel_files(87).__getitem__)
    kernels = PluginKernels(compiled, (8, 7), (12, 6), messages.append)
    register_plugins(trt, PLUGINS)
    stream = Stream()
    names = dict.fromkeys(name for node in INPUTS for name in (*INPUTS[node], OUTPUT[node]))
    buffers = {name: mem_alloc(1 << 22) for name in names}
    addresses = {name: int(buffer) for name, buffer in buffers.items()}
    runs = [(node, -1) for node in INPUTS] + [("AttendBits", 1)]
    for node, tactic in runs:
        tensors = [addresses[name] for name in (*INPUTS[node], OUTPUT[node])]
        pointers: Any = (ctypes.c_void_p * len(tensors))(*tensors)
        sizes = ctypes.c_int64(QUERIES), ctypes.c_int64(KEYS)
        with offering(kernels):
            host.hostPlugin(
                node.encode(),
                kernels.number,
                tactic,
                *sizes,
                pointers,
                ctypes.c_void_p(stream.handle),
            )
    kernels.close()
    gc.collect()
    plugins = [value for value in gc.get_objects() if type(value).__name__ == "Plugin"]
    launches = []
    for launch in fake.launches():
        is_given = launch.stream == stream.handle
        parameters = launch.parameters.hex()
        launches.append(
            [launch.name, launch.grid, launch.block, launch.shared, is_given, parameters]
        )
    return {
        "addresses": addresses,
        "launches": launches,
        "said": messages,
        "modules": fake.live().modules,
        "holding kernels": sum(hasattr(plugin, "kernels") for plugin in plugins),
    }


if __name__ == "__main__":
    main()
