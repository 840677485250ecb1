"""How many cores a process may use: affinity, and quotas of control groups of both versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xdecoder_rt import cores
from xdecoder_rt.backends import open_backend
from xdecoder_rt.pixels import bands
from xdecoder_rt.plan.file import Plan

V2 = "30 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"

Root = Callable[[dict[str, str]], Path]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Makes a file system of some files."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return make


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 cores, all of which the process may use."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)


def test_without_groups_the_affinity_counts(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.usable_cores(root({})) == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7})
    assert cores.usable_cores(root({})) == 3


def test_where_there_is_no_affinity_the_machine_counts(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.usable_cores(root({})) == 16


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000", 2),
        ("250000 100000", 3),  # a part of a core is one more
        ("1000 100000", 1),
        ("25000 5000", 5),
        ("6400000 100000", 16),  # more than there are
        ("max 100000", 16),
        ("", 16),
        ("garbage here", 16),
        ("-1 100000", 16),
        ("200000 0", 16),
    ],
)
def test_a_quota_of_version_2_limits(root: Root, quota: str, expected: int) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.max": quota,
    }
    assert cores.usable_cores(root(files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("150000", 2), ("-1", 16), ("", 16)])
def test_a_quota_of_version_1_limits(root: Root, quota: str, expected: int) -> None:
    files = {
        "proc/self/mountinfo": V1,
        "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/docker/abc\n0::/",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
    }
    assert cores.usable_cores(root(files)) == expected


@pytest.mark.parametrize("limited", ["user.slice", "user.slice/run.scope", ""])
def test_the_least_of_all_groups_around_it_counts(root: Root, limited: str) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/self/cgroup": "0::/user.slice/run.scope",
        "sys/fs/cgroup/user.slice/run.scope/cpu.max": "800000 100000",
    }
    files[str(Path("sys/fs/cgroup", limited, "cpu.max"))] = "300000 100000"
    assert cores.usable_cores(root(files)) == 3


def test_a_container_sees_its_group_at_the_top_of_the_mount(root: Root) -> None:
    files = {
        "proc/self/mountinfo": V1.replace(" / ", " /docker/abc ", 1),
        "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc/inner",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us": "100000",
    }
    assert cores.usable_cores(root(files)) == 2


@pytest.mark.parametrize("group", ["/kubepods/elsewhere", "/../../elsewhere"])
def test_a_group_that_cannot_be_seen_leaves_those_around_it(root: Root, group: str) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/self/cgroup": f"0::{group}",
        "sys/fs/cgroup/cpu.max": "200000 100000",
    }
    assert cores.usable_cores(root(files)) == 2


@pytest.mark.parametrize("name", ["cpu.max", "cpu/cpu.cfs_quota_us"])
def test_without_a_list_of_mounts_the_usual_places_count(root: Root, name: str) -> None:
    is_second = name == "cpu.max"
    files = {f"sys/fs/cgroup/{name}": "200000 100000" if is_second else "200000"}
    if not is_second:
        files["sys/fs/cgroup/cpu/cpu.cfs_period_us"] = "100000"
    assert cores.usable_cores(root(files)) == 2


def test_libraries_choose_by_themselves_where_all_cores_are_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores, "_quotas", lambda root: iter(()))
    assert cores.cores_if_limited() is None
    monkeypatch.setattr(cores, "_quotas", lambda root: iter((2.5,)))
    assert cores.cores_if_limited() == 3


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_backend_makes_no_more_threads_than_the_quota_allows(
    tiny_plan: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    pytest.importorskip(backend)
    monkeypatch.setattr(cores, "_quotas", lambda root: iter((3.0,)))
    with Plan.open(tiny_plan) as plan:
        opened = open_backend(plan.manifest, backend)
        chosen = open_backend(plan.manifest, backend, threads=5)
    if backend == "onnxruntime":
        found = [each._options.intra_op_num_threads for each in (opened, chosen)]
    else:
        found = [each._settings["INFERENCE_NUM_THREADS"] for each in (opened, chosen)]
    assert found == [3, 5]


def test_post_processing_makes_no_more_threads_than_the_quota_allows(
    tiny_plan: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from xdecoder_rt import Engine

    monkeypatch.setattr(cores, "_quotas", lambda root: iter((3.0,)))
    bands._pool.cache_clear()
    try:
        with Engine(tiny_plan, "onnxruntime", cache_dir=tmp_path) as engine:
            assert engine._runtime.threads == 3
        assert bands._pool()._max_workers == 3
    finally:
        bands._pool.cache_clear()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/job", "sys/fs/cgroup/job/memory.max": "max"}, None),
        ({"proc/self/cgroup": "0::/job", "sys/fs/cgroup/job/memory.max": "4096"}, 4096),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/memory.max": "8192",
            },
            8192,
        ),
        (
            {
                "proc/self/mountinfo": "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup x rw,memory",
                "proc/self/cgroup": "4:memory:/job",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "2048",
            },
            2048,
        ),
    ],
)
def test_the_least_limit_of_memory_of_all_groups_counts(
    files: dict[str, str], expected: int | None, root: Root
) -> None:
    mounts = {"proc/self/mountinfo": V2}
    assert cores.memory_limit(root({**mounts, **files})) == expected


def test_what_limits_the_cores_is_told_apart(root: Root) -> None:
    files = {"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/a"}
    limits = cores.core_limits(root({**files, "sys/fs/cgroup/a/cpu.max": "250000 100000"}))
    assert (limits.machine, limits.affinity, limits.quota, limits.usable) == (16, 16, 2.5, 3)
