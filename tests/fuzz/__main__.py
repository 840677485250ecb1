"""Fuzz what this project reads: ``python tests/fuzz --runs 1000000 --jobs 2``.

Counts and findings are kept in a folder, so a run that was interrupted goes on where it was, and
a larger ``--runs`` adds to it. ``--graphs`` runs mutated plans instead, on ONNX Runtime and
OpenVINO; ``--guided TARGET`` has Atheris, where it is installed, choose the changes by coverage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BATCH = 1_000
SLOW_BATCH = 50


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("python tests/fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-results"), help="what is kept")
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("--reproduce", nargs=2, metavar=("TARGET", "FILE"), help="read one file")
    parser.add_argument("--guided", metavar="TARGET", help="choose changes by coverage (Atheris)")
    parser.add_argument("--graphs", type=int, metavar="PLANS", help="mutated plans to walk")
    parser.add_argument("--onnxruntime", type=int, default=5_000, help="of these run there")
    parser.add_argument("--openvino", type=int, default=300, help="and there")
    args = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # of the processes
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import parsers

    names = [target.name for target in parsers.available()]
    if args.list:
        for target in parsers.TARGETS:
            missing = "" if target.name in names else f" (needs {', '.join(target.needs)})"
            print(f"{target.name:16} {target.what}{missing}")
        return 0
    if args.reproduce:
        return _reproduce(*args.reproduce)
    if args.guided:
        import guided

        return guided.run(args.guided, args.runs, args.folder)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.graphs:
        import graph_runs

        return graph_runs.campaign(
            args.graphs, args.onnxruntime, args.openvino, args.jobs, args.folder
        )
    chosen = [target for target in parsers.available() if target.name in (args.targets or names)]
    return _Campaign(args.folder, args.jobs).run(chosen, args.runs)


def _reproduce(name: str, path: str) -> int:
    import tempfile

    import campaign
    import parsers

    target = next(each for each in parsers.TARGETS if each.name == name)
    data = Path(path).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        ending, finding = campaign.run_once(target, target.prepare(Path(folder)), data)
    print(finding.story if finding else ending)
    return 1 if finding else 0


class _Campaign:
    """Batches of all targets, spread over processes, with counts that outlive them.

    Args:
        folder: ``counts.json``, ``corpus/`` and ``findings/``.
        jobs: processes.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self._folder = folder
        self._jobs = jobs
        self._lock = threading.Lock()
        self._counts: dict[str, Any] = {}
        if (folder / "counts.json").is_file():
            self._counts = json.loads((folder / "counts.json").read_bytes())

    def run(self, targets: list[Any], runs: int) -> int:
        """Bring the targets to so many runs in all; return 1 if anything was found."""
        from tqdm import tqdm

        whole = sum(target.share for target in targets)
        goals = {target.name: -(-runs * target.share // whole) for target in targets}
        size = {t.name: BATCH if t.share >= 20 else SLOW_BATCH for t in targets}
        done = {name: self._counts.get(name, {}).get("runs", 0) for name in goals}
        left = sum(max(0, goals[name] - done[name]) for name in goals)
        batches = self._batches(goals, size)
        with tqdm(total=left, unit="run", smoothing=0.05) as bar:

            def work(_: int) -> None:
                from pool import Worker

                worker = Worker(seconds=90, memory=None, patience=900)
                try:
                    for name, number, count in batches:
                        bar.update(self._batch(worker, name, number, count))
                        bar.set_postfix(findings=self._findings())
                finally:
                    worker.close()

            with ThreadPoolExecutor(self._jobs) as threads:
                list(threads.map(work, range(self._jobs)))
        self._print(targets)
        return 1 if self._findings() else 0

    def _batches(
        self, goals: dict[str, int], size: dict[str, int]
    ) -> Iterator[tuple[str, int, int]]:
        """Batches of the target that lags most, one thread at a time."""

        def generate() -> Iterator[tuple[str, int, int]]:
            given = {name: self._counts.get(name, {}).get("runs", 0) for name in goals}
            numbers = {name: self._counts.get(name, {}).get("batches", 0) for name in goals}
            while lagging := [name for name in goals if given[name] < goals[name]]:
                name = min(lagging, key=lambda each: given[each] / goals[each])
                count = min(size[name], goals[name] - given[name])
                given[name] += count
                numbers[name] += 1
                yield name, numbers[name], count

        return _Locked(generate())

    def _batch(self, worker: Any, name: str, number: int, runs: int) -> int:
        from campaign import Finding, name_of
        from pool import DeathError

        corpus = self._folder / "corpus" / name
        kept = sorted(corpus.iterdir()) if corpus.is_dir() else []
        files = [path.read_bytes() for path in kept]
        try:
            batch = worker.do("campaign:run_batch", name, number, runs, files)
            findings, novel, count = list(batch.findings.values()), batch.novel, batch.runs
        except DeathError as death:
            findings = [Finding(name, "death", death.reason, death.reason, death.data)]
            batch, novel, count = None, [], 1
        with self._lock:
            entry = self._counts.setdefault(
                name,
                {
                    "runs": 0,
                    "batches": 0,
                    "results": 0,
                    "seconds": 0.0,
                    "endings": {},
                    "findings": {},
                },
            )
            entry["runs"] += count
            entry["batches"] = max(entry["batches"], number)
            if batch is not None:
                entry["results"] += batch.results
                entry["seconds"] += batch.seconds
                for ending, times in batch.endings.items():
                    entry["endings"][ending] = entry["endings"].get(ending, 0) + times
            for finding in findings:
                self._keep(finding, entry["findings"])
            corpus.mkdir(parents=True, exist_ok=True)
            for data in novel[: 256 - len(kept)]:
                (corpus / name_of(data)).write_bytes(data)
            temporary = self._folder / "counts.json.new"
            temporary.write_text(json.dumps(self._counts, indent=1))
            temporary.replace(self._folder / "counts.json")
        return count

    def _keep(self, finding: Any, known: dict[str, Any]) -> None:
        from campaign import name_of

        if finding.key not in known:
            file = self._folder / "findings" / f"{finding.target}-{name_of(finding.data)}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(finding.data)
            file.with_suffix(".txt").write_text(f"{finding.key}\n\n{finding.story}\n")
            known[finding.key] = {"file": file.name, "times": 0}
        known[finding.key]["times"] += 1

    def _findings(self) -> int:
        return sum(len(entry["findings"]) for entry in self._counts.values())

    def _print(self, targets: list[Any]) -> None:
        print("\n| target | what is read | runs | results | our errors | findings | ms a run |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        total = 0
        for target in targets:
            entry = self._counts[target.name]
            runs, found = entry["runs"], len(entry["findings"])
            errors = sum(n for e, n in entry["endings"].items() if e.endswith("Error"))
            milliseconds = 1e3 * entry["seconds"] / max(1, runs)
            print(
                f"| `{target.name}` | {target.what} | {runs:,} | {entry['results']:,} | {errors:,} "
                f"| {found} | {milliseconds:.2f} |"
            )
            total += runs
        print(f"\n{total:,} runs, {self._findings()} findings in {self._folder / 'findings'}")


class _Locked:
    """An iterator that threads share."""

    def __init__(self, inner: Iterator[Any]) -> None:
        self._inner = inner
        self._lock = threading.Lock()

    def __iter__(self) -> _Locked:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._inner)


if __name__ == "__main__":
    sys.exit(main())
