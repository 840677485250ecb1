"""Cores and memory that this process may use.

A process may be held to some cores (its affinity), or to so much time on any of them (the quota of
a control group, which is how containers are limited). Everything that makes threads or processes by
the number of cores asks here. Groups limit memory in the same way.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["CoreLimits", "core_limits", "cores_if_limited", "memory_limit", "usable_cores"]

_ROOT = Path("/")
# Where control groups lie when the list of mounts cannot be read: of version 2, then of version 1.
_USUAL_MOUNTS = {
    "cpu": (
        ("cgroup2", "sys/fs/cgroup"),
        ("cgroup", "sys/fs/cgroup/cpu"),
        ("cgroup", "sys/fs/cgroup/cpu,cpuacct"),
    ),
    "memory": (("cgroup2", "sys/fs/cgroup"), ("cgroup", "sys/fs/cgroup/memory")),
}
_MEMORY_FILES = {"cgroup2": "memory.max", "cgroup": "memory.limit_in_bytes"}
# Version 1 writes "no limit" as the largest number of pages.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class CoreLimits:
    """What limits the cores of this process.

    Attributes:
        machine: cores of the machine.
        affinity: cores that this process may run on.
        quota: least quota of the control groups that it is in, in cores; None without one.
    """

    machine: int
    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """Return the least of these, at least 1; a part of a core counts as a whole one."""
        quota = self.affinity if self.quota is None else math.ceil(self.quota)
        return max(1, min(self.affinity, quota))


def usable_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use, at least 1.

    The least of the machine's cores, this process's affinity, and the quota of every control group
    that it is in, a part of a core counting as a whole one.

    Args:
        root: folder that stands for ``/``.
    """
    return core_limits(root).usable


def core_limits(root: Path = _ROOT) -> CoreLimits:
    """Return the cores of the machine, and what holds this process to fewer.

    Args:
        root: folder that stands for ``/``.
    """
    machine = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    return CoreLimits(machine, affinity, min(_quotas(root), default=None))


def memory_limit(root: Path = _ROOT) -> int | None:
    """Return the least limit of memory of this process's control groups, bytes; None without one.

    Args:
        root: folder that stands for ``/``.
    """
    limits = []
    for version, folder in _group_folders(root, "memory"):
        for line in _lines(folder / _MEMORY_FILES[version]):
            if line.strip().isdecimal() and int(line) < _NO_LIMIT:
                limits.append(int(line))
    return min(limits, default=None)


def cores_if_limited() -> int | None:
    """Return `usable_cores` where they are fewer than the machine's, else None.

    Libraries count the machine's cores by themselves, and better where they may use them all: they
    tell two threads of one core from two cores.
    """
    cores = usable_cores()
    return cores if cores < (os.cpu_count() or 1) else None


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control groups and of those around them, in cores."""
    for version, folder in _group_folders(root, "cpu"):
        quota = _quota(folder, version)
        if quota is not None:
            yield quota


def _group_folders(root: Path, controller: str) -> Iterator[tuple[str, Path]]:
    """Yield the folders of this process's control groups and of those around them, by version."""
    own_groups = dict(_own_groups(root, controller))
    for version, mount, top in _mounts(root, controller):
        group = own_groups.get(version, PurePosixPath())
        # Inside a container the mount may begin at the container's group, and the group be told
        # from the top of the host.
        inner = group.relative_to(top) if group.is_relative_to(top) else group
        for part in (inner, *inner.parents):
            yield version, root / mount / part


def _own_groups(root: Path, controller: str) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield the groups that hold this process, by the type of their file system."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", _relative(group)
        elif controller in controllers.split(","):
            yield "cgroup", _relative(group)


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str, PurePosixPath]]:
    """Yield where groups with a controller are mounted: type, place, the group at its top.

    Places are relative to the root.
    """
    lines = _lines(root / "proc/self/mountinfo")
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, (version, *more) = left.split(), right.split() or [""]
        options = more[-1].split(",") if more else []
        is_ours = version == "cgroup2" or (version == "cgroup" and controller in options)
        if len(fields) > 4 and is_ours:
            place = fields[4].encode().decode("unicode_escape", "replace")
            yield version, place.lstrip("/"), _relative(fields[3])
    if not lines:
        for version, place in _USUAL_MOUNTS[controller]:
            yield version, place, PurePosixPath()


def _relative(group: str) -> PurePosixPath:
    """Return a group's path without a beginning slash, nor steps out of what can be seen."""
    return PurePosixPath(*(part for part in group.split("/") if part not in ("", ".", "..")))


def _quota(folder: Path, version: str) -> float | None:
    """Return the quota of one group, in cores, or None where it has none."""
    if version == "cgroup2":
        words = " ".join(_lines(folder / "cpu.max")).split()
    else:
        words = [
            line
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            for line in _lines(folder / name)
        ]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max 100000", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
