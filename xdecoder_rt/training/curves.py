"""Pictures of a run's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import require
from xdecoder_rt.training.metrics import (
    ENTROPY,
    SEGMENTATION_LOSSES,
    TEXT_LOSSES,
    VALIDATION,
    Record,
)

_SMOOTHING = 0.9
_MARKS = "os^vDP*X<>"


def draw_curves(records: Sequence[Record], path: Path) -> None:
    """Draw losses, learning rate, validation and speed over the steps.

    Each held-out set has a colour, and each of its measures a mark.

    Args:
        records: what :class:`~xdecoder_rt.training.metrics.MetricsLog` holds.
        path: PNG to write; it is replaced whole.
    """
    # Figure without pyplot: no global state, no window.
    figure = require("matplotlib.figure", "train").Figure(figsize=(18, 9), layout="constrained")
    total, masks, texts, rate, shares, entropy = figure.subplots(2, 3).flat
    _draw(total, records, ["total"], "Weighted loss")
    _draw(masks, records, SEGMENTATION_LOSSES, "Losses of segmentation, mean of the layers")
    _draw(texts, records, TEXT_LOSSES, "Losses of texts, mean of the layers")
    names = sorted({key for r in records for key in r if key.startswith(VALIDATION)})
    _draw_validation(shares, records, [n for n in names if not n.endswith(ENTROPY)], "Validation")
    _draw_validation(
        entropy, records, [n for n in names if n.endswith(ENTROPY)], "Validation, nats a token"
    )
    _draw(rate, records, ["lr"], "", smooth=False)
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
        steps, values = _series(records, name)
        if not steps:
            continue
        if not smooth:
            axes.plot(steps, values, label=name, color=colour, marker=".", markersize=3)
            continue
        (line,) = axes.plot(steps, values, alpha=0.25, color=colour)
        axes.plot(steps, _smoothed(values), label=name, color=line.get_color())
    _finish(axes, title)


def _draw_validation(
    axes: Any, records: Sequence[Record], names: Sequence[str], title: str
) -> None:
    """One line for each measure of each set; the last part of a name is the measure's."""
    parts = [name.removeprefix(VALIDATION).rpartition("/") for name in names]
    sets = list(dict.fromkeys(part[0] for part in parts))
    measures = list(dict.fromkeys(part[2] for part in parts))
    for name, (data, _, measure) in zip(names, parts, strict=True):
        axes.plot(
            *_series(records, name),
            label=f"{data} {measure}",
            color=f"C{sets.index(data) % 10}",
            marker=_MARKS[measures.index(measure) % len(_MARKS)],
            linewidth=1,
        )
    _finish(axes, title)
    if names:
        # Below the picture: there are too many entries to leave lines visible.
        axes.legend(fontsize="x-small", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _series(records: Sequence[Record], name: str) -> tuple[list[int], list[float]]:
    having = [record for record in records if name in record]
    return [record["step"] for record in having], [record[name] for record in having]


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="x-small", ncols=2)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean without the pull towards zero at the start."""
    mean, weight, out = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + 1 - _SMOOTHING
        out.append(mean / weight)
    return out
