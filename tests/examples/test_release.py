"""What a release is made with: no secrets, no root, bases by version. No Docker builds it here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "examples" / "docker").glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_holds_no_secret_and_names_its_base_by_version(path: Path) -> None:
    steps = instructions(path)
    assert "Unverified" in path.read_text().splitlines()[0]
    bases = [value for name, value in steps if name == "FROM"]
    assert bases and all(re.search(r":[\w.-]*\d[\w.-]*$", base) for base in bases)
    names = [name for name, _ in steps]
    user = dict(steps)["USER"]
    assert user.isdigit() and int(user) >= 10_000
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not {"ADD", "ARG"} & set(names)
    assert not any("TOKEN" in value for name, value in steps)
    command = dict(steps)["CMD"]
    assert "serve" in command and "0.0.0.0" in command and "--no-token" not in command


def test_the_release_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", ROOT / "examples" / "release.sh"], check=True)


def test_cibuildwheel_builds_every_python_of_the_project_for_both_processors() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = {
        classifier.rpartition(" ")[2]
        for classifier in project["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", classifier)
    }
    settings = project["tool"]["cibuildwheel"]
    assert {f"cp{version.replace('.', '')}-*" for version in versions} == set(settings["build"])
    assert {"manylinux-x86_64-image", "manylinux-aarch64-image"} <= set(settings["linux"])
