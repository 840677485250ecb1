"""The report: everything as JSON, and tables in Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gpu.section import Result

SHIPPED = "two kernels"
NOTES = (
    "Microseconds are medians, the L2 cache overwritten before each call, ways in turns; in "
    "brackets, how many times the time of the shipped kernels beside it. "
    "† launched from Python rather than replayed as a CUDA graph. "
    "‡ not the whole job: the mask was made beforehand."
)


@dataclass
class Report:
    """Results of the sections.

    Attributes:
        started: when, UTC.
        device: ``cuda``, or ``cpu`` for a trial of the runbook.
        budget: seconds that were given.
        results: of the sections so far, in order.
    """

    started: datetime
    device: str
    budget: float
    results: list[Result]

    def write(self, folder: Path, stem: str) -> None:
        """Write ``STEM.json`` and ``STEM.md``, each whole or not at all."""
        write_whole(folder / f"{stem}.json", json.dumps(self.as_json(), indent=1) + "\n")
        write_whole(folder / f"{stem}.md", self.markdown())

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "device": self.device,
            "budget_s": self.budget,
            "failures": self.failures(),
            "sections": [asdict(result) for result in self.results],
        }

    def failures(self) -> list[str]:
        """Return the failures of sections, and of our kernels in comparisons."""
        failures = [f"{r.section}: {r.reason}" for r in self.results if r.status == "failed"]
        for result in self.results:
            for row in result.of("row"):
                for name, way in row.get("ways", {}).items():
                    if way["ours"] and "failed" in way:
                        failures.append(f"{result.section}, {name}, {of(row)}: {way['failed']}")
        return failures

    def markdown(self) -> str:
        """Return the tables."""
        facts = self._first_record("device", "facts")
        title = f"# {facts.get('name', 'GPU')}, {self.started:%Y-%m-%d %H:%M} UTC"
        parts = [title, self._summary(facts), self._sections()]
        if self.failures():
            parts.append("## Failures\n\n" + bullets(self.failures()))
        parts += self._attention()
        parts += [
            self._plan("engine", "by the torch backend"),
            self._plan("tensorrt", "by the TensorRT backend, PyTorch in place of its engines"),
        ]
        parts += [self._parts(), self._steps(), self._loader(), self._sanitizer(), self._tests()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _records(self, section: str, kind: str) -> list[dict[str, Any]]:
        return [x for r in self.results if r.section == section for x in r.of(kind)]

    def _first_record(self, section: str, kind: str) -> dict[str, Any]:
        return next(iter(self._records(section, kind)), {})

    def _summary(self, facts: Mapping[str, Any]) -> str:
        rates = self._first_record("device", "rates")
        lines = [f"{key}: {value}" for key, value in facts.items() if key not in ("kind", "name")]
        text = ", ".join(lines)
        if rates:
            text += (
                f"\n\nMeasured: copies {rates['copy_gb_s']:.0f} GB/s (reads and writes), matrix "
                f"products {rates['fp16_tflop_s']:.3g} TFLOP/s in fp16, "
                f"{rates['fp32_tflop_s']:.3g} in fp32."
            )
        return text

    def _sections(self) -> str:
        rows = [(r.section, r.status, f"{r.seconds:.0f} s", r.reason) for r in self.results]
        return table(("section", "status", "took", "why"), rows)

    def _attention(self) -> list[str]:
        rows = self._records("attention", "row") + self._records("compiled", "row")
        if not rows:
            return []
        densities = sorted({row["density"] for row in rows})
        shapes = list(dict.fromkeys(of(row) for row in rows))
        parts = [f"## Masked attention\n\n{NOTES}"]
        for shape in shapes:
            shape_rows = [row for row in rows if of(row) == shape]
            names = list(dict.fromkeys(name for row in shape_rows for name in row["ways"]))
            lines = [
                [name, *(cell(shape_rows, name, density, SHIPPED) for density in densities)]
                for name in names
            ]
            head = ("way", *(f"{density:.0%} open" for density in densities))
            parts.append(
                f"### {shape}\n\n{table(head, lines)}\n\n{self._floor(shape_rows)}".rstrip()
            )
        left_out = [
            f"{of(row)}, {row.get('way') or format(row['density'], '.0%')}: {row['reason']}"
            for section in ("attention", "compiled")
            for row in self._records(section, "left out")
        ]
        return [*parts, "Left out:\n\n" + bullets(left_out)] if left_out else parts

    def _floor(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Return the time of the least bytes at the measured rate, and ours as its multiple."""
        rate = self._first_record("device", "rates").get("copy_gb_s")
        if not rate:
            return ""
        size = rows[0]["shape"]["least_bytes"]
        floor = size / rate / 1e3
        times_us = {row["density"]: us(row["ways"].get(SHIPPED, {})) for row in reversed(rows)}
        times = ", ".join(
            f"{times_us[density] / floor:.1f} at {density:.0%}"
            for density in sorted(times_us)
            if times_us[density]
        )
        return (
            f"Inputs and output are {size / 1e6:.2f} MB: {floor:.2f} µs at the measured rate. The "
            f"shipped kernels take so many times as long: {times}."
        )

    def _parts(self) -> str:
        rows = [
            (of(row), row["splits"], ", ".join(f"{k} {v['median']:.1f}" for k, v in us_.items()))
            for row in self._records("attention", "parts")
            if (us_ := row["us"])
        ]
        head = ("shape", "parts of the keys", "µs of each launch")
        return f"### Launch by launch\n\n{table(head, rows)}" if rows else ""

    def _steps(self) -> str:
        lines = []
        for row in self._records("steps", "row"):
            problem = f"{row['step']}, {row['problem']['name']}"
            for name in row["ways"]:
                lines.append([problem, name, cell([row], name, None, "kernel")])
        return f"## Fused steps\n\n{table(('step', 'way', 'µs'), lines)}" if lines else ""

    def _loader(self) -> str:
        rows = [
            (
                *(row["code"], row["target"], row["case"]),
                row["failed"] or f"largest difference {row['largest_difference']:.2g}",
            )
            for row in self._records("loader", "row")
        ]
        if not rows:
            return ""
        driver = next((r["driver"] for r in self._records("loader", "row") if "driver" in r), "")
        intro = f"Launched by addresses with neither PyTorch nor Triton, by {driver}."
        head = ("code", "target", "case", "against the reference")
        return f"## Compiled ahead of time\n\n{intro}\n\n{table(head, rows)}"

    def _plan(self, section: str, how: str) -> str:
        plan = self._first_record(section, "plan")
        if not plan:
            return ""
        memory = {r["way"]: r["peak_mib"] for r in self._records(section, "memory")}
        rows = []
        for record in self._records(section, "row"):
            (way,) = record["ways"].values()
            times = way.get("ms", {})
            rows.append(
                (
                    record["way"],
                    record["task"],
                    way.get("failed", "as on the CPU"),
                    times.get("p50", ""),
                    times.get("p90", ""),
                    memory.get(record["way"], ""),
                )
            )
        head = ("way", "task", "answer", "p50 ms", "p90 ms", "peak MiB")
        left_out = [
            f"{record['way']}, {record.get('task', 'all')}: {record['reason']}"
            for record in self._records(section, "left out")
        ]
        return (
            f"## The plan {plan['model']}, {plan['precision']}, {how}\n\n"
            "Milliseconds of whole calls, from a frame on the host to the answer.\n\n"
            + table(head, rows)
            + ("\n\nLeft out:\n\n" + bullets(left_out) if left_out else "")
        )

    def _sanitizer(self) -> str:
        rows = [(r["tool"], r["status"], r["found"]) for r in self._records("sanitizer", "row")]
        return f"## compute-sanitizer\n\n{table(('tool', 'status', 'found'), rows)}" if rows else ""

    def _tests(self) -> str:
        counts = self._first_record("tests", "counts")
        if not counts:
            return ""
        outcomes = ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped"))
        skipped = [
            f"{r['count']} skipped: {r['reason']}" for r in self._records("tests", "skipped")
        ]
        failed = [f"failed: {r['test']}: {r['reason']}" for r in self._records("tests", "failure")]
        return f"## Tests\n\n{outcomes}.\n\n{bullets([*failed, *skipped])}".rstrip()


def of(row: Mapping[str, Any]) -> str:
    """Return the problem of a row in words."""
    if "task" in row:
        return str(row["task"])
    if "shape" not in row:
        return f"{row.get('step', '')} {row.get('problem', {}).get('name', '')}".strip()
    s = row["shape"]
    return (
        f"{s['model']}, {s['element']}: {s['heads']} heads of {s['width']}, {s['channels']} "
        f"channels, {s['queries']} queries, {s['keys']} keys"
    )


def us(way: Mapping[str, Any]) -> float | None:
    """Return the median time of a way, if it was timed."""
    timing = way.get("us")
    return float(timing["median"]) if timing else None


def cell(rows: Iterable[Mapping[str, Any]], name: str, density: float | None, base: str) -> str:
    """Return the time of a way, and its ratio to the base of the same row."""
    for row in rows:
        if row.get("density") != density or name not in row["ways"]:
            continue
        way = row["ways"][name]
        way_us, base_us = us(way), us(row["ways"].get(base, {}))
        if way_us is None:
            return str(way.get("failed", ""))
        marks = ("†" if way.get("how") == "launches" else "") + ("" if way["whole"] else "‡")
        ratio = f" ({way_us / base_us:.2f})" if base_us and name != base else ""
        return f"{way_us:.1f}{marks}{ratio}"
    return ""


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| "
        + " | ".join(str(value).replace("|", "\\|").replace("\n", " ") for value in line)
        + " |"
        for line in lines
    )


def bullets(lines: Iterable[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
