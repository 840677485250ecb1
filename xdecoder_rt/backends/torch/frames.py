"""Pictures and panoptic maps on PyTorch's device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from xdecoder_rt.backends.base import check_same_gpu
from xdecoder_rt.backends.torch.device import Device, new_event
from xdecoder_rt.errors import ImageError
from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.pixels.letterbox import Letterbox

_CUDA, _CUDA_MANAGED = 2, 13  # DLDeviceType


class TorchPicture:
    """A uint8 RGB picture on the device that somebody else made there.

    Args:
        pixels: uint8 ``[h, w, 3]``, packed pixels.
        done: tells the picture's owner that it was read.

    Attributes:
        shape: ``(height, width, 3)``.
    """

    def __init__(self, pixels: Tensor, done: Callable[[], None]) -> None:
        self.pixels = pixels
        self.done = done
        height, width, _ = pixels.shape
        self.shape = (height, width, 3)


def device_picture(image: Any, device: Device) -> TorchPicture | None:
    """Return an image as a picture on the device, or None where it is on the host.

    It is taken through DLPack, which lets our stream wait for the one on which it is written;
    ``__cuda_array_interface__`` of PyTorch names none. What has no DLPack is waited for.

    Raises:
        ImageError: it is on the device and not uint8 RGB, or on another device.
    """
    place = getattr(image, "__dlpack_device__", None)
    stream = device.stream
    if stream is None:
        return None
    kind = where = 0
    if place is not None:
        kind, where = map(int, place())
    if kind in (_CUDA, _CUDA_MANAGED):
        if kind == _CUDA:
            check_same_gpu(where, device.device.index or 0)
        # Outside our stream: what is current here is where the owner's work is queued.
        owners = torch.cuda.current_stream(device.device)
        pixels = from_dlpack(image.__dlpack__(stream=stream.cuda_stream))
        is_torchs = isinstance(image, Tensor)
    elif hasattr(image, "__cuda_array_interface__"):
        torch.cuda.synchronize(device.device)
        pixels, is_torchs = torch.as_tensor(image, device=device.device), False
    else:
        return None
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            f"The device tensor is {str(pixels.dtype).removeprefix('torch.')} of shape "
            f"{list(pixels.shape)}",
            expected="uint8 [height, width, 3], RGB",
        )
    if 0 in pixels.shape:
        raise ImageError("The device tensor has no pixels", expected="[height, width, 3], RGB")

    def done() -> None:
        read = new_event()
        read.record(stream)
        if is_torchs:
            owners.wait_event(read)  # its next picture comes after, and nobody waits here
        else:
            read.synchronize()

    return TorchPicture(pixels, done)


def laid(pixels: Tensor, box: Letterbox, interpolation: str) -> Tensor:
    """Return a picture laid into a network input ``[1, H, W, 3]``, scaled by our kernels."""
    if box.is_unscaled:
        height, width = pixels.shape[:2]
        if (height, width) == box.target:
            return pixels[None].clone()
        frame = pixels.new_zeros((1, *box.target, 3))
        frame[0, :height, :width] = pixels
        return frame
    from xdecoder_rt.kernels.frame_resize.launch import placed

    packed = pixels if pixels.stride()[1:] == (3, 1) else pixels.contiguous()
    return placed(packed, box, interpolation)[None]


class PanopticMaps:
    """Makes panoptic maps by our kernels, from any thread.

    Args:
        device: where.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    def __call__(
        self,
        scores: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        mask_logits: Tensor,
        letterbox: Letterbox,
        is_thing: npt.NDArray[np.bool_],
        overlap_threshold: float,
    ) -> tuple[npt.NDArray[np.int32], tuple[MapSegment, ...]]:
        """Compute the map and segments of :func:`xdecoder_rt.masks.postprocess.panoptic`.

        Args:
            scores: ``[K]``, positive.
            labels: ``[K]``, indices into the vocabulary.
            mask_logits: ``[1, K, h, w]``, of the whole padded input.
            letterbox: where the image lies in it.
            is_thing: one entry per class.
            overlap_threshold: 0 to 1.
        """
        from xdecoder_rt.kernels.panoptic_map.launch import panoptic

        with self._device.working():
            winners, segments = panoptic(
                scores, labels, mask_logits[0], letterbox, is_thing, overlap_threshold
            )
        return self._device.down({"map": winners})["map"], segments
