"""Writes the tables of the documentation anew from benchmarks/results/*.json.

    python benchmarks/tables.py
    python benchmarks/tables.py --check

A table stands in its page between a comment that names this program and the table, and a comment
that ends it. What is around it is written by hand. ``--check`` writes nothing, and exits with 1
where a page has another table than its JSON gives.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
END = "<!-- end -->"
SCENES = {
    "workcell_val": "workcells",
    "mujoco_val": "workcells, unseen renderer (MuJoCo)",
    "clipart_val": "clip art",
    "workcell_novel": "workcells, names never seen",
    "clipart_novel": "clip art, names never seen",
}
SCORES = {
    "PQ": ("panoptic", "pq"),
    "mIoU": ("semantic", "miou"),
    "phrases P@0.5": ("referring", "p_at_50"),
    "CIDEr": ("caption", "cider"),
    "VQA": ("vqa", "accuracy"),
}
PHOTOGRAPHS = {
    "photographs": "The starter:",
    "photographs_no_distractors": "Built with `--no-distractors`:",
    "photographs_decoder": "The decoder alone (`build --no-regions --no-distractors`):",
}


def begin_of(name: str) -> str:
    """Return the comment that begins a table."""
    return f"<!-- written by benchmarks/tables.py: {name} -->"


def accuracy() -> str:
    """Return what the starter's card says of its accuracy."""
    figures = read("accuracy")
    head = ["held-out scenes", "images", *SCORES]
    lines = [row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for folder, title in SCENES.items():
        scores = figures[folder]
        cells = [f"{scores[section][key]:.1f}" for section, key in SCORES.values()]
        lines.append(row([title, str(scores["items"]), *cells]))
    return "\n".join(lines)


def ablation() -> str:
    """Return the tables of the study that changes one lever of the training at a time."""
    import ablation as study

    results = read("ablation")
    return study.tables(results, list(results[0]["scores"]))


def photograph_ablation() -> str:
    """Return the tables of the study that asks photographs about one lever at a time."""
    import photograph_ablation as study

    return study.tables(read("photograph_ablation"))


def photographs() -> str:
    """Return what the starter says of photographs, and what it says without regions."""
    import photographs as study

    parts = []
    for name, title in PHOTOGRAPHS.items():
        figures = read(name)
        parts += [title, "", study.table(figures), ""]
    return "\n".join([*parts, study.sources_table(read(next(iter(PHOTOGRAPHS))))])


def presence() -> str:
    """Return what plans find that is there, and that is not."""
    import presence as study

    return study.table(read("presence"))


def candidates() -> str:
    """Return the table of the shapes that were compared."""
    import candidates as study

    results = read("candidates")
    return study.tables(results["times"], results["training"], study.CHOSEN)


def published() -> str:
    """Return what plans of the published sizes take."""
    from published_table import Table

    return Table.read(RESULTS / "published.json").markdown()


TABLES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "accuracy": ("docs/training.md", accuracy),
    "ablation": ("docs/measured/ablation.md", ablation),
    "photograph_ablation": ("docs/measured/starter.md", photograph_ablation),
    "photographs": ("docs/measured/starter.md", photographs),
    "presence": ("docs/measured/starter.md", presence),
    "candidates": ("docs/measured/candidates.md", candidates),
    "published": ("docs/measured/presets.md", published),
}
"""Each table: its page, and what gives it."""


def read(name: str) -> Any:
    """Return the results of a file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def row(cells: list[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def with_table(text: str, name: str, table: str) -> str:
    """Return a page with a table in its place.

    Raises:
        ValueError: the page has no such place, or several.
    """
    before, begin, rest = text.partition(begin_of(name))
    _, end, after = rest.partition(END)
    if not begin or not end or begin in after:
        raise ValueError(f"the page has no single place for the table {name}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> int:
    """Read the command line, and write or check every table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    # The programs that measured them write them.
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "studies")]
    stale = []
    for name, (page, table_of) in TABLES.items():
        path = ROOT / page
        text = path.read_text()
        new = with_table(text, name, table_of())
        if new != text:
            stale.append(f"{page}: {name}")
            if not args.check:
                path.write_text(new)
    for line in stale:
        print(line)
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
