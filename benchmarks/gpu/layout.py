"""Lays the wheel's tree out in a folder, with nothing but the standard library.

    python benchmarks/gpu/layout.py REPOSITORY FOLDER

leaves ``FOLDER/xdecoder_rt`` as the wheel has it, but for the compiled extensions, which the
kernels do not need; ``FOLDER/gpu``, this runbook; and ``FOLDER/tests``, what its tests need.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

UNWANTED = shutil.ignore_patterns("__pycache__", "*.py[cod]", "*.pyx", "*.so", "_postprocess*.c")
"""What a wheel excludes, and what builds leave in a tree."""
PACKAGES = r"^\[tool\.scikit-build\.wheel\.packages\]\n((?:[^\[\n].*\n|\n)*)"


def packages(pyproject: str) -> dict[str, str]:
    """Where the wheel puts which folders of the tree: ``{"xdecoder_rt/kernels": "kernels", ...}``.

    Read without ``tomllib``, which the Python of JetPack 6 lacks.
    """
    table = re.search(PACKAGES, pyproject, re.MULTILINE)
    found = re.findall(r'^"([^"]+)" = "([^"]+)"', table[1], re.MULTILINE) if table else []
    if not found:
        raise ValueError("pyproject.toml has no [tool.scikit-build.wheel.packages]")
    return dict(found)


def lay_out(root: Path, folder: Path) -> None:
    """Copy what the runbook needs of the tree at ``root``."""
    laid = packages((root / "pyproject.toml").read_text(encoding="utf-8"))
    laid |= {"gpu": "benchmarks/gpu"}
    laid |= {f"tests/{name}": f"tests/{name}" for name in ("kernels", "support/fake_cuda")}
    for target, source in laid.items():
        shutil.copytree(root / source, folder / target, ignore=UNWANTED, dirs_exist_ok=True)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))
