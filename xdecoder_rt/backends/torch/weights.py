"""Constants of ONNX models as PyTorch tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from xdecoder_rt.errors import BackendError
from xdecoder_rt.plan.onnx_walk import Constant
from xdecoder_rt.plan.protobuf import packed_integers

TYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    19: torch.float8_e5m2,
}
"""PyTorch's element types by TensorProto.DataType."""
_RAW, _FLOATS, _DOUBLES = 9, 4, 10
# These are kept in int32_data as the bits of an unsigned number, not as a number.
_BITS = {10: torch.int16, 16: torch.int16, 17: torch.uint8, 19: torch.uint8}


def to_tensor(constant: Constant) -> Tensor:
    """Return a constant on the host; it may share the model's memory, which must not be written.

    Raises:
        BackendError: its elements are not in the model.
    """
    dtype, shape = TYPES[constant.kind], constant.shape
    if constant.content is None:
        raise BackendError(
            "A constant of the graph is kept outside it", expected="a model that is whole"
        )
    field, data = constant.content
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    if field in (_RAW, _FLOATS, _DOUBLES):
        # Raw data may lie at any address; PyTorch copies what is not aligned by itself.
        return _from_bytes(data, dtype).reshape(shape)
    numbers = packed_integers(data, 0, len(data))
    if (bits := _BITS.get(constant.kind)) is None:
        return torch.tensor(numbers).to(dtype).reshape(shape)
    width = torch.iinfo(bits).bits
    signed = [n - (1 << width) if bits.is_signed and n >> (width - 1) else n for n in numbers]
    return torch.tensor(signed, dtype=bits).view(dtype).reshape(shape)


def _from_bytes(data: memoryview, dtype: torch.dtype) -> Tensor:
    """Return the elements of little-endian bytes, in memory of their own."""
    return torch.frombuffer(bytearray(data), dtype=dtype)
