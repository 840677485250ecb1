"""Resources of compiled kernels on each GPU, as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def resources(index: Mapping[str, Any]) -> str:
    """Return the table of ``kernels.json``: registers, spilled bytes and shared memory.

    Args:
        index: what the file holds.
    """
    goals = [name for name, goal in index["targets"].items() if not goal["unavailable"]]
    lines = [
        "# Kernels compiled ahead of time",
        "",
        "Registers a thread / KiB of shared memory a program, by target; **+n** where n bytes "
        f"spill. Compiled by Triton {index['triton']} without a GPU:",
        "`python -m xdecoder_rt.kernels.aot -o compiled --report docs/measured/kernels-aot.md`.",
        "Not a measure of speed.",
        "",
        "| target | devices |",
        "| --- | --- |",
    ]
    for name, goal in index["targets"].items():
        missing = f" (not compiled: {goal['unavailable']})" if goal["unavailable"] else ""
        lines.append(f"| {name} | {goal['devices']}{missing} |")
    lines += [
        "",
        f"| form | warps | {' | '.join(goals)} |",
        f"| --- | --- |{' --- |' * len(goals)}",
    ]
    for name, kernel in sorted(index["kernels"].items()):
        cells = [_cell(kernel["targets"].get(goal)) for goal in goals]
        lines.append(f"| `{name}` | {kernel['warps']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "-"
    spilled = f" **+{facts['spilled']}**" if facts["spilled"] else ""
    return f"{facts['registers']} / {facts['shared'] / 1024:.0f}{spilled}"
