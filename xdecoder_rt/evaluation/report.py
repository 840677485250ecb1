"""The result of an evaluation, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xdecoder_rt.errors import shown
from xdecoder_rt.evaluation.panoptic_quality import PanopticScores
from xdecoder_rt.evaluation.semantic import SemanticScores


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a sample, in its own unit."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """The percentiles of at least one value, interpolated linearly."""
        return cls(*np.percentile(values, (50, 90, 99)).tolist())


@dataclass(frozen=True)
class Report:
    """Scores of an engine on a data set.

    Attributes:
        panoptic: Panoptic quality.
        semantic: Mean IoU.
        time_ms: Milliseconds an image, from decoded pixels to the panoptic result.
        items: The number of images.
    """

    panoptic: PanopticScores
    semantic: SemanticScores
    time_ms: Percentiles
    items: int

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; scores are 0 to 100.

        `panoptic.per_class` has the classes that occur in the truth or in the predictions, which
        are those that the means are over.
        """
        return {
            "panoptic": {
                "pq": self.panoptic.pq,
                "sq": self.panoptic.sq,
                "rq": self.panoptic.rq,
                "per_class": {
                    label: {"pq": c.pq, "sq": c.sq, "rq": c.rq}
                    for label, c in self.panoptic.per_class.items()
                },
            },
            "semantic": {"miou": self.semantic.miou},
            "time_ms": asdict(self.time_ms),
            "items": self.items,
        }

    def table(self) -> str:
        """The report as lines of text for a terminal, worst classes last."""
        per_class = self.panoptic.per_class
        ranked = sorted(per_class.items(), key=lambda entry: -entry[1].pq)
        width = max(12, *(len(_name(label)) for label in per_class))
        lines = [f"{'class':{width}}     PQ     SQ     RQ    IoU     TP     FP     FN"]
        for label, c in ranked:
            iou = self.semantic.per_class.get(label)
            lines.append(
                f"{_name(label):{width}} {c.pq:6.1f} {c.sq:6.1f} {c.rq:6.1f} "
                f"{'     -' if iou is None else f'{iou:6.1f}'} {c.tp:6} {c.fp:6} {c.fn:6}"
            )
        lines += ["", f"{'':{width}}     PQ     SQ     RQ  classes"]
        for name, isthing in (("things", True), ("stuff", False)):
            kind = {label: c for label, c in per_class.items() if c.isthing is isthing}
            if kind:
                lines.append(_averages(name, PanopticScores.average(kind), width))
        lines += [
            _averages("all", self.panoptic, width),
            "",
            f"mIoU {self.semantic.miou:.1f} over {len(self.semantic.per_class)} classes",
            f"time an image: p50 {self.time_ms.p50:.1f} ms, p90 {self.time_ms.p90:.1f} ms, "
            f"p99 {self.time_ms.p99:.1f} ms",
            f"{self.items} images",
        ]
        return "\n".join(lines)


def _averages(name: str, scores: PanopticScores, width: int) -> str:
    return (
        f"{name:{width}} {scores.pq:6.1f} {scores.sq:6.1f} {scores.rq:6.1f} "
        f"{len(scores.per_class):8}"
    )


def _name(label: str) -> str:
    """A label that cannot disturb the terminal: printable and of limited length."""
    limit = 40
    return label if label.isprintable() and len(label) <= limit else shown(label, limit)
