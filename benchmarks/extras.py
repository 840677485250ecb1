"""Which extras install from wheels alone: a table by Python and processor, by uv's resolver.

    pip install uv
    python benchmarks/extras.py                                # all, as Markdown
    python benchmarks/extras.py --extras tensorrt jetson --python 3.10 3.12
    python benchmarks/extras.py --json extras.json

Each cell is `uv pip compile --only-binary :all:` of the package's own requirements and the extra's,
for that Python and platform: nothing but metadata is downloaded. Where there is no wheel the cell
names the package; that package is then taken out, so that others show too. pip is not asked:
`pip install --dry-run` of releases before 26 downloads every wheel, and of any release reads
`python_version` and `platform_machine` in requirements as those of the Python that runs it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
SYSTEM = "manylinux_2_39"  # Ubuntu 24.04; wheels for an older one are taken as well
BASE = "(none)"
WHEELS = "wheels"
_MISSING = re.compile(
    r"Wheels are (?:required|available) for `([\w.-]+)`"
    r"|Because ([\w.-]+)(?:[=<>!~]\S*)? (?:has no \w+ ?wheels|was not found)"
)
_MOST_MISSING = 4


def requirements() -> dict[str, list[str]]:
    """Return what the package asks for alone, and with each extra."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = project["dependencies"]
    extras = project["optional-dependencies"]
    return {BASE: list(own), **{extra: [*own, *more] for extra, more in extras.items()}}


def cell(wanted: Sequence[str], python: str, processor: str, cache: Path) -> str:
    """Return ``wheels``, or the packages that have none."""
    left, missing = list(wanted), []
    while problem := resolve(left, python, processor, cache):
        named = _MISSING.search(problem)
        package = name_of(named[1] or named[2]) if named else ""
        kept = [one for one in left if name_of(one) != package]
        if not package or len(missing) == _MOST_MISSING:
            return ", ".join([*missing, f"? {problem.strip().splitlines()[-1][:120]}"])
        missing.append(package)
        if len(kept) == len(left):  # something that a requirement needs in its turn
            break
        left = kept
    return ", ".join(missing) or WHEELS


def name_of(requirement: str) -> str:
    """Return the normalised name of a requirement."""
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match.group() if match else requirement).lower()


def resolve(wanted: Sequence[str], python: str, processor: str, cache: Path) -> str:
    """Ask uv; return what it complains of, or nothing.

    What the index said in this run serves again: it is asked where that does not do.
    """
    # The newest of each, as for a new environment; what is installed here plays no part.
    command = [
        uv(), "pip", "compile", "-", "--no-config", "--no-python-downloads", "--no-progress",
        "--only-binary", ":all:", "--python-version", python, "--cache-dir", str(cache),
        "--python-platform", f"{processor}-{SYSTEM}",
    ]  # fmt: skip
    for online in (["--offline"], []):
        done = subprocess.run(
            [*command, *online], input="\n".join(wanted), capture_output=True, text=True
        )
        if done.returncode == 0:
            return ""
    return done.stderr or "no message"


def uv() -> str:
    """Return the program uv, of this environment before another."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if beside is None:
        sys.exit("uv is not installed. Fix: pip install uv")
    return beside


def main() -> int:
    """Print the table."""
    known = requirements()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--extras", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=list(PYTHONS))
    parser.add_argument("--json", type=Path, help="also write the cells to this file")
    options = parser.parse_args()
    places = [(python, processor) for processor in PROCESSORS for python in options.python]
    cells: dict[str, list[str]] = {}
    print("| extra | " + " | ".join(f"{p}, {machine}" for p, machine in places) + " |")
    print("| --- |" + " --- |" * len(places), flush=True)
    with tempfile.TemporaryDirectory() as cache:
        for extra in options.extras:
            cells[extra] = [cell(known[extra], *place, Path(cache)) for place in places]
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
