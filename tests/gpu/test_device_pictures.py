"""How pictures on the GPU are taken: by the way that says when they are written."""

from __future__ import annotations

from typing import Any

import pytest

from xdecoder_rt.backends.cuda import frames


class Picture:
    """As a tensor of PyTorch: both interfaces, and a stream that only one of them honours."""

    def __init__(self, device: int = 2) -> None:
        self.device = device
        self.asked: list[Any] = []

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self.asked.append("interface")
        # PyTorch's is of version 2, which has no stream.
        return {"shape": (4, 5, 3), "typestr": "|u1", "data": (4096, False), "version": 2}

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, stream: int | None = None) -> object:
        self.asked.append(("dlpack", stream))
        return "capsule"


def test_dlpack_comes_before_an_interface_that_names_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    monkeypatch.setattr(frames, "_from_dlpack", lambda capsule: taken.append(capsule) or "picture")
    picture = Picture()
    assert frames.device_picture(picture) == "picture"
    assert picture.asked == [("dlpack", 1)]  # the legacy default stream waits for the owner's
    assert taken == ["capsule"]


def test_what_dlpack_says_is_on_the_host_is_on_the_host() -> None:
    assert frames.device_picture(Picture(device=1)) is None
