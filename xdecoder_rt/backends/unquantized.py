"""Layers of INT8 graphs that OpenVINO computes sooner in fp32, on processors without VNNI or AMX.

Those multiply bytes in three instructions where newer ones take one: at most twice as many in a
second as floats. Products get less, and wide 3x3 convolutions as much from Winograd's algorithm.
Measured on two threads of a Zen 3 (AVX2), in 10^9 multiply-accumulates a second, fp32 and INT8:

============================  =====  =======  ========
layer                          fp32     INT8  Winograd
============================  =====  =======  ========
products, 96 to 1536 wide     35-58    25-41
3x3 over 512 channels         56-59  104-110   109-122
1x1 over 96 and 192 channels  19-41    30-51
depthwise 3x3 and 5x5           3-5      3-7
============================  =====  =======  ========

So products and the convolutions that Winograd's algorithm takes are unquantized when a graph is
loaded, the others stay. What is computed then is nearer to the fp32 plan.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from xdecoder_rt.backends.constants import constant_values
from xdecoder_rt.backends.winograd import gains

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
# As Linux names them: sums of products of bytes, in vectors of either width and in tiles.
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_CPU_INFO = Path("/proc/cpuinfo")


@cache
def multiplies_bytes_slowly(cpu_info: Path = _CPU_INFO) -> bool:
    """Return whether this is an x86 processor without instructions for sums of products of bytes.

    False where that cannot be told, as anywhere but on Linux.

    Args:
        cpu_info: what Linux says of the processor.
    """
    if sys.platform != "linux":
        return False
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpu_info.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and _DOT_PRODUCTS.isdisjoint(flags.group(1).split())


def unquantize(openvino: ModuleType, network: Any) -> int:
    """Compute in fp32 what is slower in INT8; return how many layers.

    Args:
        openvino: the library.
        network: an ``openvino.Model`` of a QDQ graph, changed in place.
    """
    changed = 0
    nodes = network.get_ordered_ops()
    for node in nodes:
        kind = node.get_type_name()
        if kind == "MatMul" or (kind == "Convolution" and gains(node)):
            source, weights = _source(node.input_value(0)), constant_values(node.input_value(1))
            if source is not None and weights is not None:
                node.input(0).replace_source_output(source)
                constant = openvino.opset13.constant(weights)
                node.input(1).replace_source_output(constant.output(0))
                changed += 1
    if changed:
        _forget_unread(nodes)
    return changed


def _forget_unread(nodes: list[Any]) -> None:
    """Let sums read what was quantized for a layer beside them, where none reads that any more."""
    for node in nodes:
        source = _source(node.output(0)) if node.get_type_name() == "Multiply" else None
        readers = list(node.output(0).get_target_inputs())
        if source is not None and not any(
            reader.get_node().get_type_name() in _LAYERS for reader in readers
        ):
            for reader in readers:
                reader.replace_source_output(source)


def _source(output: Any) -> Any | None:
    """Return what was quantized to give a dequantized tensor; None for any other tensor."""
    if output.get_node().get_type_name() != "Multiply":
        return None
    output = output.get_node().input_value(0)
    if output.get_node().get_type_name() == "Subtract":
        output = output.get_node().input_value(0)
    # To bytes and back.
    for _ in range(2):
        if output.get_node().get_type_name() != "Convert":
            return None
        output = output.get_node().input_value(0)
    node = output.get_node()
    return node.input_value(0) if node.get_type_name() == "FakeQuantize" else None
