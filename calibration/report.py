"""Reports of a search, for people (Markdown, a plot) and for programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer


@dataclass(frozen=True)
class SearchPoint:
    """A set of quantized blocks that was measured.

    Attributes:
        blocks: how many were quantized.
        score: the metric.
        latency_ms: median of a frame.
    """

    blocks: int
    score: float
    latency_ms: float


@dataclass(frozen=True)
class BlockEffect:
    """One block of the network.

    Attributes:
        name: graph and block.
        operators: how many it has.
        quantized: whether it is in the plan.
        divergence: relative RMS error of the outputs with it alone quantized; None where it was not
            measured, because all blocks together fit the budget.
    """

    name: str
    operators: int
    quantized: bool
    divergence: float | None


@dataclass(frozen=True)
class SearchReport:
    """The whole search.

    Attributes:
        model: its name.
        profile: of the graphs.
        backend: what accuracy and latency were measured on.
        calibration: the set's path.
        calibration_images: how many gave the ranges.
        search_images: how many gave the accuracy.
        shared_images: how many of these gave ranges too, because the set has too few.
        metric: what is measured.
        max_drop: the budget.
        fp32: the fp32 plan.
        chosen: the plan that was chosen. Where frames were timed in turns the latencies of these
            two are from there, else each from its own pass over the images.
        estimator: of the ranges.
        estimators: divergence of the outputs with everything quantized, by estimator.
        points: every set that was measured.
        blocks: of the network, the most sensitive first where that was measured.
        complaints: why the chosen plan is no gain; empty where it is one.
        is_timed_in_turns: whether the latencies of `fp32` and `chosen` can be compared.
    """

    model: str
    profile: str
    backend: str
    calibration: str
    calibration_images: int
    search_images: int
    shared_images: int
    metric: str
    max_drop: float
    fp32: SearchPoint
    chosen: SearchPoint
    estimator: str
    estimators: dict[str, float]
    points: tuple[SearchPoint, ...]
    blocks: tuple[BlockEffect, ...]
    complaints: tuple[str, ...] = ()
    is_timed_in_turns: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def markdown(self) -> str:
        """Return the report as a page."""
        quantized = [block for block in self.blocks if block.quantized]
        unquantized = [block for block in self.blocks if not block.quantized]
        lines = [
            f"# INT8: {self.model}",
            "",
            f"Profile `{self.profile}`, measured on {self.backend}. Ranges from "
            f"{self.calibration_images} images of `{self.calibration}` by the estimator "
            f"`{self.estimator}`; accuracy from {self._judges()}. Budget: a drop of at "
            f"most {self.max_drop:g}.",
            "",
            f"| | {self.metric} | ms a frame |",
            "| --- | ---: | ---: |",
            f"| fp32 | {self.fp32.score:.2f} | {self.fp32.latency_ms:.1f} |",
            f"| int8 | {self.chosen.score:.2f} | {self.chosen.latency_ms:.1f} |",
            "",
            "Both were timed in turns."
            if self.is_timed_in_turns
            else "Each was timed in a pass of its own, on this machine and not on the target.",
            "",
            f"**{self._verdict()}**",
            "",
            f"{len(quantized)} of {len(self.blocks)} blocks are quantized.",
            "",
            "| range estimator | divergence with everything quantized |",
            "| --- | ---: |",
            *(f"| {name} | {value:.4f} |" for name, value in self.estimators.items()),
            "",
        ]
        if unquantized:
            lines += ["Kept in higher precision, because the budget does not hold with them:", ""]
            lines += [f"- {block.name} ({block.operators} operators)" for block in unquantized]
        else:
            lines.append("The search kept nothing in higher precision.")
        lines += [
            "",
            "Never quantized: normalisations, softmax, attention products, the products that form "
            "mask logits and those that shrink mask features.",
            "",
            "The search, each set in a pass of its own:",
            "",
            "| blocks quantized | score | ms a frame |",
            "| ---: | ---: | ---: |",
            *(f"| {p.blocks} | {p.score:.2f} | {p.latency_ms:.1f} |" for p in self.points),
            "",
            "| block | operators | quantized | divergence alone |",
            "| --- | ---: | --- | ---: |",
            *(
                f"| {block.name} | {block.operators} | {'yes' if block.quantized else 'no'} | "
                f"{'-' if block.divergence is None else f'{block.divergence:.4f}'} |"
                for block in self.blocks
            ),
            "",
        ]
        return "\n".join(lines)

    def _judges(self) -> str:
        """Say which images gave the accuracy."""
        if not self.shared_images:
            return f"{self.search_images} others"
        which = "all" if self.shared_images == self.search_images else f"{self.shared_images}"
        return f"{self.search_images} images, {which} of which gave ranges too"

    def _verdict(self) -> str:
        if self.complaints:
            return f"No gain: {'; '.join(self.complaints)}."
        drop = self.fp32.score - self.chosen.score
        return f"Within the budget: {max(0.0, drop):.2f} of {self.max_drop:g} are lost."

    def write(self, folder: Path) -> list[Path]:
        """Write ``quantization.md``, ``.json`` and, where matplotlib is installed, ``.png``.

        Returns:
            The files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / "quantization.md", folder / "quantization.json"]
        with atomic_writer(files[0]) as file:
            file.write(self.markdown().encode())
        with atomic_writer(files[1]) as file:
            file.write((json.dumps(self.to_json(), indent=1) + "\n").encode())
        try:
            import matplotlib
        except ImportError:
            return files
        matplotlib.use("Agg")
        self._plot(folder / "quantization.png")
        return [*files, folder / "quantization.png"]

    def _plot(self, path: Path) -> None:
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(6, 4))
        for point in self.points:
            axes.plot(point.latency_ms, point.score, "o", color="0.6")
            axes.annotate(str(point.blocks), (point.latency_ms, point.score), fontsize=8)
        axes.plot(self.fp32.latency_ms, self.fp32.score, "s", label="fp32")
        axes.plot(self.chosen.latency_ms, self.chosen.score, "*", markersize=12, label="int8")
        axes.axhline(self.fp32.score - self.max_drop, linestyle=":", color="0.4", label="budget")
        axes.set_xlabel("milliseconds a frame")
        axes.set_ylabel(self.metric)
        axes.legend()
        figure.tight_layout()
        with atomic_writer(path) as file:
            figure.savefig(file, format="png", dpi=120)
        pyplot.close(figure)
