"""The forms of the level shrink that are compiled ahead of time."""

from __future__ import annotations

from xdecoder_rt.kernels.level_features import schedule
from xdecoder_rt.kernels.level_features.tiles import LAUNCH_LEVELS
from xdecoder_rt.kernels.spec import ELEMENTS, KernelSpec

_POINTERS = ("x", "table", "weights", *(f"out_{level}" for level in range(LAUNCH_LEVELS)))
_SIZES = ("channels", "width", "tiles")
_STRIDES = ("stride_b", "stride_c", "stride_h")


def specs() -> list[KernelSpec]:
    """Return for every element type a form for maps of aligned rows, and one for any.

    Rows are aligned where the width and all strides are multiples of 16. Both take maps whose
    columns are neighbours in memory.
    """
    return [_shrink(element, aligned) for element in ELEMENTS for aligned in (True, False)]


def _shrink(element: str, aligned: bool) -> KernelSpec:
    pointers = {name: "*i32" if name == "table" else f"*{element}" for name in _POINTERS}
    return KernelSpec(
        name=f"level_features_{element}" + ("" if aligned else "_any"),
        module=schedule.MODULE,
        function="shrink",
        element=element,
        arguments={**pointers, **dict.fromkeys((*_SIZES, *_STRIDES), "i32")},
        aligned=frozenset((*_POINTERS, *(("width", *_STRIDES) if aligned else ()))),
        constants={"stride_w": 1, **schedule.constants(element)},
        grid=schedule.GRID,
        warps=schedule.WARPS,
        stages=schedule.PIPELINE_STAGES,
    )
