"""What tests keep between runs: of the sources as they are, whole, and made once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import artifact_cache
import pytest
from artifact_cache import KEPT, VARIABLE, ArtifactCache, imported_modules, source_digest

RECIPE = "recipe.write"
# Counts how often it was made, and writes what its helper says and what it reads.
SOURCE = """
from pathlib import Path

def write(folder, *inputs):
    import helper

    with (Path(__file__).parent / "made").open("a") as made:
        made.write("x")
    (folder / "inner").mkdir()
    (folder / "inner" / "text").write_text(helper.TEXT + "".join(p.read_text() for p in inputs))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of recipes."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "recipe.py").write_text(SOURCE)
    (folder / "helper.py").write_text("TEXT = 'one'\n")
    return folder


@pytest.fixture
def provide(root: Path, tmp_path: Path) -> Callable[..., str]:
    """Provides the artifact into a new folder and returns what it holds."""

    def text(*inputs: Path) -> str:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        ArtifactCache(tmp_path / "kept", root).provide(RECIPE, folder, *inputs)
        (file,) = (path for path in folder.rglob("*") if path.is_file())
        return file.read_text()

    return text


def times_made(root: Path) -> int:
    made = root / "made"
    return len(made.read_text()) if made.exists() else 0


def kept_entries(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]


def test_an_artifact_is_made_once(root: Path, provide: Callable[..., str]) -> None:
    assert [provide(), provide()] == ["one", "one"]
    assert times_made(root) == 1


def test_a_kept_artifact_is_taken_without_waiting(
    root: Path, provide: Callable[..., str], tmp_path: Path
) -> None:
    assert provide() == "one"
    (path,) = (tmp_path / "kept").glob("*.lock")
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = threading.Thread(target=provide, daemon=True)
        run.start()
        run.join(60)
        assert not run.is_alive()
    assert times_made(root) == 1


def test_another_source_makes_another_artifact_and_the_old_one_the_old(
    root: Path, provide: Callable[..., str]
) -> None:
    assert provide() == "one"
    (root / "helper.py").write_text("TEXT = 'two'\n")
    assert provide() == "two"
    (root / "helper.py").write_text("TEXT = 'one'\n")
    assert provide() == "one"
    assert times_made(root) == 2


def test_another_input_makes_another_artifact(
    root: Path, provide: Callable[..., str], tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.write_text("+1")
    assert provide(given) == "one+1"
    given.write_text("+2")
    assert provide(given) == "one+2"
    assert times_made(root) == 2


@pytest.mark.parametrize("damage", ["changed", "missing", "more", "index", "empty"])
def test_a_damaged_artifact_is_made_again(
    root: Path, provide: Callable[..., str], tmp_path: Path, damage: str
) -> None:
    assert provide() == "one"
    (entry,) = kept_entries(tmp_path)
    file = entry / "files" / "inner" / "text"
    if damage == "changed":
        file.write_text("lie")
    elif damage == "missing":
        file.unlink()
    elif damage == "more":
        (file.parent / "other").write_text("lie")
    elif damage == "index":
        (entry / "index.json").write_text("{")
    else:
        file.unlink()
        (entry / "index.json").write_text("{}")
    assert provide() == "one"
    assert provide() == "one"
    assert times_made(root) == 2


def test_a_test_that_writes_changes_no_other_run(
    root: Path, provide: Callable[..., str], tmp_path: Path
) -> None:
    assert provide() == "one"
    for path in tmp_path.glob("run*/inner/text"):
        path.write_text("lie")
    assert provide() == "one"
    assert times_made(root) == 1


def test_a_recipe_that_fails_says_why_and_leaves_nothing(
    root: Path, provide: Callable[..., str], tmp_path: Path
) -> None:
    (root / "helper.py").write_text("raise ValueError('no text today')\n")
    with pytest.raises(RuntimeError, match="no text today"):
        provide()
    assert kept_entries(tmp_path) == []
    assert list(tmp_path.glob("run*")) == []


def test_a_source_that_changes_while_it_is_read_is_not_kept(
    root: Path, provide: Callable[..., str], tmp_path: Path
) -> None:
    (root / "recipe.py").write_text(SOURCE + "    Path(helper.__file__).write_text('TEXT = 2')\n")
    assert provide() == "one"
    assert kept_entries(tmp_path) == []


def test_old_artifacts_go(root: Path, provide: Callable[..., str], tmp_path: Path) -> None:
    for number in range(KEPT + 2):
        (root / "helper.py").write_text(f"TEXT = 'text {number}'\n")
        assert provide() == f"text {number}"
    left = tmp_path / "kept" / f"{RECIPE}.making-ended"
    left.mkdir()
    os.utime(left, (0, 0))
    (root / "helper.py").write_text("TEXT = 'last'\n")
    assert provide() == "last"
    assert not left.exists() and len(kept_entries(tmp_path)) == KEPT
    for number in range(KEPT + 1, 2, -1):
        (root / "helper.py").write_text(f"TEXT = 'text {number}'\n")
        assert provide() == f"text {number}"
    assert times_made(root) == KEPT + 3


def test_processes_that_meet_make_it_once(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from artifact_cache import ArtifactCache\n"
        "kept, root, folder = map(Path, sys.argv[1:])\n"
        f"ArtifactCache(kept, root).provide({RECIPE!r}, folder)"
    )
    environment = {**os.environ, "PYTHONPATH": str(artifact_cache.SUPPORT)}
    command = [sys.executable, "-c", code, str(tmp_path / "kept"), str(root)]
    runs = [
        subprocess.Popen([*command, str(tmp_path / f"run{number}")], env=environment)
        for number in range(3)
    ]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    assert times_made(root) == 1
    texts = [path.read_text() for path in tmp_path.glob("run*/inner/text")]
    assert texts == ["one"] * 3


def test_the_tiny_plan_follows_the_network_the_export_and_the_words_alone() -> None:
    followed = imported_modules("tiny_model")
    assert followed >= {
        "tiny_model",
        "xdecoder_rt.export.onnx_graphs",
        "xdecoder_rt.models.decoder",
        "xdecoder_rt.kernels.masked_attention.reference",
        "xdecoder_rt.pixels.letterbox",
        "xdecoder_rt.plan.manifest",
        "xdecoder_rt.tasks",
        "xdecoder_rt.words.tokenizer",
    }
    # What changes most often while somebody works on the runtime makes no new plan.
    assert not followed & {"xdecoder_rt.engine", "xdecoder_rt.runtime", "xdecoder_rt.results"}


@pytest.mark.parametrize("name", ["recipe", "package.inner", "package", "package.data"])
def test_the_digest_follows_every_source(root: Path, name: str) -> None:
    (root / "recipe.py").write_text("def write(_):\n    from package.inner import deep\n")
    (root / "package").mkdir()
    for file in ("__init__.py", "inner.py", "other.py"):
        (root / "package" / file).write_text("\n")
    (root / "package" / "data.json").write_text("{}")
    before = source_digest("recipe", root=root)
    (root / "package" / "other.py").write_text("# imported by nobody\n")
    assert source_digest("recipe", root=root) == before
    file = {
        "recipe": root / "recipe.py",
        "package": root / "package" / "__init__.py",
        "package.inner": root / "package" / "inner.py",
        "package.data": root / "package" / "data.json",
    }[name]
    file.write_text(file.read_text() + " \n")
    assert source_digest("recipe", root=root) != before


def test_the_digest_follows_versions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_digest("recipe", root=root)
    monkeypatch.setattr(artifact_cache, "version", lambda name: "0.1")
    assert source_digest("recipe", root=root) != before


def test_what_a_type_checker_alone_imports_is_not_followed(root: Path) -> None:
    lines = ["from typing import TYPE_CHECKING", "if TYPE_CHECKING:", "    import helper"]
    (root / "recipe.py").write_text("\n".join(lines))
    assert imported_modules("recipe", root) == {"recipe"}


def test_a_module_that_is_imported_by_its_name_is_followed(root: Path) -> None:
    code = "from importlib import import_module\nimport_module('xdecoder_rt.atomic')\n"
    (root / "recipe.py").write_text(code)
    assert "xdecoder_rt.atomic" in imported_modules("recipe", root)


def test_a_recipe_whose_imports_cannot_be_followed_is_refused(
    root: Path, provide: Callable[..., str]
) -> None:
    hidden = "from importlib import import_module\n"
    hidden += "import_module('xdecoder_rt.' + 'atomic')\nTEXT = ''\n"
    (root / "helper.py").write_text(hidden)
    with pytest.raises(RuntimeError, match=r"does not follow xdecoder_rt, xdecoder_rt\.atomic"):
        provide()


class TestWhereTheyAreKept:
    def test_the_variable_comes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv(VARIABLE, raising=False)
        assert artifact_cache.kept_folder() == tmp_path / "cache" / "xdecoder_rt-tests"
        monkeypatch.setenv(VARIABLE, str(tmp_path / "other"))
        assert artifact_cache.kept_folder() == tmp_path / "other"
        monkeypatch.setenv(VARIABLE, "")
        assert artifact_cache.kept_folder() is None

    def test_a_folder_that_others_may_write_is_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tmp_path.chmod(0o777)
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        assert artifact_cache.kept_folder() is None

    def test_a_folder_that_cannot_be_made_is_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
        assert artifact_cache.kept_folder() is None
