"""A node of masked attention as an ``IPluginV3``, over whichever TensorRT module there is.

TensorRT asks the same object for all: names, output shapes and types when it builds, launches when
it runs. What it needs to write of it is one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Protocol

import numpy as np

from xdecoder_rt.kernels.cuda_driver import BorrowedStream
from xdecoder_rt.kernels.loader import PreparedCall
from xdecoder_rt.kernels.masked_attention.nodes import BITS, INPUTS, NAMESPACE, OUTPUT, VERSION
from xdecoder_rt.kernels.masked_attention.schedule import BITS_ALIGNMENT

KERNEL_ELEMENTS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
"""Element types that the kernels take, by TensorRT's names."""
FIELD = "kernels"
"""What an engine keeps of a plugin: the number of its kernels, an int32."""


class NodeKernels(Protocol):
    """Launcher of nodes; see :class:`xdecoder_rt.backends.tensorrt.plugins.PluginKernels`."""

    number: int
    report: Callable[[str], None]

    def prepare(self, node: str, shapes: Sequence[Sequence[int]], element: str) -> PreparedCall:
        """Return the launch of a node over sizes, its kernel loaded."""


class NumberFields:
    """Numbers as TensorRT's plugin fields, a field each.

    The bindings of TensorRT up to 10.13 were made for NumPy 1: under NumPy 2 they give a field's
    first element in place of every other.

    Args:
        trt: TensorRT's module.
        values: by name; int32.

    Attributes:
        collection: for TensorRT, which keeps pointers into this object and no reference to it.
    """

    def __init__(self, trt: Any, values: Mapping[str, int]) -> None:
        kind = trt.PluginFieldType.INT32
        self._arrays = {name: np.array([value], np.int32) for name, value in values.items()}
        self._list = trt.PluginFieldCollection(
            [trt.PluginField(name, array, kind) for name, array in self._arrays.items()]
        )
        self.collection = trt.PluginFieldCollection_(self._list)


def read_numbers(fields: Any) -> dict[str, int]:
    """Return the numbers that :class:`NumberFields` wrote, or a parser read from a node."""
    return {field.name: int(field.data[0]) for field in fields}


def _reported(method: Callable[..., Any]) -> Callable[..., Any]:
    """Tell of what a method raises: TensorRT prints it and says no more than that it failed."""

    @wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except Exception as error:
            self.kernels.report(f"plugin {self.plugin_name}: {error}")
            raise

    return call


def plugin_class(trt: Any) -> Callable[[str, NodeKernels], Any]:
    """Return the class of the plugins, which is made with a node and its kernels."""

    class Plugin(
        trt.IPluginV3,  # type: ignore[misc]
        trt.IPluginV3OneCore,  # type: ignore[misc]
        trt.IPluginV3OneBuild,  # type: ignore[misc]
        trt.IPluginV3OneRuntime,  # type: ignore[misc]
    ):
        def __init__(self, node: str, kernels: NodeKernels) -> None:
            for base in Plugin.__bases__:
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = node, NAMESPACE, VERSION
            self.num_outputs = 1
            self.kernels = kernels
            self._node = node
            self._fields = NumberFields(trt, {FIELD: kernels.number})
            self._tensors = (*INPUTS[node], OUTPUT[node])
            self._sizes: Any = None
            self._work: PreparedCall | None = None

        # ---- every phase ----

        def get_capability_interface(self, type: Any) -> Any:  # noqa: A002 (TensorRT's name)
            return self

        def clone(self) -> Any:
            return Plugin(self._node, self.kernels)

        def destroy(self) -> None:
            # The bindings keep the object, because of every capability that was asked for.
            del self.kernels, self._work

        # ---- building ----

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            return [trt.DataType.INT32 if self._node == BITS else input_types[0]]

        def get_output_shapes(
            self, inputs: Sequence[Any], shape_inputs: Sequence[Any], expr_builder: Any
        ) -> list[Any]:
            shape = [inputs[0][axis] for axis in range(len(inputs[0]))]
            if self._node == BITS:
                operation = trt.DimensionOperation
                tile, words = (
                    expr_builder.constant(size) for size in (BITS_ALIGNMENT, BITS_ALIGNMENT // 32)
                )
                tiles = expr_builder.operation(operation.CEIL_DIV, inputs[1][2], tile)
                shape[2] = expr_builder.operation(operation.PROD, tiles, words)
            dimensions = trt.DimsExprs(len(shape))
            for axis, size in enumerate(shape):
                dimensions[axis] = size
            return [dimensions]

        def supports_format_combination(
            self, pos: int, in_out: Sequence[Any], num_inputs: int
        ) -> bool:
            tensor, first = in_out[pos].desc, in_out[0].desc
            if tensor.format != trt.TensorFormat.LINEAR or first.type.name not in KERNEL_ELEMENTS:
                return False
            is_bits = self._tensors[pos] == "bits"
            return bool(tensor.type == (trt.DataType.INT32 if is_bits else first.type))

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            """Ignore the profile: nothing depends on it."""

        # ---- running ----

        def attach_to_context(self, resource_context: Any) -> Any:
            return self.clone()

        def set_tactic(self, tactic: int) -> None:
            """Ignore the tactic: there is one."""

        def get_fields_to_serialize(self) -> Any:
            return self._fields.collection

        @_reported
        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            # Here, and not in a launch: a kernel cannot be loaded while a stream is captured.
            self._prepare(inputs)

        @_reported
        def enqueue(
            self,
            input_desc: Sequence[Any],
            output_desc: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            work = self._prepare(input_desc)
            addresses = dict(zip(self._tensors, (*inputs, *outputs), strict=True))
            work.launch(BorrowedStream(stream), addresses)

        def _prepare(self, inputs: Sequence[Any]) -> PreparedCall:
            """The launch over these sizes: as a rule that of the last time."""
            sizes = (inputs[0].type.name, [tuple(desc.dims) for desc in inputs])
            if self._work is None or sizes != self._sizes:
                element, shapes = sizes
                self._work = self.kernels.prepare(self._node, shapes, KERNEL_ELEMENTS[element])
                self._sizes = sizes
            return self._work

    return Plugin
