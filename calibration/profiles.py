"""Profiles of quantization: what each target wants quantized, and in which form.

*tensorrt*: symmetric int8 everywhere, since TensorRT takes no zero points; dense convolutions and
linear layers only: quantized depthwise convolutions make an engine several times slower, and
quantized attention products keep it from fusing attention.

*cpu*: asymmetric uint8 activations, an eighth bit for what a ReLU leaves, and the form for which
processors have instructions (VNNI, AMX); depthwise convolutions too.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from xdecoder_rt.errors import ArgumentError


@dataclass(frozen=True)
class QuantizationProfile:
    """A form of QDQ graphs.

    Attributes:
        name: ``"cpu"`` or ``"tensorrt"``.
        symmetric: whether activations are int8 around zero, not uint8 with a zero point.
        depthwise: whether depthwise convolutions are quantized.
        unquantized: the type of what is not quantized.
        int8_tables: whether embedding tables are stored in int8.
    """

    name: str
    symmetric: bool
    depthwise: bool
    unquantized: str
    int8_tables: bool


QUANTIZATION_PROFILES = {
    "cpu": QuantizationProfile(
        "cpu", symmetric=False, depthwise=True, unquantized="fp32", int8_tables=True
    ),
    "tensorrt": QuantizationProfile(
        "tensorrt", symmetric=True, depthwise=False, unquantized="fp16", int8_tables=False
    ),
}


def profile_of(name: str) -> QuantizationProfile:
    """Return a profile by its name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in QUANTIZATION_PROFILES:
        raise ArgumentError(
            f"There is no profile {name!r}", expected=" or ".join(map(repr, QUANTIZATION_PROFILES))
        )
    return QUANTIZATION_PROFILES[name]


def quantizable(model: onnx.ModelProto, profile: QuantizationProfile) -> list[str]:
    """Return the names of the nodes that the profile allows to be quantized, in order.

    Dense (and under some profiles depthwise) convolutions and products with constant weights.
    Products of two activations, which is what attention is made of and what mask logits are, stay,
    and so do products of a constant by an activation, and convolutions that treat every channel
    alike: they shrink mask features, which become attention masks by a threshold.
    """
    stored = {value.name: value for value in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            kernel = stored.get(node.input[1])
            if kernel is not None and (
                _groups(node) == 1 or (profile.depthwise and not _is_resampling(kernel))
            ):
                names.append(node.name)
        elif node.op_type in ("Gemm", "MatMul") and (
            node.input[1] in stored
            and node.input[0] not in stored
            and len(stored[node.input[1]].dims) == 2
        ):
            names.append(node.name)
    return names


def _is_resampling(kernel: onnx.TensorProto) -> bool:
    """Whether a depthwise convolution has one filter for all channels, as no learnt one has."""
    filters = onnx.numpy_helper.to_array(kernel)
    return len(filters) > 1 and bool((filters == filters[:1]).all())


def _groups(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)
