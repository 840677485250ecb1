"""The notebooks in ``examples/``: without outputs, whole, and run under the slow marker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def cells_of(path: Path, kind: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def test_there_are_two() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"ask_a_picture", "my_twenty_pictures"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_is_small(path: Path) -> None:
    for cell in cells_of(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    assert path.stat().st_size < 8192


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_notebook_gives_all_its_names(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in cells_of(path, "code"))
    compile(text, path.name, "exec")
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F", "-"]
    done = subprocess.run(ruff, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: Path, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra docs")
    nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra docs")
    monkeypatch.setenv("XDECODER_RT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "examples"
    folder.mkdir()
    for picture in EXAMPLES.glob("workcell*.jpg"):
        shutil.copy(picture, folder)
    shutil.copy(tiny_plan, tmp_path / "model.plan")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any(output["output_type"] == "stream" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    if path.stem == "my_twenty_pictures":
        assert len(json.loads((folder / "found.json").read_text())["images"]) == 3
