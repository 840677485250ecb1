"""The processor's cores: how many of them this process may use.

A process may be held to some cores (its affinity), or to so much time on any of them (the quota of
a control group, which is how containers are limited). Everything that makes threads or processes by
the number of cores asks here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cores_if_limited", "usable_cores"]

_ROOT = Path("/")
# Where control groups lie when the list of mounts cannot be read: of version 2, then of version 1.
_USUAL_MOUNTS = (
    ("cgroup2", "sys/fs/cgroup"),
    ("cgroup", "sys/fs/cgroup/cpu"),
    ("cgroup", "sys/fs/cgroup/cpu,cpuacct"),
)


def usable_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use, at least 1.

    The least of the machine's cores, this process's affinity, and the quota of every control group
    that it is in, a part of a core counting as a whole one.

    Args:
        root: folder that stands for ``/``.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quotas = (math.ceil(quota) for quota in _quotas(root))
    return max(1, min((cores, *quotas)))


def cores_if_limited() -> int | None:
    """Return `usable_cores` where they are fewer than the machine's, else None.

    Libraries count the machine's cores by themselves, and better where they may use them all: they
    tell two threads of one core from two cores.
    """
    cores = usable_cores()
    return cores if cores < (os.cpu_count() or 1) else None


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control groups and of those around them, in cores."""
    own_groups = dict(_own_groups(root))
    for version, mount, top in _mounts(root):
        group = own_groups.get(version, PurePosixPath())
        # Inside a container the mount may begin at the container's group, and the group be told
        # from the top of the host.
        inner = group.relative_to(top) if group.is_relative_to(top) else group
        for part in (inner, *inner.parents):
            quota = _quota(root / mount / part, version)
            if quota is not None:
                yield quota


def _own_groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield the groups that hold this process, by the type of their file system."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", _relative(group)
        elif "cpu" in controllers.split(","):
            yield "cgroup", _relative(group)


def _mounts(root: Path) -> Iterator[tuple[str, str, PurePosixPath]]:
    """Yield where groups that limit the processor are mounted: type, place, the group at its top.

    Places are relative to the root.
    """
    lines = _lines(root / "proc/self/mountinfo")
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, (version, *more) = left.split(), right.split() or [""]
        options = more[-1].split(",") if more else []
        if len(fields) > 4 and (version == "cgroup2" or (version == "cgroup" and "cpu" in options)):
            place = fields[4].encode().decode("unicode_escape", "replace")
            yield version, place.lstrip("/"), _relative(fields[3])
    if not lines:
        for version, place in _USUAL_MOUNTS:
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
