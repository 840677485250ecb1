"""What an installation puts on the path: the one name xdecoder_rt."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import xdecoder_rt

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, *options: str, folder: Path) -> str:
    """What `code` prints in an interpreter of its own, started in `folder`."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["kernels", "export", "calibration"])
def test_the_folders_beside_the_package_are_inside_it_and_nowhere_else(
    name: str, tmp_path: Path
) -> None:
    code = f"""
import importlib, importlib.util
print(importlib.import_module("xdecoder_rt.{name}").__name__, importlib.util.find_spec("{name}"))
"""
    assert python(code, "-I", folder=tmp_path) == f"xdecoder_rt.{name} None"


@pytest.mark.parametrize("where", ["elsewhere", "in the checkout"])
def test_no_module_is_loaded_twice(where: str, tmp_path: Path) -> None:
    # "python -m" and "python -c" in a checkout find the checkout's folder before the installed one.
    code = """
import collections, os, sys
import xdecoder_rt.masks.postprocess
import xdecoder_rt.kernels, xdecoder_rt.export, xdecoder_rt.calibration
files = [(n, getattr(m, "__file__", None)) for n, m in list(sys.modules.items())]
files = [(n, os.path.realpath(f)) for n, f in files if f and n.partition(".")[0] == "xdecoder_rt"]
counts = collections.Counter(file for _, file in files)
print(len(files) > 5, [name for name, file in files if counts[file] > 1])
"""
    folder = ROOT if where == "in the checkout" else tmp_path
    assert python(code, folder=folder) == "True []"


def test_post_processing_needs_no_framework(tmp_path: Path) -> None:
    code = """
import sys, xdecoder_rt.masks.postprocess
print(sorted({"torch", "onnx", "scipy", "matplotlib", "cv2", "onnxruntime"} & set(sys.modules)))
"""
    assert python(code, folder=tmp_path) == "[]"


def test_the_version_is_the_installed_one() -> None:
    assert xdecoder_rt.__version__ == version("xdecoder_rt")


def test_extras_are_found_by_every_pip() -> None:
    # Metadata names them with hyphens; pip before 23.3 looks for what was typed.
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    assert not [name for name in extras if "_" in name]
    asked = re.findall(r'"\.\[(.+?)\]"', (ROOT / "README.md").read_text())
    assert asked and extras.issuperset(name for names in asked for name in names.split(","))


def test_pycuda_is_asked_for_by_its_own_extra_and_by_jetsons_alone() -> None:
    """It is compiled where it is installed, against a CUDA toolkit, which a Jetson has."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asking = {name for name, wanted in extras.items() if any("pycuda" in one for one in wanted)}
    assert asking == {"pycuda", "jetson"}
    for extra in ("tensorrt", "tensorrt-rtx", "jetson"):
        assert any(name.startswith("cuda-bindings") for name in extras[extra]), extra


@pytest.mark.slow
def test_a_wheel_adds_one_name(tmp_path: Path) -> None:
    for tool in ("scikit_build_core", "Cython"):
        if find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed (extra: dev)")
    command = "wheel . --no-deps --no-build-isolation --disable-pip-version-check -q -w"
    subprocess.run(
        [sys.executable, "-m", "pip", *command.split(), str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    top = {name.split("/")[0] for name in files}
    assert {name for name in top if not name.endswith(".dist-info")} == {"xdecoder_rt"}
    expected = ["py.typed", "assets/clip_bpe_merges.txt.gz", "assets/classes/coco-133.txt"]
    expected += [f"{folder}/__init__.py" for folder in ("kernels", "export", "calibration")]
    assert {f"xdecoder_rt/{name}" for name in expected} <= files
    for extension in ("masks/_postprocess", "masks/_pieces", "masks/_tracks", "pixels/_scale"):
        assert any(name.startswith(f"xdecoder_rt/{extension}.") for name in files)
    assert not [name for name in files if name.endswith((".pyx", ".pyc"))]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_constraint_pins_one_version_a_python_that_the_project_accepts(python: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 and later read TOML")
    pins: dict[str, str] = {}
    for line in Path(ROOT, "constraints.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            (specifier,) = pin.specifier
            assert specifier.operator == "==" and canonicalize_name(pin.name) not in pins, line
            pins[canonicalize_name(pin.name)] = specifier.version
    project = tomllib.loads(Path(ROOT, "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *itertools.chain.from_iterable(extras.values())]:
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        assert version is None or requirement.specifier.contains(version), text
    # The last that run on Python 3.10, which JetPack 6 has; others have gone on.
    assert (pins["numpy"] == "2.2.6") == (python == "3.10")
