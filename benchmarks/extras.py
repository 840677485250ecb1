"""Which extras install from wheels alone: a table by Python and processor, by pip's own resolver.

    python benchmarks/extras.py                                # all, as Markdown
    python benchmarks/extras.py --extras tensorrt jetson --python 3.10 3.12
    python benchmarks/extras.py --json extras.json

Each cell is `pip install --dry-run --report` for that Python and platform with wheels alone: pip
asks the index for metadata, and neither downloads nor installs a package. Where it finds no wheel
the cell names the package; that package is then taken out, so that others show too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
GLIBC = range(17, 40)  # 2.17, the oldest that wheels are made for, to 2.39 of Ubuntu 24.04
BASE = "(none)"
WHEELS = "wheels"
_MISSING = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([\w.-]+)")
_MOST_MISSING = 4


def requirements() -> dict[str, list[str]]:
    """Return what each extra asks for beside the package's own requirements, which are a row."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {BASE: list(project["dependencies"]), **project["optional-dependencies"]}


def cell(wanted: Sequence[str], python: str, processor: str) -> str:
    """Return ``wheels``, or the packages that have none."""
    left, missing = list(wanted), []
    while True:
        problem = resolve(left, python, processor) if left else ""
        if not problem:
            return ", ".join(missing) or WHEELS
        named = _MISSING.search(problem)
        if named is None or len(missing) == _MOST_MISSING:
            last = problem.strip().splitlines()[-1]
            return ", ".join([*missing, f"? {last[:120]}"])
        missing.append(named.group(1))
        kept = [one for one in left if name_of(one) != name_of(named.group(1))]
        if len(kept) == len(left):  # something that a requirement needs in its turn
            return ", ".join(missing)
        left = kept


def name_of(requirement: str) -> str:
    """Return the normalised name of a requirement."""
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match.group() if match else requirement).lower()


def resolve(wanted: Sequence[str], python: str, processor: str) -> str:
    """Ask pip; return what it complains of, or nothing."""
    platforms = [f"manylinux_2_{minor}_{processor}" for minor in reversed(GLIBC)]
    platforms += [f"manylinux2014_{processor}", f"linux_{processor}"]
    with tempfile.TemporaryDirectory() as folder:
        # The newest of each, as for a new environment; what is installed here plays no part.
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed",
            "--report", str(Path(folder) / "report.json"), "--only-binary=:all:",
            "--implementation", "cp", "--python-version", python, "--target", folder,
            *(option for name in platforms for option in ("--platform", name)), *wanted,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr or "no message"


def main() -> int:
    """Print the table."""
    known = requirements()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--extras", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=list(PYTHONS))
    parser.add_argument("--jobs", type=int, default=1, help="resolvers at a time (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the cells to this file")
    options = parser.parse_args()
    places = [(python, processor) for processor in PROCESSORS for python in options.python]
    cells: dict[str, list[str]] = {}
    print("| extra | " + " | ".join(f"{p}, {machine}" for p, machine in places) + " |")
    print("| --- |" + " --- |" * len(places), flush=True)
    for extra in options.extras:
        with ThreadPoolExecutor(options.jobs) as pool:
            found = [pool.submit(cell, known[extra], *place) for place in places]
        cells[extra] = [one.result() for one in found]
        print(f"| {extra} | " + " | ".join(cells[extra]) + " |", flush=True)
    if options.json:
        named = {
            extra: {
                f"{p}-{machine}": found for (p, machine), found in zip(places, row, strict=True)
            }
            for extra, row in cells.items()
        }
        options.json.write_text(json.dumps(named, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
