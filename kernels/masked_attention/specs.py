"""The forms of the masked-attention kernels that are compiled ahead of time.

Plans have heads of width 64 and lay out keys as ``[B, heads, d, N]``, so that N has unit stride;
everything else is an argument. Each form exists twice: for sizes and strides that are multiples
of 16, which lets loads be wide, and for any.
"""

from __future__ import annotations

from collections.abc import Iterable

from xdecoder_rt.kernels.masked_attention import schedule as plan
from xdecoder_rt.kernels.spec import ELEMENTS, Constant, Grid, KernelSpec

WIDTH = 64
WIDE_CHANNELS = 64
"""Channels from which the mask product takes its full tile; every plan has more."""

_POINTERS = frozenset(
    ("query", "key", "value", "mask_embedding", "mask_features", "mask", "bits")
    + ("parts", "tops", "totals", "out")
)
_FP32 = frozenset(("tops", "totals", "parts"))


def specs(capability: tuple[int, int]) -> list[KernelSpec]:
    """Return every form that plans use on GPUs of a compute capability."""
    forms = [_pack("u8", False)]
    for element in ELEMENTS:
        tensor_cores = plan.has_tensor_cores(element, capability)
        tiles = plan.WIDE if tensor_cores else plan.NARROW_PLAIN
        forms += [_pack(element, True), _combine(element)]
        for aligned in (True, False):
            forms.append(
                _open_bits(element, aligned, plan.BITS if tensor_cores else plan.BITS_PLAIN)
            )
            forms += [_attend(element, split, aligned, tiles) for split in (False, True)]
    return forms


_BITS_SIZES = ("queries", "keys", "channels", "words")
_BITS_STRIDES = ("stride_eb", "stride_eq", "stride_fb", "stride_fc")
_ATTENTION_SIZES = ("queries", "keys", "heads", "batch_heads")
_ATTENTION_STRIDES = tuple(
    f"stride_{letter}{axis}"
    for letter, axes in (("q", "bhq"), ("k", "bhd"), ("v", "bhn"))
    for axis in axes
)


def _open_bits(element: str, aligned: bool, tiles: plan.Tiles) -> KernelSpec:
    arguments = ("mask_embedding", "mask_features", "bits", *_BITS_SIZES, *_BITS_STRIDES)
    # Mask embeddings have one channel more than mask features are wide: never a multiple of 16.
    wide = ("keys", "words", "stride_fb", "stride_fc") if aligned else ()
    return _spec(
        "open_bits",
        element,
        arguments,
        {"stride_ec": 1, "stride_fn": 1, **plan.bits_constants(element, WIDE_CHANNELS, tiles)},
        plan.bits_grid(tiles),
        tiles,
        aligned=wide,
        suffix=_shape(tiles) + ("" if aligned else "_any"),
    )


def _pack(element: str, logits: bool) -> KernelSpec:
    return _spec(
        "pack",
        element,
        ("mask", "bits", "queries", "keys", "words", "stride_mb", "stride_mq"),
        {"stride_mn": 1, **plan.pack_constants(logits)},
        plan.bits_grid(plan.PACK),
        plan.Tiles(),
    )


def _attend(element: str, split: bool, aligned: bool, tiles: plan.Tiles) -> KernelSpec:
    parts = ("tops", "totals") if split else ()
    arguments = (
        *("query", "key", "value", "bits", "out", *parts),
        *(*_ATTENTION_SIZES, "words", "split_tiles", "scale", *_ATTENTION_STRIDES),
    )
    suffix = _shape(tiles) + ("_split" if split else "") + ("" if aligned else "_any")
    return _spec(
        "attend",
        element,
        arguments,
        {"stride_kn": 1, **plan.attend_constants(element, WIDTH, tiles, split)},
        plan.attend_grid(tiles),
        tiles,
        aligned=("keys", *_ATTENTION_STRIDES) if aligned else (),
        fp32=("out",) if split else (),
        suffix=suffix,
    )


def _combine(element: str) -> KernelSpec:
    return _spec(
        "combine",
        element,
        ("parts", "tops", "totals", "out", "rows", "splits"),
        plan.combine_constants(WIDTH),
        plan.COMBINE_GRID,
        plan.Tiles(),
    )


def _spec(
    function: str,
    element: str,
    arguments: Iterable[str],
    constants: dict[str, Constant],
    grid: Grid,
    tiles: plan.Tiles,
    *,
    aligned: Iterable[str] = (),
    fp32: Iterable[str] = (),
    suffix: str = "",
) -> KernelSpec:
    arguments = tuple(arguments)
    types = {name: _type(name, element, name in fp32) for name in arguments}
    return KernelSpec(
        name=f"{function}_{element}{suffix}",
        module=plan.MODULE,
        function=function,
        element=element,
        arguments=types,
        aligned=frozenset(aligned) | (_POINTERS & frozenset(arguments)),
        constants=constants,
        grid=grid,
        warps=tiles.warps,
        stages=tiles.stages,
        registers=plan.REGISTERS,
    )


def _shape(tiles: plan.Tiles) -> str:
    return f"_{tiles.query}x{tiles.key}"


def _type(name: str, element: str, fp32: bool) -> str:
    if name in _POINTERS:
        kind = "fp32" if fp32 or name in _FP32 else "i32" if name == "bits" else element
        return f"*{kind}"
    return "fp32" if name == "scale" else "i32"
