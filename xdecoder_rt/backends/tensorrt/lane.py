"""One call of an engine at a time: its execution contexts, its stream, and the memory they need."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from xdecoder_rt.backends.cuda.blocks import BlockPool
from xdecoder_rt.backends.cuda.context import CudaContext
from xdecoder_rt.backends.cuda.graphs import CapturedGraph, CaptureError, Capturer
from xdecoder_rt.backends.cuda.staging import DeviceInput, Staging
from xdecoder_rt.backends.cuda.values import DeviceValue, bytes_of, packed_offsets
from xdecoder_rt.backends.tensorrt.library import Library
from xdecoder_rt.backends.tensorrt.runtime_cache import Contexts
from xdecoder_rt.backends.tensorrt.signature import EngineProfile, Shape, Signature
from xdecoder_rt.errors import BackendError

Feed = DeviceValue | DeviceInput | npt.NDArray[Any]
_GRAPHS_KEPT = 32
_LAYOUTS_KEPT = 64
# Another library that waits for the whole device spoils a capture; that is no reason to give up.
_ATTEMPTS = 3


@dataclass(frozen=True)
class _Outputs:
    """Where the outputs of one set of input shapes lie in a block."""

    shapes: Mapping[str, Shape]
    offsets: Mapping[str, int]
    used: int


@dataclass
class _QueuedWork:
    """Work over one set of addresses: how often it was queued, and its graph once captured."""

    calls: int = 0
    graph: CapturedGraph | None = None


class Lane:
    """An engine's contexts, one a profile, that share a stream and their activation memory.

    A lane serves one call at a time; calls on it are queued one after another. The CUDA context is
    current in every method.

    Args:
        name: the graph's, for messages.
        cuda: the CUDA context.
        library: TensorRT.
        engine: an ``ICudaEngine``.
        contexts: makes its execution contexts.
        signature: its bindings.
        capturer: makes CUDA graphs.

    Raises:
        BackendError: there is no room, or TensorRT refuses.
    """

    def __init__(
        self,
        name: str,
        cuda: CudaContext,
        library: Library,
        engine: Any,
        contexts: Contexts,
        signature: Signature,
        capturer: Capturer,
    ) -> None:
        self._name = name
        self._cuda = cuda
        self._library = library
        self._signature = signature
        self._capturer = capturer
        self._attempts = _ATTEMPTS if capturer.available else 0
        self._most = {
            port: max(bytes_of(profile.most[port], element) for profile in signature.profiles)
            for port, element in signature.inputs.items()
        }
        self._ports = (*signature.inputs, *signature.outputs)
        self.stream = cuda.stream()
        self._done = cuda.event()
        self._staging = Staging(cuda)
        self._shapes: list[dict[str, Shape]] = [{} for _ in signature.profiles]
        self._layouts: OrderedDict[tuple[int, tuple[Shape, ...]], _Outputs] = OrderedDict()
        self._queued_work: OrderedDict[tuple[int, ...], _QueuedWork] = OrderedDict()
        indices = range(len(signature.profiles))
        size = max(1, *(int(engine.get_device_memory_size_for_profile_v2(i)) for i in indices))
        self._activations = cuda.memory(size)
        self._contexts: list[Any] = []
        try:
            for profile in signature.profiles:
                self._contexts.append(self._context(contexts, profile, size))
            self.stream.synchronize()
        except BaseException:
            self.close()
            raise

    def _context(self, contexts: Contexts, profile: EngineProfile, size: int) -> Any:
        """An execution context for a profile, on the lane's activation memory."""
        context = contexts.create(profile.index, profile.is_fixed)
        if context is None:
            raise self._error("cannot make an execution context for")
        context.set_device_memory(int(self._activations), size)
        try:
            context.set_optimization_profile_async(profile.index, self.stream.handle)
        except RuntimeError as error:
            raise self._error(f"refuses profile {profile.index} of") from error
        return context

    def output_sizes(self, profile: EngineProfile) -> list[int]:
        """Return the bytes of each output at the profile's largest shapes."""
        outputs = self._outputs(profile, dict(profile.most))
        types = self._signature.outputs
        return [bytes_of(shape, types[port]) for port, shape in outputs.shapes.items()]

    def run(self, feeds: Mapping[str, Feed], blocks: BlockPool) -> dict[str, DeviceValue]:
        """Queue a call.

        Args:
            feeds: arrays, or values of this backend, by input.
            blocks: where outputs go.

        Returns:
            The outputs, which are written when the lane's stream gets there.

        Raises:
            BackendError: shapes or types do not fit the engine, or it fails.
        """
        shapes: dict[str, Shape] = {name: feed.shape for name, feed in feeds.items()}
        profile = self._signature.profile(self._name, shapes)
        outputs = self._outputs(profile, shapes)
        lease = blocks.take()
        block = lease.block
        addresses = self._inputs(feeds)
        block.open_to(self.stream)
        for name, offset in outputs.offsets.items():
            addresses[name] = block.address + offset
        try:
            self._execute(profile, addresses)
        finally:
            block.ready.record(self.stream)
            self._done.record(self.stream)
        lease.used = outputs.used
        return {
            name: DeviceValue(addresses[name], shape, self._signature.outputs[name], lease)
            for name, shape in outputs.shapes.items()
        }

    def close(self) -> None:
        """Release everything. Nothing is queued any more."""
        for work in self._queued_work.values():
            if work.graph is not None:
                work.graph.close()
        self._queued_work.clear()
        self._contexts.clear()
        self._staging.close()
        self._activations.free()
        del self._done, self.stream

    def _inputs(self, feeds: Mapping[str, Feed]) -> dict[str, int]:
        """Bring arrays to the device, and wait on the stream for values of other streams."""
        addresses = {}
        arrays: dict[str, npt.NDArray[Any] | DeviceInput] = {}
        for name, feed in feeds.items():
            element = self._signature.inputs[name]
            if not isinstance(feed, DeviceValue):
                arrays[name] = feed
                continue
            if feed.element != element:
                raise BackendError(
                    f"The {self._name} engine takes {name!r} as {element.name}, "
                    f"and gets {feed.element.name}",
                    fix="build the plan again: its engines are not of one build",
                )
            block = feed.lease.block
            self.stream.wait_for_event(block.ready)
            block.readers[id(self)] = self._done
            addresses[name] = feed.address
        most = {name: self._most[name] for name in arrays}
        types = {name: self._signature.inputs[name] for name in arrays}
        addresses.update(self._staging.upload(arrays, types, most, self.stream))
        return addresses

    def _outputs(self, profile: EngineProfile, shapes: dict[str, Shape]) -> _Outputs:
        """Tell the profile's context the shapes; it tells those of the outputs."""
        context, index = self._contexts[profile.index], profile.index
        key = (index, tuple(shapes[name] for name in self._signature.inputs))
        if self._shapes[index] != shapes:
            self._shapes[index] = {}  # unknown until all of them are set
            for name, shape in shapes.items():
                if not context.set_input_shape(name, shape):
                    raise self._error(f"refuses the shape {list(shape)} of {name!r} for")
            self._shapes[index] = shapes
        if key not in self._layouts:
            try:
                unknown = context.infer_shapes()
            except RuntimeError as error:
                raise self._error(f"cannot tell the output shapes of {shapes} for") from error
            output_shapes = {
                name: tuple(context.get_tensor_shape(name)) for name in self._signature.outputs
            }
            if unknown or any(-1 in shape for shape in output_shapes.values()):
                raise self._error(f"cannot tell the output shapes of {shapes} for")
            sizes = [
                bytes_of(output_shapes[name], self._signature.outputs[name])
                for name in output_shapes
            ]
            offsets, used = packed_offsets(sizes)
            self._layouts[key] = _Outputs(
                output_shapes, dict(zip(output_shapes, offsets, strict=True)), used
            )
            if len(self._layouts) > _LAYOUTS_KEPT:
                self._layouts.popitem(last=False)
        return self._layouts[key]

    def _execute(self, profile: EngineProfile, addresses: Mapping[str, int]) -> None:
        """Queue the engine; work over the same addresses again is a CUDA graph from then on.

        TensorRT must have run once with new shapes before it is captured.
        """
        if not (self._attempts and profile.is_fixed):
            return self._enqueue(profile, addresses)
        key = (profile.index, *(addresses[name] for name in self._ports))
        work = self._queued_work.setdefault(key, _QueuedWork())
        self._queued_work.move_to_end(key)
        work.calls += 1
        try:
            if work.graph is None and work.calls > 1 and self._is_capturable(profile):
                work.graph = self._capturer.capture(
                    self.stream, lambda: self._enqueue(profile, addresses)
                )
                self._forget_oldest()
            if work.graph is not None:
                return work.graph.launch()
        except (CaptureError, BackendError):
            # Whatever it was, the plain call says it better, or does without.
            self._attempts -= 1
        return self._enqueue(profile, addresses)

    def _enqueue(self, profile: EngineProfile, addresses: Mapping[str, int]) -> None:
        context = self._contexts[profile.index]
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise self._error(f"refuses the address of {name!r} for")
        if not context.execute_async_v3(self.stream.handle):
            raise self._error("fails to run")

    def _is_capturable(self, profile: EngineProfile) -> bool:
        """TensorRT-RTX says it; TensorRT leaves it to the attempt."""
        is_capturable = getattr(self._contexts[profile.index], "is_stream_capturable", None)
        return is_capturable is None or bool(is_capturable(self.stream.handle))

    def _forget_oldest(self) -> None:
        while len(self._queued_work) > _GRAPHS_KEPT:
            _, oldest = self._queued_work.popitem(last=False)
            if oldest.graph is not None:
                self.stream.synchronize()
                oldest.graph.close()

    def _error(self, failure: str) -> BackendError:
        return BackendError(
            f"{self._library.title} {self._library.version} {failure} the {self._name} engine "
            f"({self._library.take_log()})",
            fix="build the plan again on this machine",
        )
