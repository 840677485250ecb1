"""TensorRT-RTX's compiled kernels, kept from one process to the next, and how contexts use them.

An engine of TensorRT-RTX holds no machine code: kernels are compiled when contexts are made and
first run. What was compiled can be serialized, and the library reads it back where it fits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from xdecoder_rt.backends.blobs import ModelBlobs
from xdecoder_rt.backends.cuda.context import DeviceFacts
from xdecoder_rt.backends.tensorrt.library import Library


class Contexts:
    """Makes the execution contexts of one engine, on activation memory that is given to them.

    Args:
        library: TensorRT or TensorRT-RTX.
        engine: an ``ICudaEngine``.
        kept: the file that keeps what TensorRT-RTX compiles; None for none. TensorRT compiles
            nothing when it runs. The CUDA context is current in every method, and here.
    """

    def __init__(self, library: Library, engine: Any, kept: KeptKernels | None = None) -> None:
        self._module: Any = library.module
        self._engine = engine
        self._kept = kept
        self._cache: Any = None
        if hasattr(self._module, "IRuntimeCache"):
            self._cache = engine.create_runtime_config().create_runtime_cache()
            if kept is not None and self._cache is not None:
                kept.fill(self._cache)

    def create(self, profile: int, is_fixed: bool) -> Any:
        """Return a new execution context, or None where the library refuses.

        Args:
            profile: its optimization profile, for which memory is given.
            is_fixed: whether the profile allows one shape an input, so that its work is captured.
        """
        strategy = self._module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._cache is None:
            return self._engine.create_execution_context(strategy)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.set_runtime_cache(self._cache)
        if is_fixed:
            # By default a fallback runs until the kernel for a shape is compiled, and a CUDA graph
            # would hold the fallback for good.
            eager = self._module.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
        return self._engine.create_execution_context(config)

    def keep(self) -> None:
        """Keep what was compiled until now, where something was."""
        if self._cache is not None and self._kept is not None:
            self._kept.take(self._cache)

    def close(self) -> None:
        """Keep what was compiled and release the engine. Its contexts are gone."""
        self.keep()
        self._cache = self._engine = None


class KeptKernels:
    """The file of one engine's compiled kernels on one GPU, private to this user.

    A file that is not as it was written, or that the library refuses, is thrown away; the kernels
    are then compiled again. Where the folder cannot be used, nothing is kept.

    Args:
        directory: folder of all caches.
        library: TensorRT-RTX.
        graph: name of the graph.
        engine_data: the serialized engine.
        facts: the GPU and its driver.
    """

    def __init__(
        self, directory: Path, library: Library, graph: str, engine_data: bytes, facts: DeviceFacts
    ) -> None:
        self._blobs = ModelBlobs(directory, library.backend, graph)
        parts = (
            library.version,
            facts.name,
            facts.capability,
            ".".join(map(str, facts.cuda)),
            hashlib.sha256(engine_data).hexdigest(),
        )
        self._key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._known: bytes | None = None

    def fill(self, cache: Any) -> None:
        """Read into an ``IRuntimeCache`` what was kept, if it fits this machine."""
        blob = self._blobs.read(self._key)
        if blob is None:
            return
        model = blob.model.tobytes()
        if cache.deserialize(model):
            self._known = hashlib.sha256(model).digest()
        else:
            self._blobs.remove(self._key)

    def take(self, cache: Any) -> None:
        """Write an ``IRuntimeCache`` whose contents are other than what is kept."""
        serialized = cache.serialize()
        model = b"" if serialized is None else bytes(serialized)
        digest = hashlib.sha256(model).digest()
        if model and digest != self._known:
            self._blobs.write(self._key, (), (), model)
            self._known = digest
