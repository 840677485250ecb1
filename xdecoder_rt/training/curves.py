"""Pictures of a run's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
_COLUMNS = 3


def draw_curves(records: Sequence[Record], path: Path) -> None:
    """Draw losses, learning rate, validation and speed over the steps.

    Only what the records have has a panel. Each held-out set has a colour, and each of its measures
    a mark.

    Args:
        records: what :class:`~xdecoder_rt.training.metrics.MetricsLog` holds.
        path: PNG to write; it is replaced whole.
    """
    panels = [panel for panel in _panels(records) if panel.names]
    rows = max(1, -(-len(panels) // _COLUMNS))
    # Figure without pyplot: no global state, no window.
    figure = require("matplotlib.figure", "train").Figure(
        figsize=(18, 4.5 * rows), layout="constrained"
    )
    for place, panel in enumerate(panels, start=1):
        panel.draw(figure.add_subplot(rows, _COLUMNS, place), records, panel.names, panel.title)
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=80)


@dataclass(frozen=True)
class _Panel:
    """One picture: its title, the keys that the records have for it, and what draws them."""

    title: str
    names: Sequence[str]
    draw: Callable[[Any, Sequence[Record], Sequence[str], str], None]


def _panels(records: Sequence[Record]) -> Iterator[_Panel]:
    def having(names: Sequence[str]) -> list[str]:
        # The losses of a task that is not trained are zero in every record.
        return [name for name in names if any(record.get(name) for record in records)]

    validation = sorted({key for record in records for key in record if key.startswith(VALIDATION)})
    shares = [name for name in validation if not name.endswith(ENTROPY)]
    entropies = [name for name in validation if name.endswith(ENTROPY)]
    yield _Panel("Weighted loss", having(["total"]), _draw)
    yield _Panel("Losses of segmentation, mean of the layers", having(SEGMENTATION_LOSSES), _draw)
    yield _Panel("Losses of texts, mean of the layers", having(TEXT_LOSSES), _draw)
    yield _Panel("Learning rate and seconds a step", having(["lr", "step_seconds"]), _draw_speed)
    yield _Panel("Validation", shares, _draw_validation)
    yield _Panel("Validation, nats a token", entropies, _draw_validation)


def _draw(
    axes: Any,
    records: Sequence[Record],
    names: Sequence[str],
    title: str,
    colour: str | None = None,
) -> None:
    for name in names:
        steps, values = _series(records, name)
        (line,) = axes.plot(steps, values, alpha=0.25, color=colour)
        axes.plot(steps, _smoothed(values), label=name, color=line.get_color())
    _finish(axes, title)


def _draw_speed(axes: Any, records: Sequence[Record], names: Sequence[str], title: str) -> None:
    """Draw the learning rate on the left, seconds a step on the right."""
    axes.plot(*_series(records, "lr"), label="lr", marker=".", markersize=3)
    axes.set_ylabel("learning rate")
    speed = axes.twinx()
    _draw(speed, records, ["step_seconds"], "", colour="tab:orange")
    speed.set_ylabel("seconds")
    _finish(axes, title)


def _draw_validation(
    axes: Any, records: Sequence[Record], names: Sequence[str], title: str
) -> None:
    """Draw a line for each measure of each set; the last part of a name is the measure's."""
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
    # Below the picture: there are too many entries to leave lines visible.
    axes.legend(fontsize="x-small", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _series(records: Sequence[Record], name: str) -> tuple[list[int], list[float]]:
    having = [record for record in records if name in record]
    return [record["step"] for record in having], [record[name] for record in having]


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", ncols=2)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean without the pull towards zero at the start."""
    mean, weight, out = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + 1 - _SMOOTHING
        out.append(mean / weight)
    return out
