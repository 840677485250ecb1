"""How pictures on the GPU are taken: by the way that says when they are written."""

from __future__ import annotations

from typing import Any

import pytest

from xdecoder_rt.backends.cuda import frames
from xdecoder_rt.errors import ImageError


class Picture:
    """As a tensor of PyTorch: both interfaces, and a stream that only one of them honours."""

    def __init__(self, device: int = 2, number: int = 0) -> None:
        self.device, self.number = device, number
        self.asked: list[Any] = []

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self.asked.append("interface")
        # PyTorch's is of version 2, which has no stream.
        return {"shape": (4, 5, 3), "typestr": "|u1", "data": (4096, False), "version": 2}

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, self.number

    def __dlpack__(self, stream: int | None = None) -> object:
        self.asked.append(("dlpack", stream))
        return "capsule"


def test_dlpack_comes_before_an_interface_that_names_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    monkeypatch.setattr(frames, "_from_dlpack", lambda capsule: taken.append(capsule) or "picture")
    picture = Picture()
    assert frames.device_picture(picture, 0) == "picture"
    assert picture.asked == [("dlpack", 1)]  # the legacy default stream waits for the owner's
    assert taken == ["capsule"]


def test_what_dlpack_says_is_on_the_host_is_on_the_host() -> None:
    assert frames.device_picture(Picture(device=1), 0) is None


def test_a_picture_on_another_gpu_is_refused_before_it_is_read() -> None:
    picture = Picture(number=1)
    with pytest.raises(ImageError, match="on GPU 1 and the plan on GPU 0") as caught:
        frames.device_picture(picture, 0)
    assert "image.to('cuda:0')" in str(caught.value)
    assert picture.asked == []


def test_managed_memory_is_read_from_any_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_from_dlpack", lambda capsule: capsule)
    assert frames.device_picture(Picture(device=13, number=1), 0) == "capsule"
