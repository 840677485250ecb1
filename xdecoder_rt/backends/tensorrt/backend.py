"""TensorRT and TensorRT-RTX plans on an NVIDIA GPU, through one code path.

Everything is allocated when a graph is loaded or first used at a time: execution contexts with
their activation memory, blocks for outputs, page-locked memory for what comes from the host. A
frame allocates nothing. What one graph hands to another stays on the device, ordered by events.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array, Graph, ModelReader, PanopticMap, Value, feeds_error
from xdecoder_rt.backends.cuda.blocks import BlockPool
from xdecoder_rt.backends.cuda.context import CudaContext
from xdecoder_rt.backends.cuda.downloads import Downloads
from xdecoder_rt.backends.cuda.frames import DeviceFrame, DevicePicture, device_picture
from xdecoder_rt.backends.cuda.graphs import Capturer
from xdecoder_rt.backends.cuda.letterbox import ScaledFrame
from xdecoder_rt.backends.cuda.panoptic import PanopticMaps
from xdecoder_rt.backends.cuda.values import DeviceValue, packed_offsets
from xdecoder_rt.backends.tensorrt.compatibility import check_engine, check_plan, rebuild
from xdecoder_rt.backends.tensorrt.lane import Lane
from xdecoder_rt.backends.tensorrt.library import Library, extra_of
from xdecoder_rt.backends.tensorrt.plugins import PluginKernels, offering, register_plugins
from xdecoder_rt.backends.tensorrt.runtime_cache import Contexts, KeptKernels
from xdecoder_rt.backends.tensorrt.signature import Signature
from xdecoder_rt.errors import BackendError
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.frame_resize import schedule as frame_resize
from xdecoder_rt.kernels.loader import Kernels
from xdecoder_rt.kernels.panoptic_map import schedule as panoptic_map
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.manifest import Manifest

LANES = 2
"""Calls of one graph that run at the same time; others wait. The second is made when needed."""
_BLOCKS = 2


class TensorRTGraph:
    """An engine, its lanes, and the blocks that its outputs lie in.

    Args:
        name: for messages.
        cuda: the context, current.
        library: TensorRT.
        engine: an ``ICudaEngine``.
        capturer: makes CUDA graphs.
        kept: the file of what TensorRT-RTX compiles, or None.

    Attributes:
        inputs: names of what it takes.
        output_sizes: bytes of each output at the largest shapes.
    """

    def __init__(
        self,
        name: str,
        cuda: CudaContext,
        library: Library,
        engine: Any,
        capturer: Capturer,
        kept: KeptKernels | None = None,
    ) -> None:
        self._name = name
        self._cuda = cuda
        self._engine = engine
        self._signature = Signature.of(name, engine, library.module)
        self.inputs = tuple(self._signature.inputs)
        self._input_names = frozenset(self.inputs)
        signature = self._signature
        contexts = self._contexts = Contexts(library, engine, kept)
        self._make: Callable[[], Lane] = lambda: Lane(
            name, cuda, library, engine, contexts, signature, capturer
        )
        self._changed = threading.Condition()
        first = self._make()
        try:
            by_profile = [first.output_sizes(profile) for profile in self._signature.profiles]
            self.output_sizes = max(by_profile, key=sum)
            size = max(packed_offsets(sizes)[1] for sizes in by_profile)
            self._blocks = BlockPool(cuda, size, _BLOCKS)
        except BaseException:
            first.close()
            raise
        self._lanes = [first]
        self._idle = [first]
        contexts.keep()  # a program that is ended later has at least these

    def __call__(self, feeds: Mapping[str, Value | Array]) -> dict[str, Value]:
        """Queue the graph; outputs stay on the device and may not be written yet.

        Raises:
            PlanError: the engine takes other inputs.
            BackendError: an input is of a shape or type that the engine does not take.
        """
        if feeds.keys() != self._input_names:
            raise feeds_error(self._name, self.inputs, feeds)
        with self._cuda:
            lane = self._take()
            try:
                return dict(lane.run(feeds, self._blocks))
            finally:
                with self._changed:
                    self._idle.append(lane)
                    self._changed.notify()

    def close(self) -> None:
        """Release everything. The context is current and no call is under way."""
        self._idle.clear()
        while self._lanes:
            self._lanes.pop().close()
        self._blocks.close()
        self._contexts.close()
        del self._make, self._engine

    def _take(self) -> Lane:
        with self._changed:
            if not self._idle and len(self._lanes) < LANES:
                lane = self._make()
                self._lanes.append(lane)
                return lane
            while not self._idle:
                self._changed.wait()
            return self._idle.pop()


class TensorRTBackend:
    """A plan's engines on one GPU.

    Args:
        manifest: the plan's; whether it fits this machine is checked first.
        device: ``"cuda"``, ``"cuda:1"``, or None for the first GPU.
        cache_dir: where TensorRT-RTX's compiled kernels are kept, or None.

    Attributes:
        name: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        version: the library's.
        device: the GPU.
        panoptic_map: makes panoptic maps there, where the plan has the kernels.
        scales_frames: whether frames are scaled there, likewise.

    Raises:
        MissingExtraError: the library or pycuda is not installed.
        BackendError: there is no GPU or driver, the plan was built for another version or GPU, or
            its engines hold plugins that this release does not have.
    """

    def __init__(
        self, manifest: Manifest, device: str | None = None, cache_dir: Path | None = None
    ) -> None:
        self.name = manifest.backend
        self._cache_dir = cache_dir
        library = Library(manifest.backend)
        cuda = CudaContext(device, extra_of(manifest.backend))
        self._resources = _Resources(cuda, library)
        # At the latest with the program: what pycuda holds must go before its module does.
        self._end = weakref.finalize(self, self._resources.close)
        self.version = library.version
        self.device = str(cuda.facts)
        self._capturer = Capturer(cuda)
        self.panoptic_map: PanopticMap | None = None
        self.scales_frames = False
        self._kernels: Kernels | None = None
        self._has_plugins = bool(manifest.plugins)
        try:
            check_plan(manifest, library, cuda.facts)
            register_plugins(library.module, manifest.plugins)
        except BaseException:
            self.close()
            raise

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Graph:
        """Deserialize an engine and allocate what its calls need.

        Raises:
            BackendError: TensorRT cannot read it, or there is no room.
        """
        resources = self._resources
        library, cuda = resources.library, resources.cuda
        with cuda:
            engine_data = model()
            check_engine(name, engine_data, library, cuda.facts)
            with nullcontext() if resources.plugins is None else offering(resources.plugins):
                engine = library.runtime.deserialize_cuda_engine(engine_data)
            if engine is None:
                raise BackendError(
                    f"{library.title} {library.version} cannot read the {name} engine of "
                    f"{len(engine_data):,} bytes ({library.take_log()})",
                    expected="a whole engine, built by this version for this GPU",
                    fix=rebuild(self.name),
                )
            kept = None
            if self._cache_dir is not None and hasattr(library.module, "IRuntimeCache"):
                kept = KeptKernels(self._cache_dir, library, name, engine_data, cuda.facts)
            graph = TensorRTGraph(name, cuda, library, engine, self._capturer, kept)
            resources.graphs.append(graph)
            resources.downloads.reserve(graph.output_sizes)
        return graph

    def to_numpy(self, value: Value) -> np.ndarray[Any, Any]:
        """Wait for a value and copy it to the host; bfloat16 becomes float32."""
        if isinstance(value, DeviceValue):
            return self._resources.downloads.read(value)
        array: np.ndarray[Any, Any] = value
        return array

    def to_numpy_all(self, values: Mapping[str, Value]) -> dict[str, np.ndarray[Any, Any]]:
        """Wait for values and copy them to the host; bfloat16 becomes float32."""
        return {name: self.to_numpy(value) for name, value in values.items()}

    def picture(self, image: object) -> DevicePicture | None:
        """Return a device image (``__cuda_array_interface__``, DLPack) as a picture, or None.

        Raises:
            ImageError: it is on the device and not uint8 RGB, or on another device.
        """
        return device_picture(image, self._resources.cuda.number)

    def frame(
        self, picture: DevicePicture | npt.NDArray[np.uint8], box: Letterbox, interpolation: str
    ) -> DeviceFrame | ScaledFrame:
        """Return a picture laid into a network input, on the device.

        One that has its size already is copied there: waiting until the network has read it, so
        that its owner may write again, would take longer.

        Raises:
            BackendError: it must be scaled, and the plan has no kernels for that.
        """
        if isinstance(picture, DevicePicture) and (self._kernels is None or box.is_unscaled):
            return DeviceFrame(picture, box.target)
        if self._kernels is None:
            raise BackendError(
                "The plan has no compiled kernels that scale frames",
                fix="build it again with them, or scale on the CPU",
            )
        return ScaledFrame(picture, box, interpolation, self._kernels)

    def take_kernels(self, read: Callable[[str], bytes]) -> None:
        """Scale frames, make panoptic maps and run plugins with a plan's compiled kernels.

        Raises:
            PlanError: they are damaged.
            BackendError: the plan's engines hold plugins whose kernels are not there for this GPU.
        """
        compiled = CompiledKernels(read)
        modules = {spec.module for spec in compiled.forms.values()}
        facts, library = self._resources.cuda.facts, self._resources.library
        if self._has_plugins:
            major, minor = map(int, facts.capability.split("."))
            self._resources.plugins = PluginKernels(
                compiled, (major, minor), facts.cuda, library.note
            )
        with self._resources.cuda as cuda:
            kernels = Kernels(compiled)
            if panoptic_map.MODULE in modules:
                self._resources.maps = self.panoptic_map = PanopticMaps(cuda, kernels)
        if frame_resize.MODULE in modules:
            self._kernels = kernels
            self.scales_frames = True

    def close(self) -> None:
        """Release engines, memory and the context. No call may be under way."""
        self._end()


class _Resources:
    """What must be released, in order."""

    def __init__(self, cuda: CudaContext, library: Library) -> None:
        self.cuda = cuda
        self.library = library
        self.graphs: list[TensorRTGraph] = []
        self.maps: PanopticMaps | None = None
        self.plugins: PluginKernels | None = None
        self.downloads = Downloads(cuda)

    def close(self) -> None:
        with self.cuda:
            self.cuda.synchronize()
            while self.graphs:
                self.graphs.pop().close()
            if self.maps is not None:
                self.maps.close()
            self.downloads.close()
            self.library.close()
            if self.plugins is not None:
                self.plugins.close()
        self.cuda.close()
