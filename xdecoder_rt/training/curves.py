"""Pictures of a run's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import require
from xdecoder_rt.training.metrics import LOSSES, VALIDATION, Record

_SMOOTHING = 0.9


def draw_curves(records: Sequence[Record], path: Path) -> None:
    """Draw losses, learning rate, validation and speed over the steps.

    Args:
        records: what :class:`~xdecoder_rt.training.metrics.MetricsLog` holds.
        path: PNG to write; it is replaced whole.
    """
    # Figure without pyplot: no global state, no window.
    figure = require("matplotlib.figure", "train").Figure(figsize=(12, 8), layout="constrained")
    total, losses, validation, rate = figure.subplots(2, 2).flat
    _draw(total, records, ["total"], "Weighted loss")
    _draw(losses, records, LOSSES[1:], "Losses, mean of the layers")
    names = sorted({key for r in records for key in r if key.startswith(VALIDATION)})
    _draw(validation, records, names, "Validation", smooth=False)
    _draw(rate, records, ["lr"], "Learning rate", smooth=False)
    speed = rate.twinx()
    _draw(speed, records, ["step_seconds"], "Learning rate and seconds a step", colour="tab:orange")
    rate.set_ylabel("learning rate")
    speed.set_ylabel("seconds")
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=80)


def _draw(
    axes: Any,
    records: Sequence[Record],
    names: Sequence[str],
    title: str,
    smooth: bool = True,
    colour: str | None = None,
) -> None:
    for name in names:
        points = [(r["step"], r[name]) for r in records if name in r]
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        label = name.removeprefix(VALIDATION)
        if not smooth:
            axes.plot(steps, values, label=label, color=colour, marker=".", markersize=3)
            continue
        (line,) = axes.plot(steps, values, alpha=0.25, color=colour)
        axes.plot(steps, _smoothed(values), label=label, color=line.get_color())
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean without the pull towards zero at the start."""
    mean, weight, out = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + 1 - _SMOOTHING
        out.append(mean / weight)
    return out
