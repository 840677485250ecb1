"""The forms of the frame kernels that are compiled ahead of time."""

from __future__ import annotations

from xdecoder_rt.kernels.frame_resize import schedule
from xdecoder_rt.kernels.spec import KernelSpec

_AXIS = {"first": "*i32", "weights": "*i32"}


def specs() -> list[KernelSpec]:
    """Return every form that plans use."""
    sizes = dict.fromkeys(("pitch", "width", "taps"), "i32")
    across = {"pixels": "*u8", **_AXIS, "between": "*u8", **sizes}
    sizes = dict.fromkeys(("height", "width", "frame_width", "taps"), "i32")
    down = {"between": "*u8", **_AXIS, "frame": "*u8", **sizes}
    # A frame on the device may begin anywhere.
    return [
        _form("across", across, {"first", "weights", "between"}),
        _form("down", down, {"between", "first", "weights", "frame"}),
    ]


def _form(function: str, arguments: dict[str, str], aligned: set[str]) -> KernelSpec:
    return KernelSpec(
        name=f"frame_{function}",
        module=schedule.MODULE,
        function=function,
        element=schedule.ELEMENT,
        arguments=arguments,
        aligned=frozenset(aligned),
        constants=schedule.CONSTANTS,
        grid=schedule.GRID,
    )
