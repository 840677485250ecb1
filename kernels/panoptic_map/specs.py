"""The forms of the panoptic-map kernels that are compiled ahead of time."""

from __future__ import annotations

from xdecoder_rt.kernels.panoptic_map import schedule
from xdecoder_rt.kernels.spec import ELEMENTS, KernelSpec

_SIZES = ("masks", "height", "width", "row_taps", "column_taps", "out_height", "out_width")


def specs() -> list[KernelSpec]:
    """Return every form that plans use."""
    return [*(_own(element) for element in ELEMENTS), _relabel()]


def _own(element: str) -> KernelSpec:
    pointers = {
        "mask_logits": f"*{element}",
        "row_first": "*i32",
        "row_weights": "*fp32",
        "column_first": "*i32",
        "column_weights": "*fp32",
        "shifts": "*fp32",
        "winners": "*i32",
        "counts": "*i32",
    }
    return KernelSpec(
        name=f"own_{element}",
        module=schedule.MODULE,
        function="own",
        element=element,
        arguments=pointers | dict.fromkeys(_SIZES, "i32"),
        aligned=frozenset(pointers),
        constants=schedule.OWN_CONSTANTS,
        grid=schedule.OWN_GRID,
        warps=schedule.OWN_WARPS,
    )


def _relabel() -> KernelSpec:
    return KernelSpec(
        name="relabel",
        module=schedule.MODULE,
        function="relabel",
        element="i32",
        arguments={"winners": "*i32", "ids": "*i32", "pixels": "i32"},
        aligned=frozenset(("winners", "ids")),
        constants={"BLOCK": schedule.BLOCK},
        grid=schedule.RELABEL_GRID,
    )
