"""Times the other fused steps, the level shrink and the panoptic map, against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu.section import Context
from gpu.timing import Run, first_line, prepare, tensors, time_in_turns
from xdecoder_rt.kernels.launch import launch
from xdecoder_rt.kernels.level_features.launch import level_features
from xdecoder_rt.kernels.panoptic_map import reference as panoptic_reference
from xdecoder_rt.kernels.panoptic_map import schedule as panoptic_schedule
from xdecoder_rt.masks.resample import Axis, bicubic_matrix, mask_axis
from xdecoder_rt.pixels.letterbox import Letterbox

Functions = dict[str, Callable[[], object]]
SHRINK_TOLERANCE = 1e-2
# A pixel is decided where the best two masks, and a mask and its edge, differ by more than this.
MARGIN = 1e-4
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Shrink:
    """A level shrink: channels, the side of the map, the sides of the levels."""

    name: str
    channels: int
    side: int
    levels: tuple[int, int, int]


@dataclass(frozen=True)
class Map:
    """A panoptic map: masks, the side of their logits and of the padded input, the image."""

    name: str
    masks: int
    side: int
    padded: int
    image: tuple[int, int]


SHRINKS = (
    Shrink("compact", 64, 128, (16, 32, 64)),
    Shrink("published", 512, 256, (32, 64, 128)),
)
MAPS = (
    Map("compact", 30, 128, 512, (480, 640)),
    Map("published", 60, 256, 1024, (1080, 1920)),
)
TINY = (Shrink("tiny", 3, 32, (4, 8, 16)), Map("tiny", 3, 16, 64, (30, 40)))


def run(context: Context) -> None:
    """Time every problem that time allows."""
    torch.backends.cuda.matmul.allow_tf32 = False
    problems = TINY if context.device == "cpu" else (*SHRINKS, *MAPS)
    for problem in problems:
        if context.remaining() < 0:
            context.emit("left out", problem=asdict(problem), reason="no time was left")
        elif isinstance(problem, Shrink):
            shrink(context, problem)
        else:
            panoptic(context, problem)


def shrink(context: Context, problem: Shrink) -> None:
    """Time one launch for three levels against ``F.interpolate`` and matrix products."""
    generator = torch.Generator().manual_seed(0)
    size = (1, problem.channels, problem.side, problem.side)
    x = torch.randn(size, generator=generator).to(context.device, torch.float16)
    levels = [(side, side) for side in problem.levels]
    exact = [
        torch.from_numpy(bicubic_matrix(problem.side, side)).to(x.device) for side, _ in levels
    ]
    expected = [(rows @ x.double() @ rows.T).flatten(2) for rows in exact]
    matrices = [matrix.to(x.dtype) for matrix in exact]

    def interpolated() -> list[Tensor]:
        options: dict[str, Any] = {"mode": "bicubic", "antialias": True, "align_corners": False}
        return [F.interpolate(x, level, **options).flatten(2) for level in levels]

    def fault_of(output: object) -> str:
        pairs = zip(tensors(output), expected, strict=True)
        largest = max(
            float((level.double() - exact_level).abs().max()) for level, exact_level in pairs
        )
        # Written so that NaN fails.
        return "" if largest <= SHRINK_TOLERANCE else f"differs by up to {largest:.3g}"

    functions: Functions = {
        "kernel": lambda: level_features(x, levels),
        "F.interpolate, three times": interpolated,
        "matrix products": lambda: [(rows @ x @ rows.T).flatten(2) for rows in matrices],
    }
    least_bytes = (
        x.itemsize * problem.channels * (problem.side**2 + sum(s * s for s in problem.levels))
    )
    time_functions(context, "level_features", problem, functions, fault_of, least_bytes)


def panoptic(context: Context, problem: Map) -> None:
    """Time owners of pixels and counts against the reference and ``F.interpolate``."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((1, problem.masks, 6, 6), generator=generator) * 6
    logits = F.interpolate(coarse, (problem.side, problem.side), mode="bicubic")[0]
    logits = logits.to(context.device, torch.float16)
    scores = torch.rand(problem.masks, generator=generator).to(context.device) * 0.7 + 0.3
    letterbox = Letterbox.fit(problem.image, (problem.padded, problem.padded))
    rows, columns = (
        mask_axis(problem.side, problem.padded, letterbox.valid[i], problem.image[i])
        for i in range(2)
    )
    expected, doubtful = expected_owners(logits, rows, columns, scores)
    row_matrix, column_matrix = (
        torch.from_numpy(axis.matrix()).to(context.device, torch.float32)
        for axis in (rows, columns)
    )
    padded, image = (problem.padded, problem.padded), problem.image

    def interpolated() -> tuple[Tensor, Tensor]:
        options: dict[str, Any] = {"mode": "bicubic", "antialias": True, "align_corners": False}
        resized = F.interpolate(logits.float()[None], padded, **options)
        valid = resized[..., : letterbox.valid[0], : letterbox.valid[1]]
        full = F.interpolate(valid, image, **options)[0]
        return decide_owners(full, scores)

    def fault_of(output: object) -> str:
        winners, counts = tensors(output)
        differing = int(((winners != expected) & ~doubtful).sum())
        share = float(doubtful.float().mean())
        context.emit("note", what=f"{problem.name}: {share:.2%} of pixels are decided by rounding")
        if int(counts[0].sum()) != expected.numel():
            return f"counts {int(counts[0].sum())} of {expected.numel()} pixels"
        return f"{differing} pixels have other owners" if differing else ""

    functions: Functions = {
        "kernel": owners_kernel(logits, rows, columns, scores),
        "F.interpolate, then argmax": interpolated,
        "reference: matrix products, then argmax": lambda: panoptic_reference.owners(
            logits.float(), row_matrix, column_matrix, scores
        ),
    }
    least_bytes = logits.nbytes + 4 * expected.numel()
    time_functions(context, "panoptic_map", problem, functions, fault_of, least_bytes)


def owners_kernel(
    logits: Tensor, rows: Axis, columns: Axis, scores: Tensor
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return the launch of ``launch.owners`` with its tables on the device, as in a runtime."""
    device = logits.device
    arrays = (rows.first, rows.tap_columns, columns.first, columns.tap_columns)
    axes = [torch.tensor(array, device=device) for array in arrays]
    sizes = {
        "masks": len(scores),
        "height": rows.source,
        "width": columns.source,
        "row_taps": rows.taps,
        "column_taps": columns.taps,
        "out_height": rows.target,
        "out_width": columns.target,
    }

    def call() -> tuple[Tensor, Tensor]:
        counts = torch.zeros((3, len(scores)), dtype=torch.int32, device=device)
        size = (rows.target, columns.target)
        winners = torch.empty(size, dtype=torch.int32, device=device)
        tables = (axes[0], axes[1], axes[2], axes[3])
        shifts = -scores.log()
        launch(panoptic_schedule.own("fp16", logits, tables, shifts, winners, counts, sizes))
        return winners, counts

    return call


def decide_owners(full: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return owners and counts from logits of the image's size, ``[K, H, W]``."""
    owner = (scores[:, None, None] * full.sigmoid()).argmax(dim=0)
    masks = full >= 0
    is_kept = masks.gather(0, owner[None])[0]
    counts = torch.zeros((3, len(scores)), dtype=torch.int32, device=full.device)
    counts[0].scatter_add_(0, owner.flatten(), torch.ones_like(owner, dtype=torch.int32).flatten())
    counts[1] = masks.sum(dim=(1, 2))
    counts[2].scatter_add_(0, owner.flatten(), is_kept.int().flatten())
    return torch.where(is_kept, owner + 1, 0).int(), counts


def expected_owners(
    logits: Tensor, rows: Axis, columns: Axis, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Return winners in float64, and where rounding may decide; some rows at a time."""
    column_matrix = torch.from_numpy(columns.matrix()).to(logits.device)
    row_matrix = torch.from_numpy(rows.matrix()).to(logits.device)
    winners, doubts = [], []
    for start in range(0, rows.target, ROWS_AT_ONCE):
        part = row_matrix[start : start + ROWS_AT_ONCE]
        exact = (logits.double(), part, column_matrix, scores.double())
        winners.append(panoptic_reference.owners(*exact)[0])
        full = part @ logits.double() @ column_matrix.T
        ranked = (scores.double().log()[:, None, None] + F.logsigmoid(full)).sort(dim=0).values
        close = ranked[-1] - ranked[-2] < MARGIN
        doubts.append(close | (full.abs() < MARGIN).any(dim=0))
    return torch.cat(winners), torch.cat(doubts)


def time_functions(
    context: Context,
    step: str,
    problem: Shrink | Map,
    functions: Functions,
    fault_of: Callable[[object], str],
    least_bytes: int,
) -> None:
    """Check and time functions of equal results, and record the row."""
    runs: dict[str, Run] = {}
    ways: dict[str, dict[str, Any]] = {}
    for name, function in functions.items():
        row = ways[name] = {"ours": name == "kernel", "whole": True, "wrong": False}
        try:
            prepared_run = prepare(function, context.device)
            prepared_run.call()
            reason = fault_of(prepared_run.output())
            row |= {"how": prepared_run.how, "why": prepared_run.why}
        except Exception as error:
            row["failed"] = first_line(error)
            continue
        if reason:
            row |= {"wrong": True, "failed": reason}
        else:
            runs[name] = prepared_run
    for name, timing in time_in_turns(runs).items():
        ways[name] |= {"us": asdict(timing)}
    context.emit("row", step=step, problem=asdict(problem), least_bytes=least_bytes, ways=ways)
