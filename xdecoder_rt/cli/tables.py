"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdecoder_rt.cli.output import format_table
from xdecoder_rt.errors import printable

CELL_LIMIT = 60
_EDGES = ("left", "top", "right", "bottom")


def segment_table(segmentation: dict[str, Any]) -> list[str]:
    """Return ``Segmentation.to_dict()`` as lines, none if there are no segments."""
    pixels = segmentation["width"] * segmentation["height"]
    rows = [
        (
            printable(segment["label"]),
            _percent(segment["score"]),
            f"{100 * segment['area'] / pixels:.1f} %",
            "thing" if segment["isthing"] else "stuff",
            *_box_edges(segment["box"]),
        )
        for segment in segmentation["segments"]
    ]
    return _table_lines(("label", "score", "area", "kind", *_EDGES), rows)


def reference_table(references: Sequence[dict[str, Any]]) -> list[str]:
    """Return ``Reference.to_dict()`` of several phrases as lines, numbered as on the picture."""
    rows = [
        (
            str(number),
            printable(reference["phrase"], CELL_LIMIT),
            _percent(reference["score"]),
            *(_box_edges(reference["box"]) if reference["box"][2] else ("-",) * 4),
        )
        for number, reference in enumerate(references, 1)
    ]
    return _table_lines(("", "phrase", "score", *_EDGES), rows, left_columns=2)


def answer_line(answer: dict[str, Any], limit: int = 2) -> str:
    """Return ``Answer.to_dict()`` in a line: the answer, and the `limit` likeliest others."""
    ranked = sorted(answer["scores"].items(), key=lambda item: -item[1])
    runners_up = [
        f"{printable(text)} {_percent(score)}" for text, score in ranked if text != answer["text"]
    ][:limit]
    remark = f"   (then {', '.join(runners_up)})" if runners_up else ""
    return f"{printable(answer['text'], CELL_LIMIT)}  {_percent(answer['score'])}{remark}"


def _table_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], left_columns: int = 1
) -> list[str]:
    return format_table(header, rows, left_columns).split("\n") if rows else []


def _box_edges(box: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{edge:.0f}" for edge in box)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
