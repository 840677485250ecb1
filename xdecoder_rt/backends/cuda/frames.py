"""Pictures that are on the device already: what has ``__cuda_array_interface__`` or DLPack."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from xdecoder_rt.backends.base import check_same_gpu
from xdecoder_rt.backends.cuda.context import CudaContext
from xdecoder_rt.errors import ImageError, quoted

_CUDA, _CUDA_MANAGED = 2, 13
_UNSIGNED = 1
_LEGACY_STREAM = 1


class DevicePicture:
    """A uint8 RGB picture that somebody else keeps in device memory.

    Args:
        shape: of the array.
        strides: bytes, or None for a contiguous array.
        address: of its first element.
        stream: where it is written: 1 is the legacy default stream; None if it is written already.
        owner: kept alive with the picture.

    Attributes:
        shape: ``(height, width, 3)``.
        address: as given.
        pitch: bytes from a row to the next.

    Raises:
        ImageError: it is no picture of packed RGB pixels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        strides: Sequence[int] | None,
        address: int,
        stream: int | None,
        owner: object,
    ) -> None:
        if len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ImageError(
                f"The device array has the shape {list(shape)}",
                expected="[height, width, 3], RGB",
            )
        self.shape = (shape[0], shape[1], 3)
        if strides is not None and (tuple(strides[1:]) != (3, 1) or strides[0] < 3 * shape[1]):
            raise ImageError(
                f"The device array has strides of {list(strides)} bytes",
                expected="rows of packed RGB pixels",
                fix="make it contiguous first",
            )
        self.address = address
        self.pitch = 3 * shape[1] if strides is None else strides[0]
        self._stream = stream
        self._owner = owner

    def wait(self, cuda: CudaContext, stream: Any) -> None:
        """Let `stream` go on when the picture is written."""
        if self._stream == _LEGACY_STREAM:
            written = cuda.event()
            written.record()
            stream.wait_for_event(written)
        elif self._stream is not None:
            cuda.synchronize()


class DeviceFrame:
    """A picture at the top left of a network input, zeros beside it.

    Args:
        picture: no larger than the input.
        size: height and width of the input.

    Attributes:
        shape: of the input, ``(1, H, W, 3)``.
        is_borrowed: True: its owner may write over the picture.
    """

    def __init__(self, picture: DevicePicture, size: tuple[int, int]) -> None:
        self._picture = picture
        self.shape = (1, *size, 3)
        self.is_borrowed = True

    def copy_to(self, address: int, cuda: CudaContext, room: object, stream: Any) -> None:
        """Queue the copy to the input at `address`. The context is current."""
        _, height, width, _ = self.shape
        picture = self._picture
        if picture.shape != self.shape[1:]:
            cuda.driver.memset_d8_async(address, 0, height * width * 3, stream)
        picture.wait(cuda, stream)
        copy = cuda.driver.Memcpy2D()
        copy.set_src_device(picture.address)
        copy.set_dst_device(address)
        copy.src_pitch, copy.dst_pitch = picture.pitch, 3 * width
        copy.width_in_bytes, copy.height = 3 * picture.shape[1], picture.shape[0]
        copy(stream)


def device_picture(image: Any, number: int) -> DevicePicture | None:
    """Return an image as a picture on the device, or None where it is on the host.

    Through DLPack where it has that: its owner then lets our stream wait for the one on which it is
    written. ``__cuda_array_interface__`` need not name that stream, and PyTorch's does not.

    Args:
        image: whatever was given as one.
        number: of the GPU that will read it.

    Raises:
        ImageError: it is on the device and not uint8 RGB, or on another device.
    """
    place = getattr(image, "__dlpack_device__", None)
    if place is not None and hasattr(image, "__dlpack__"):
        kind, where = map(int, place())
        if kind not in (_CUDA, _CUDA_MANAGED):
            return None
        if kind == _CUDA:
            check_same_gpu(where, number)
        return _from_dlpack(image.__dlpack__(stream=_LEGACY_STREAM))
    interface = getattr(image, "__cuda_array_interface__", None)
    if interface is not None:
        if interface["typestr"] != "|u1" or interface.get("mask") is not None:
            raise ImageError(
                f"The device array is of type {quoted(interface['typestr'])}",
                expected="uint8 ('|u1'), without a mask",
            )
        # Before version 3 nobody said which stream; libraries of that time meant the default one.
        stream = interface.get("stream", _LEGACY_STREAM)
        strides, (address, _) = interface.get("strides"), interface["data"]
        return DevicePicture(tuple(interface["shape"]), strides, int(address), stream, image)
    return None


class _Tensor(ctypes.Structure):
    """``DLTensor`` (dlpack.h), the first member of ``DLManagedTensor``."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def _from_dlpack(capsule: object) -> DevicePicture:
    """Read a capsule; it keeps its name, so that its own end releases the tensor."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _Tensor.from_address(pointer_of(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (_UNSIGNED, 8, 1):
        raise ImageError(
            f"The device tensor has elements of DLPack code {tensor.code} and {tensor.bits} bits",
            expected="uint8",
        )
    shape = tensor.shape[: tensor.ndim]
    strides = tensor.strides[: tensor.ndim] if tensor.strides else None
    address = int(tensor.data or 0) + tensor.byte_offset
    return DevicePicture(shape, strides, address, _LEGACY_STREAM, capsule)
