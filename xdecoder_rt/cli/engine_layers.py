"""Layers of engines as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from xdecoder_rt.cli.output import format_table
from xdecoder_rt.errors import printable
from xdecoder_rt.export.tensorrt.layers import Layer, precisions


def precision_table(layers: Mapping[str, Sequence[Layer]]) -> str:
    """Return a table of the precisions in which each engine's layers compute their products."""
    rows = [
        (printable(member, 60), printable(role), str(number), printable(precision))
        for member, engine_layers in layers.items()
        for role, by in precisions(engine_layers).items()
        for precision, number in sorted(by.items())
    ]
    return format_table(("engine", "operator", "layers", "precision"), rows, left_columns=2)


def layer_tables(layers: Mapping[str, Sequence[Layer]]) -> str:
    """Return a table of kernels for each engine."""
    parts = []
    for member, engine_layers in layers.items():
        rows = [
            (
                printable(layer.kind, 20),
                layer.precision,
                printable(_clipped(_grouped(layer.operators)), 60),
                printable(_clipped(layer.name), 60),
            )
            for layer in engine_layers
        ]
        header = ("kernel", "precision", "ONNX operators", "name")
        parts.append(f"\n{printable(member, 60)}\n{format_table(header, rows, left_columns=4)}")
    return "\n".join(parts)


def _clipped(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _grouped(operators: Sequence[str]) -> str:
    """Return operators with their counts: ``Conv, 2 Relu``."""
    counts = Counter(operators)
    return ", ".join(f"{n} {name}" if n > 1 else name for name, n in counts.items()) or "-"
