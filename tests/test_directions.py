"""Who may import whom: the contracts of pyproject.toml, and that each of them can be broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed (extra: dev)")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "xdecoder_rt"
INSIDE_WHEN_INSTALLED = ("kernels", "export", "calibration")

LAYERS = "A lower room never imports a higher one, and every room has its place"
SIBLINGS = "No circle of files or folders, at any depth"
ENGINE = "The network, the data sets, the scenes and the frames know neither plan nor engine"
BACKENDS = "Backends: TensorRT stands on CUDA, the fallback on the two that it tries"
KERNELS = "A kernel knows no other kernel"

LAUNCHER = (f"{PACKAGE}.export.build_engine", f"{PACKAGE}.cli")


def folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's sources in the shape of the wheel, also of an editable install."""
    root = tmp_path_factory.mktemp("installed")
    for name in ("", *INSIDE_WHEN_INSTALLED):
        source = folder_of(f"{PACKAGE}.{name}".rstrip("."))
        for file in source.rglob("*.py"):
            target = root / PACKAGE / name / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    return root


@pytest.fixture
def tree(installed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(installed, tmp_path / "tree")


def python(code: str, *arguments: str, tree: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` where the tree is the package, whatever way this one is installed."""
    # -S: without the finder of an editable install, which comes before any path.
    path = os.pathsep.join([str(tree), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "250"},
        capture_output=True,
        text=True,
    )


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return python(code, "--no-cache", tree=tree)


def edges(tree: Path) -> list[tuple[str, str]]:
    """Importer and imported of every import between modules of the package."""
    code = f"""
import grimp
graph = grimp.build_graph("{PACKAGE}", cache_dir=None)
for module in sorted(graph.modules):
    for imported in sorted(graph.find_modules_directly_imported_by(module)):
        print(module, imported)
"""
    done = python(code, tree=tree)
    assert done.returncode == 0, done.stderr
    pairs = (line.split() for line in done.stdout.splitlines())
    return [(importer, imported) for importer, imported in pairs]


def refuse_circles(arrows: Iterable[tuple[str, str]]) -> None:
    graph = defaultdict(set)
    for importer, imported in arrows:
        graph[importer].add(imported)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def siblings(importer: str, imported: str) -> tuple[str, str] | None:
    """The two files or rooms of one folder that an import goes between; None inside a package."""
    ours, theirs = importer.split("."), imported.split(".")
    for depth, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1):
        if a != b:
            return ".".join(ours[:depth]), ".".join(theirs[:depth])
    return None


def test_the_package_as_installed_keeps_every_contract(installed: Path) -> None:
    done = lint(installed)
    assert done.returncode == 0, done.stdout + done.stderr
    for contract in (LAYERS, SIBLINGS, ENGINE, BACKENDS, KERNELS):
        assert f"{contract} KEPT" in done.stdout
    assert "Contracts: 5 kept, 0 broken." in done.stdout
    assert f"Analyzed {len(list(installed.rglob('*.py')))} files" in done.stdout


def test_nothing_is_ignored_but_the_launcher() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    ignored = [arrow for one in settings["contracts"] for arrow in one.get("ignore_imports", [])]
    assert set(ignored) == {" -> ".join(LAUNCHER)}
    assert settings.keys() == {"root_package", "contracts"}  # imports for types count as well
    kinds = {one["name"]: one["type"] for one in settings["contracts"]}
    assert kinds[LAYERS] == "layers" and kinds[SIBLINGS] == "acyclic_siblings"


def test_there_is_no_circle_of_files_or_of_folders(installed: Path) -> None:
    arrows = edges(installed)
    assert LAUNCHER in arrows
    refuse_circles(arrows)
    between = (siblings(*arrow) for arrow in arrows if arrow != LAUNCHER)
    refuse_circles(pair for pair in between if pair is not None)


IN_A_FUNCTION = "def later() -> None:\n    import {}\n"
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\n"


@pytest.mark.parametrize(
    ("importer", "imported", "form", "contract"),
    [
        ("export.portable", "cli", "import {}", LAYERS),
        ("calibration.sets", "export", "import {}", LAYERS),
        ("models.config", "export", "import {}", LAYERS),
        ("words.word", "runtime", IN_A_FUNCTION, LAYERS),
        ("plan.archive", "engine", FOR_TYPES, LAYERS),
        ("datasets.items", "engine", IN_A_FUNCTION, ENGINE),
        ("words.word", "words.vocabulary", IN_A_FUNCTION, SIBLINGS),
        ("backends.cuda.values", "backends.tensorrt.lane", "import {}", BACKENDS),
        ("kernels.frame_resize.specs", "kernels.panoptic_map.specs", "import {}", KERNELS),
    ],
)
def test_a_planted_import_breaks_a_contract(
    tree: Path, importer: str, imported: str, form: str, contract: str
) -> None:
    source = tree / PACKAGE / f"{importer.replace('.', '/')}.py"
    with source.open("a") as file:
        file.write("\n" + form.format(f"{PACKAGE}.{imported}") + "\n")
    done = lint(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
    if contract != SIBLINGS:
        assert f"{PACKAGE}.{importer} -> {PACKAGE}.{imported}" in done.stdout


def test_a_room_without_a_place_breaks_the_layers(tree: Path) -> None:
    room = tree / PACKAGE / "attic"
    room.mkdir()
    (room / "__init__.py").write_text('"""What has no place."""\n')
    done = lint(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{LAYERS} BROKEN" in done.stdout
    assert "attic" in done.stdout
