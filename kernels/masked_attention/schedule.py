"""Schedules of masked attention: kernels, tiles and launches; no Triton, no PyTorch.

The launches are described once (:func:`calls`) and made by PyTorch on tensors
(:mod:`xdecoder_rt.kernels.masked_attention.launch`) or by pycuda on addresses
(:mod:`xdecoder_rt.kernels.loader`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xdecoder_rt.kernels.spec import BlockCount, Call, Constant, Grid

MODULE = "xdecoder_rt.kernels.masked_attention.triton"
# Rows of bits are padded to whole words of a wide tile, so that tiles need no mask of their own.
BITS_ALIGNMENT = 128
CHUNK = 4
COMBINE_ROWS = 16
ENOUGH_PROGRAMS = 2
"""Programs a multiprocessor that keep it busy."""
LEAST_SPLIT = 4
"""Key tiles below which a part of the keys is not worth a program."""


@dataclass(frozen=True)
class Problem:
    """Sizes of one masked attention.

    Attributes:
        batch: images.
        heads: attention heads.
        queries: rows of a head.
        keys: positions of the level.
        width: head width, at most 128.
        channels: of mask embeddings and mask features; 0 where a mask is given.
        element: ``fp16``, ``bf16`` or ``fp32``.
        mask_element: of mask embeddings and mask features; None where it is the same.
    """

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    channels: int
    element: str
    mask_element: str | None = None

    @property
    def factors(self) -> str:
        """Return the element type of mask embeddings and mask features."""
        return self.mask_element or self.element

    @property
    def words(self) -> int:
        """Return the number of 32-bit words in a row of bits."""
        return -(-self.keys // BITS_ALIGNMENT) * (BITS_ALIGNMENT // 32)

    @property
    def rows(self) -> int:
        """Return the number of rows of the output."""
        return self.batch * self.heads * self.queries


@dataclass(frozen=True)
class Tiles:
    """The shape of an attention program.

    Attributes:
        query: queries of a block, a power of two from 16.
        key: keys of a tile, 32, 64 or 128: a tile must not reach over a row's padded bits.
        warps: warps of a program.
        stages: depth of software pipelining.
    """

    query: int = 16
    key: int = 64
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True)
class Schedule:
    """How a problem is run.

    Attributes:
        tiles: the shape of an attention program.
        bits: the shape of a program of the mask product.
        splits: parts that the keys are divided into.
    """

    tiles: Tiles
    bits: Tiles
    splits: int = 1


WIDE, NARROW = Tiles(query=32, key=64, stages=3), Tiles(query=16, key=64)
"""Blocks of queries where products are on tensor cores: what ships, and a narrower one."""
NARROW_PLAIN = Tiles(query=16, key=32, warps=8)
"""Where they are not (fp32, and everything before compute capability 8.0)."""
BITS, BITS_PLAIN = Tiles(query=64, key=64, stages=3), Tiles(query=16, key=32)
PACK = Tiles(query=16, key=128)
REGISTERS = 255


@dataclass(frozen=True)
class DeviceTraits:
    """Traits of a GPU that decide a schedule.

    Attributes:
        multiprocessors: how many it has.
        capability: compute capability, major and minor.
    """

    multiprocessors: int
    capability: tuple[int, int]


def has_tensor_cores(element: str, capability: tuple[int, int]) -> bool:
    """Return whether Triton forms products of a type on tensor cores; fp32 is kept exact."""
    return element != "fp32" and capability >= (8, 0)


def choose(problem: Problem, device: DeviceTraits) -> Schedule:
    """Return the schedule for a device.

    Small blocks skip more tiles and fill a chip sooner, large ones read keys and values less often;
    the choice was measured on an H200 (docs/measured/kernels.md).
    """
    capability = device.capability
    tiles = WIDE if has_tensor_cores(problem.element, capability) else NARROW_PLAIN
    return Schedule(
        tiles,
        BITS if has_tensor_cores(problem.factors, capability) else BITS_PLAIN,
        splits(problem, tiles, device.multiprocessors),
    )


def splits(problem: Problem, tiles: Tiles, multiprocessors: int) -> int:
    """Return the parts of the keys, a power of two, that keep every multiprocessor busy."""
    programs = problem.batch * problem.heads * -(-problem.queries // tiles.query)
    enough = -(-ENOUGH_PROGRAMS * multiprocessors // programs)
    most = max(1, -(-problem.keys // tiles.key) // LEAST_SPLIT)
    return 1 << (min(enough, most).bit_length() - 1)


def workspace(problem: Problem, schedule: Schedule) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shapes and types (``int32``, ``float32``) of the launches' own memory."""
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "bits": ((problem.batch, problem.queries, problem.words), "int32")
    }
    if schedule.splits > 1:
        shapes["parts"] = ((schedule.splits, problem.rows, problem.width), "float32")
        shapes["tops"] = shapes["totals"] = ((schedule.splits, problem.rows), "float32")
    return shapes


@dataclass(frozen=True)
class Operand:
    """A tensor of a launch.

    Attributes:
        data: a PyTorch tensor or a device address.
        strides: of every axis, in elements.
    """

    data: Any
    strides: tuple[int, ...]


def precision(element: str) -> str:
    """Return how products are formed: exactly in fp32, on tensor cores otherwise."""
    return "ieee" if element == "fp32" else "tf32"


def power_of_two(size: int, least: int = 16) -> int:
    """Return the smallest power of two that holds a size."""
    return max(least, 1 << (size - 1).bit_length())


def channel_tile(channels: int, tiles: Tiles) -> int:
    """Return the number of channels of a step of the mask product."""
    return min(64 if tiles == BITS else 32, power_of_two(channels))


def calls(
    problem: Problem, schedule: Schedule, operands: Mapping[str, Operand], out: Any
) -> list[Call]:
    """Return the launches of masked attention, in order.

    Args:
        problem: the sizes.
        schedule: how to run them.
        operands: ``query``, ``key`` and ``value`` ``[B, heads, Q or N, width]`` (queries and
            values with unit stride in the width); ``mask_embedding`` ``[B, Q, C]`` and
            ``mask_features`` ``[B, C, N]``; or, in place of these two, ``logits`` or ``boolean``
            ``[B, Q, N]``; and the names of :func:`workspace`.
        out: ``[B, heads, Q, width]``, contiguous.
    """
    launches = [
        bits_call(problem, schedule, operands),
        attend_call(problem, schedule, operands, out),
    ]
    if schedule.splits > 1:
        launches.append(_combine(problem, schedule, operands, out))
    return launches


def bits_grid(tiles: Tiles) -> Grid:
    """Return the grid of ``open_bits`` and ``pack``."""
    return Grid(
        (
            (BlockCount("padded_keys", tiles.key),),
            (BlockCount("queries", tiles.query),),
            (BlockCount("batch"),),
        )
    )


def attend_grid(tiles: Tiles) -> Grid:
    """Return the grid of ``attend``."""
    return Grid(
        (
            (BlockCount("queries", tiles.query),),
            (BlockCount("batch"), BlockCount("heads")),
            (BlockCount("splits"),),
        )
    )


COMBINE_GRID = Grid(((BlockCount("rows", COMBINE_ROWS),), (), ()))


def _sizes(problem: Problem, schedule: Schedule | None = None) -> dict[str, int]:
    return {
        "batch": problem.batch,
        "heads": problem.heads,
        "queries": problem.queries,
        "padded_keys": problem.words * 32,
        "rows": problem.rows,
        "splits": schedule.splits if schedule else 1,
    }


def bits_call(problem: Problem, schedule: Schedule, operands: Mapping[str, Operand]) -> Call:
    """Return the launch that makes the bits, of :func:`calls`."""
    values: dict[str, Any] = {
        "bits": operands["bits"].data,
        "queries": problem.queries,
        "keys": problem.keys,
        "words": problem.words,
    }
    mask_name = next((name for name in ("logits", "boolean") if name in operands), None)
    if mask_name:
        mask = operands[mask_name]
        values |= {"mask": mask.data, **_strides("m", "bqn", mask)}
        values |= pack_constants(mask_name == "logits")
        element = problem.element if mask_name == "logits" else "u8"
        return Call(MODULE, "pack", element, values, _sizes(problem), bits_grid(PACK))
    embedding, features = operands["mask_embedding"], operands["mask_features"]
    values |= {
        "mask_embedding": embedding.data,
        "mask_features": features.data,
        "channels": problem.channels,
        **_strides("e", "bqc", embedding),
        **_strides("f", "bcn", features),
    }
    values |= bits_constants(problem.factors, problem.channels, schedule.bits)
    return Call(
        MODULE,
        "open_bits",
        problem.factors,
        values,
        _sizes(problem),
        bits_grid(schedule.bits),
        schedule.bits.warps,
        schedule.bits.stages,
    )


def pack_constants(logits: bool) -> dict[str, Constant]:
    """Return the constants of ``pack``."""
    return {"QUERY_TILE": PACK.query, "KEY_TILE": PACK.key, "LOGITS": logits}


def bits_constants(element: str, channels: int, tiles: Tiles) -> dict[str, Constant]:
    """Return the constants of ``open_bits``."""
    return {
        "QUERY_TILE": tiles.query,
        "KEY_TILE": tiles.key,
        "CHANNEL_TILE": channel_tile(channels, tiles),
        "PRECISION": precision(element),
    }


def attend_constants(element: str, width: int, tiles: Tiles, split: bool) -> dict[str, Constant]:
    """Return the constants of ``attend``; without a split the parts' tensors are None."""
    constants: dict[str, Constant] = {
        "WIDTH": width,
        "WIDTH_TILE": power_of_two(width),
        "QUERY_TILE": tiles.query,
        "KEY_TILE": tiles.key,
        "CHUNK": CHUNK,
        "SPLIT": split,
        "PRECISION": precision(element),
    }
    return constants if split else {"tops": None, "totals": None, **constants}


def combine_constants(width: int) -> dict[str, Constant]:
    """Return the constants of ``combine``."""
    return {"WIDTH": width, "WIDTH_TILE": power_of_two(width), "ROW_TILE": COMBINE_ROWS}


def _strides(letter: str, axes: str, operand: Operand) -> dict[str, int]:
    return {
        f"stride_{letter}{axis}": stride for axis, stride in zip(axes, operand.strides, strict=True)
    }


def attend_call(
    problem: Problem, schedule: Schedule, operands: Mapping[str, Operand], out: Any
) -> Call:
    """Return the launch that attends under the bits, of :func:`calls`."""
    split = schedule.splits > 1
    tiles = -(-problem.keys // schedule.tiles.key)
    query, key, value = (operands[name] for name in ("query", "key", "value"))
    values: dict[str, Any] = {
        "query": query.data,
        "key": key.data,
        "value": value.data,
        "bits": operands["bits"].data,
        "words": problem.words,
        "out": operands["parts"].data if split else out,
        "tops": operands["tops"].data if split else None,
        "totals": operands["totals"].data if split else None,
        "queries": problem.queries,
        "keys": problem.keys,
        "heads": problem.heads,
        "batch_heads": problem.batch * problem.heads,
        "split_tiles": -(-tiles // schedule.splits),
        "scale": math.log2(math.e) / math.sqrt(problem.width),
    }
    values |= _strides("q", "bhq", Operand(None, query.strides[:3]))
    values |= _strides("k", "bhnd", key)
    values |= _strides("v", "bhn", Operand(None, value.strides[:3]))
    values |= attend_constants(problem.element, problem.width, schedule.tiles, split)
    return Call(
        MODULE,
        "attend",
        problem.element,
        values,
        _sizes(problem, schedule),
        attend_grid(schedule.tiles),
        schedule.tiles.warps,
        schedule.tiles.stages,
    )


def _combine(
    problem: Problem, schedule: Schedule, operands: Mapping[str, Operand], out: Any
) -> Call:
    values: dict[str, Any] = combine_constants(problem.width)
    values |= {
        "parts": operands["parts"].data,
        "tops": operands["tops"].data,
        "totals": operands["totals"].data,
        "out": out,
        "rows": problem.rows,
        "splits": schedule.splits,
    }
    return Call(MODULE, "combine", problem.element, values, _sizes(problem), COMBINE_GRID)
