"""What was found, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdecoder_rt.cli.output import printable, table

TEXT_LIMIT = 60
_EDGES = ("left", "top", "right", "bottom")


def segment_table(segmentation: dict[str, Any]) -> list[str]:
    """``Segmentation.to_dict()`` as lines, none if there are no segments."""
    pixels = segmentation["width"] * segmentation["height"]
    rows = [
        (
            printable(segment["label"]),
            _percent(segment["score"]),
            f"{100 * segment['area'] / pixels:.1f} %",
            "thing" if segment["isthing"] else "stuff",
            *_box(segment["box"]),
        )
        for segment in segmentation["segments"]
    ]
    return _lines(("label", "score", "area", "kind", *_EDGES), rows)


def reference_table(references: Sequence[dict[str, Any]]) -> list[str]:
    """``Reference.to_dict()`` of several phrases as lines, numbered as on the picture."""
    rows = [
        (
            str(number),
            printable(one["phrase"], TEXT_LIMIT),
            _percent(one["score"]),
            *(_box(one["box"]) if one["box"][2] else ("-",) * 4),
        )
        for number, one in enumerate(references, 1)
    ]
    return _lines(("", "phrase", "score", *_EDGES), rows, left=2)


def answer_line(answer: dict[str, Any], others: int = 2) -> str:
    """``Answer.to_dict()`` in a line: the answer, and what came after it."""
    ranked = sorted(answer["scores"].items(), key=lambda item: -item[1])
    rest = [
        f"{printable(text)} {_percent(score)}" for text, score in ranked if text != answer["text"]
    ][:others]
    then = f"   (then {', '.join(rest)})" if rest else ""
    return f"{printable(answer['text'], TEXT_LIMIT)}  {_percent(answer['score'])}{then}"


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    return table(header, rows, left).split("\n") if rows else []


def _box(box: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{edge:.0f}" for edge in box)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
