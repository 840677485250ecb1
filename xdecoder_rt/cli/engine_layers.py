"""Layers of engines as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from xdecoder_rt.cli.output import printable, table
from xdecoder_rt.export.tensorrt.layers import Layer, precisions


def precision_table(layers: Mapping[str, Sequence[Layer]]) -> str:
    """In which precision the layers of each engine compute their products."""
    rows = [
        (printable(member, 60), printable(role), str(number), printable(precision))
        for member, found in layers.items()
        for role, by in precisions(found).items()
        for precision, number in sorted(by.items())
    ]
    return table(("engine", "operator", "layers", "precision"), rows, left=2)


def layer_tables(layers: Mapping[str, Sequence[Layer]]) -> str:
    """Every kernel of every engine."""
    parts = []
    for member, found in layers.items():
        rows = [
            (
                printable(layer.kind, 20),
                layer.precision,
                printable(_clipped(_grouped(layer.operators)), 60),
                printable(_clipped(layer.name), 60),
            )
            for layer in found
        ]
        header = ("kernel", "precision", "ONNX operators", "name")
        parts.append(f"\n{printable(member, 60)}\n{table(header, rows, left=4)}")
    return "\n".join(parts)


def _clipped(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _grouped(operators: Sequence[str]) -> str:
    """``Conv, 2 Relu``."""
    counted = Counter(operators)
    return ", ".join(f"{n} {name}" if n > 1 else name for name, n in counted.items()) or "-"
