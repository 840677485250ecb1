"""Artifacts that take long to make, kept between runs under a digest of what they are made from.

A recipe is a function of a module beside this one. It runs in a process of its own and writes
files into the folder that it is given. Its digest covers the recipe's module, the source of every
module of ours that this imports in turn, versions, and the files that the recipe reads: what was
made from another source is never found. What is found is checked against the digests of its files
and copied for the run, so neither a damaged file nor a test that writes reaches another run.

Artifacts lie in ``$XDECODER_RT_TEST_CACHE``, or ``$XDG_CACHE_HOME/xdecoder_rt-tests`` (by default
``~/.cache/xdecoder_rt-tests``). An empty ``XDECODER_RT_TEST_CACHE`` keeps nothing between runs.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "XDECODER_RT_TEST_CACHE"
PACKAGE = "xdecoder_rt"
NAME = re.compile(rf"{PACKAGE}(\.\w+)+")
SUPPORT = Path(__file__).parent
VERSIONS = (
    *("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "onnxsim", "torch", "triton"),
    *("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
)
KEPT = 8  # of one recipe: several checkouts and branches share the folder
UNFINISHED = 3600  # seconds; copying takes none of them
_INDEX = "index.json"

Make = Callable[[Path], None]


class ArtifactCache:
    """A folder of artifacts, safe between processes.

    Args:
        folder: where they are kept.
        root: where recipes lie.
    """

    def __init__(self, folder: Path, root: Path = SUPPORT) -> None:
        self.folder = folder
        self.root = root

    def provide(self, recipe: str, destination: Path, *inputs: Path) -> Path:
        """Put an artifact's files into a folder: a copy of what is kept, or made anew.

        Args:
            recipe: ``module.function``; it is called with a folder and the inputs.
            destination: a folder that does not exist; it appears whole or not at all.
            inputs: files that the recipe reads.

        Returns:
            The destination.
        """

        def digest() -> str:
            return source_digest(recipe.partition(".")[0], inputs, self.root)

        def make(target: Path) -> None:
            _run(recipe, target, inputs, self.root)

        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent) as temporary:
            folder = Path(temporary, "made")
            folder.mkdir()
            self.fill(recipe, folder, digest, make)
            folder.rename(destination)
        return destination

    def fill(self, name: str, target: Path, digest: Callable[[], str], make: Make) -> None:
        """Fill an empty folder with what is kept under a digest, or make and keep it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = digest()
        entry = self.folder / f"{name}-{before}"
        if _copy_checked(entry, target):
            return
        # Who makes it of another source meanwhile is not waited for.
        with _locked(entry.with_name(f"{entry.name}.lock")):
            if _copy_checked(entry, target):
                return
            shutil.rmtree(entry, ignore_errors=True)
            make(target)
            if digest() == before:  # else a source was written meanwhile: of which is it made?
                self._keep(target, entry, name)

    def _keep(self, source: Path, entry: Path, name: str) -> None:
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        index = {path.relative_to(source).as_posix(): _sha256(path) for path in paths}
        try:
            with tempfile.TemporaryDirectory(
                dir=self.folder, prefix=f"{name}.making-"
            ) as temporary:
                shutil.copytree(source, Path(temporary, "entry", "files"))
                Path(temporary, "entry", _INDEX).write_text(json.dumps(index))
                Path(temporary, "entry").rename(entry)
            self._prune(name)
        except OSError as error:  # a full disk: the run has its copy
            print(f"{name} is not kept for the next run: {error}", file=sys.stderr)

    def _prune(self, name: str) -> None:
        """Remove all but the newest artifacts of a name, and what older runs left unfinished."""
        form = re.compile(re.escape(name) + r"-[0-9a-f]{64}")
        paths = list(self.folder.iterdir())
        entries = [path for path in paths if form.fullmatch(path.name)]
        entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in entries[KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        for path in paths:
            is_unfinished = path.name.startswith(f"{name}.making-")
            if is_unfinished and time.time() - path.stat().st_mtime > UNFINISHED:
                shutil.rmtree(path, ignore_errors=True)


def kept_folder() -> Path | None:
    """Return the folder that outlives a run, or None where there is none to rely on.

    That is where it cannot be written, and where others than this user may write.
    """
    setting = os.environ.get(VARIABLE)
    if setting == "":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(setting).absolute() if setting else Path(home, f"{PACKAGE}-tests")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    is_own = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if is_own and os.access(folder, os.W_OK) else None


def source_digest(module: str, inputs: Sequence[Path] = (), root: Path = SUPPORT) -> str:
    """Return the digest of all that a recipe's artifacts are made from.

    Args:
        module: the recipe's.
        inputs: files that it reads.
        root: where recipes lie.
    """
    lines = [f"{platform.python_version()} {sys.platform} {platform.machine()}"]
    for package in VERSIONS:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} is not installed")
    for name in sorted(imported_modules(module, root)):
        lines += [f"{name} {path.name} {_sha256(path)}" for path in _files(_spec(name, root))]
    lines += [f"{path.name} {_sha256(path)}" for path in inputs]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def imported_modules(module: str, root: Path = SUPPORT) -> set[str]:
    """Return a module and all of ours that it imports, in turn and inside functions too."""
    modules: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        spec = _spec(name, root)
        if spec is None:
            continue  # of another package, or a name inside a module
        modules.add(name)
        parent = name.rpartition(".")[0]
        waiting += [parent] if parent else []
        if spec.origin is not None and spec.origin.endswith(".py"):
            is_package = spec.submodule_search_locations is not None
            waiting += _imports(Path(spec.origin), name if is_package else parent)
    if module not in modules:
        raise ModuleNotFoundError(f"There is no recipe {module!r} in {root}")
    return modules


def _imports(path: Path, package: str) -> Iterator[str]:
    """Names that a source imports: modules, and names that may be modules."""
    for node in _executed(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        # Compiled loops are imported by name, and maybe their variant for the processor.
        elif isinstance(node, ast.Constant) and NAME.fullmatch(str(node.value)):
            yield from (str(node.value), f"{node.value}_avx2")


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node below one but those that only a type checker reads."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _executed(child)


@cache
def _spec(name: str, root: Path) -> ModuleSpec | None:
    """The spec of a module of ours, found without importing the packages that it is in."""
    parent = name.rpartition(".")[0]
    if not parent:
        return find_spec(name) if name == PACKAGE else PathFinder.find_spec(name, [str(root)])
    within = _spec(parent, root)
    if within is None or within.submodule_search_locations is None:
        return None
    if parent == PACKAGE:  # an editable install finds its packages with a finder of its own
        return find_spec(name)
    return PathFinder.find_spec(name, list(within.submodule_search_locations))


def _files(spec: ModuleSpec | None) -> Iterator[Path]:
    """A module's file, and a package's data beside its ``__init__``."""
    if spec is None or spec.origin is None:
        return
    path = Path(spec.origin)
    yield path
    if spec.submodule_search_locations is not None:
        code = (".py", ".pyc", ".pyx", ".so", ".pyd")
        beside = sorted(path.parent.iterdir())
        yield from (other for other in beside if other.is_file() and other.suffix not in code)


def _run(recipe: str, target: Path, inputs: Sequence[Path], root: Path) -> None:
    """Call a recipe in a new process, so that it is made of the sources as they are now."""
    command = [sys.executable, str(Path(__file__)), recipe, str(root), str(target)]
    process = subprocess.run([*command, *map(str, inputs)], capture_output=True, text=True)
    if process.returncode != 0:
        raise RuntimeError(f"{recipe} was not made:\n{process.stdout}\n{process.stderr}")


def _main(recipe: str, root: Path, target: Path, inputs: Sequence[Path]) -> None:
    sys.path.insert(0, str(root))
    module, _, function = recipe.partition(".")
    getattr(import_module(module), function)(target, *inputs)
    ours = {name for name in sys.modules if name.partition(".")[0] == PACKAGE}
    missed = sorted(ours - imported_modules(module, root))
    if missed:
        sys.exit(f"the digest of {recipe} does not follow {', '.join(missed)}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _copy_checked(entry: Path, target: Path) -> bool:
    """Copy an entry whose files are all as they were kept; False for any other."""
    files = entry / "files"
    try:
        index = json.loads((entry / _INDEX).read_text())
        paths = [path for path in files.rglob("*") if path.is_file()]
        contents = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
    except (OSError, ValueError):
        return False
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    if not digests or digests != index:
        return False
    for name, content in contents.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with suppress(OSError):  # it may go while it is copied
        os.utime(entry)
    return True


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), [Path(text) for text in sys.argv[4:]])
