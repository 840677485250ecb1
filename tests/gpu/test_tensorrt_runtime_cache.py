"""What TensorRT-RTX compiles is kept, and engines that allocate as they run are not captured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.backends import blobs
from xdecoder_rt.backends.cuda import context

if TYPE_CHECKING:
    from fake_tensorrt import Gpu

WORDS = ["a cat", "a dog"]
VERSION = "1.7.1.116"


@pytest.fixture
def rtx(gpu: Gpu) -> Any:
    """The fake module of TensorRT-RTX; its ``Runtime.compilations`` lists what was compiled."""
    return gpu.install("tensorrt_rtx", VERSION)


@pytest.fixture
def plan(rtx: Any, tiny_plan: Path, tmp_path: Path) -> Path:
    import fake_tensorrt

    made: Path = fake_tensorrt.tensorrt_plan(
        tiny_plan, tmp_path / "rtx.plan", backend="tensorrt_rtx", version=VERSION
    )
    return made


@pytest.fixture
def compiled(rtx: Any) -> Callable[[Callable[[], object]], int]:
    """How many kernels a call has compiled."""

    def count(call: Callable[[], object]) -> int:
        rtx.Runtime.compilations.clear()
        call()
        return len(rtx.Runtime.compilations)

    return count


def used(plan: Path, cache: Path | None) -> np.ndarray[Any, Any]:
    """Open an engine, segment a frame three times, close it; the map."""
    image = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)
    with Engine(plan, cache_dir=cache) as engine:
        return [engine.segment(image, WORDS).segmentation for _ in range(3)][-1]


def files(cache: Path) -> list[Path]:
    return sorted((cache / "tensorrt_rtx").glob("*/*.blob"))


def test_a_second_process_compiles_nothing(
    plan: Path, compiled: Callable[..., int], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first: list[Any] = []
    assert compiled(lambda: first.append(used(plan, cache))) > 0
    written = {path: path.read_bytes() for path in files(cache)}
    assert written
    again: list[Any] = []
    # Words are known by now, so no text graph is opened.
    assert compiled(lambda: again.append(used(plan, cache))) == 0
    np.testing.assert_array_equal(again[0], first[0])
    assert {path: path.read_bytes() for path in files(cache)} == written


def test_what_is_kept_is_this_users_alone(plan: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    used(plan, cache)
    for path in files(cache):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [other for other in path.parent.iterdir() if other.suffix != ".blob"] == []


def test_a_program_that_is_ended_has_kept_what_contexts_compiled(
    plan: Path, compiled: Callable[..., int], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    image = np.zeros((48, 80, 3), np.uint8)
    with Engine(plan, cache_dir=cache) as engine:
        engine.segment(image, WORDS)
        assert files(cache), "nothing is kept before the engine is closed"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(b"\0" * 4096),
        lambda path: path.write_bytes(b""),
        lambda path: path.chmod(0o666),
    ],
    ids=["cut off", "zeros", "empty", "writable by others"],
)
def test_a_broken_cache_is_thrown_away_and_made_again(
    damage: Callable[[Path], Any], plan: Path, compiled: Callable[..., int], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    used(plan, cache)
    written = {path: path.read_bytes() for path in files(cache)}
    for path in files(cache):
        damage(path)
    assert compiled(lambda: used(plan, cache)) > 0
    remade = {path: path.read_bytes() for path in files(cache)}
    # The text graph is not opened again; its file is as the damage left it.
    image = {path: data for path, data in remade.items() if not path.parent.name.startswith("text")}
    assert image == {path: data for path, data in written.items() if path in image}
    assert image
    assert compiled(lambda: used(plan, cache)) == 0


def test_a_cache_that_the_library_refuses_is_thrown_away(
    rtx: Any,
    plan: Path,
    compiled: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path / "cache"
    used(plan, cache)
    monkeypatch.setattr(rtx.IRuntimeCache, "deserialize", lambda self, blob: False)
    removed: list[str] = []
    remove = blobs.ModelBlobs.remove
    monkeypatch.setattr(
        blobs.ModelBlobs,
        "remove",
        lambda self, key: (removed.append(key), remove(self, key)),
    )
    assert compiled(lambda: used(plan, cache)) > 0
    assert removed
    # What was compiled anew took its place.
    assert len(files(cache)) >= len(set(removed))


@pytest.mark.parametrize("changed", ["driver", "name", "version", "engine"])
def test_other_drivers_gpus_versions_and_engines_have_caches_of_their_own(
    changed: str, rtx: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from types import SimpleNamespace

    from xdecoder_rt.backends.tensorrt.runtime_cache import KeptKernels

    def kept(**other: Any) -> KeptKernels:
        facts = context.DeviceFacts("GPU", "8.9", (13, 0))
        library: Any = SimpleNamespace(backend="tensorrt_rtx", version=VERSION)
        engine = other.pop("engine", b"engine")
        library.version = other.pop("version", VERSION)
        return KeptKernels(tmp_path, library, "vision", engine, replace(facts, **other))

    class Cache:
        data = b"kernels"

        def serialize(self) -> bytes:
            return self.data

        def deserialize(self, blob: Any) -> bool:
            self.read = bytes(blob)
            return True

    kept().take(Cache())
    same = Cache()
    kept().fill(same)
    assert same.read == b"kernels"
    other = Cache()
    values: dict[str, Any] = {
        "driver": {"cuda": (13, 1)},
        "name": {"name": "GPU 2"},
        "version": {"version": "1.8"},
        "engine": {"engine": b"another"},
    }
    kept(**values[changed]).fill(other)
    assert not hasattr(other, "read")


def test_where_nothing_can_be_kept_the_engine_runs_all_the_same(
    plan: Path, compiled: Callable[..., int], tmp_path: Path
) -> None:
    expected = used(plan, tmp_path / "cache")
    blocked = tmp_path / "blocked"
    blocked.mkdir(mode=0o700)
    (blocked / "tensorrt_rtx").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="not kept"):
        np.testing.assert_array_equal(used(plan, blocked), expected)
    assert compiled(lambda: used(plan, blocked)) > 0


# ---- CUDA graphs ----


@contextmanager
def counting_graphs(gpu: Gpu) -> Iterator[Callable[[], int]]:
    def launched() -> int:
        if gpu.is_stand_in:
            return int(sys.modules["cuda.bindings.driver"].state.launches)
        return len(gpu.machine.fake.log("cuGraphLaunch"))

    yield launched


def test_fixed_shapes_are_compiled_before_they_are_captured(
    gpu: Gpu, plan: Path, tmp_path: Path
) -> None:
    """The fake asserts that no fallback kernel gets into a CUDA graph."""
    with counting_graphs(gpu) as launched:
        used(plan, tmp_path / "cache")
        assert launched() > 0
    assert gpu.live() == (0, 0)


def allocating_plan(tiny_plan: Path, folder: Path) -> Path:
    """A plan of engines that older releases built, which allocate as they run."""
    import fake_tensorrt

    path: Path = fake_tensorrt.tensorrt_plan(
        tiny_plan,
        folder / "old.plan",
        backend="tensorrt_rtx",
        version=VERSION,
        allocates=True,
    )
    return path


def test_an_engine_that_allocates_as_it_runs_is_not_captured_and_right_all_the_same(
    gpu: Gpu, rtx: Any, plan: Path, tiny_plan: Path, tmp_path: Path
) -> None:
    """Engines that older releases built, without REQUIRE_USER_ALLOCATION."""
    old = allocating_plan(tiny_plan, tmp_path)
    expected = used(plan, tmp_path / "cache")
    with counting_graphs(gpu) as launched:
        before = launched()
        np.testing.assert_array_equal(used(old, tmp_path / "cache"), expected)
        assert launched() == before


def test_an_engine_that_allocates_fails_where_it_is_captured_nevertheless(
    gpu: Gpu, rtx: Any, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the question whether it can be captured; the work is then queued plainly."""
    from fake_tensorrt import library

    monkeypatch.setattr(library.RtxContext, "is_stream_capturable", lambda self, stream: True)
    old = allocating_plan(tiny_plan, tmp_path)
    with counting_graphs(gpu) as launched:
        used(old, None)
        assert launched() == 0
