"""The number of CPU cores and the amount of memory available to this process."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_LIMIT = _CGROUP / "cpu.max"
_MEMINFO = Path("/proc/meminfo")


def available_cores(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return the smallest of the machine's cores, the process's affinity and its container's quota; at least 1.

    A container limited to two cores of a machine with 64 is slowed down by 64 threads, not sped up.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = min(cores, len(os.sched_getaffinity(0)))
    try:
        quota, period = cgroup_limit.read_text(encoding="ascii").split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        pass
    return max(1, cores)


def available_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes available on the machine and within the process's container; None if unknown.

    A container's cached files count as used memory until it is needed elsewhere, so inactive file memory is added.
    """
    known = [int(line.split()[1]) * 1024 for line in _lines(meminfo) if line.startswith("MemAvailable:")]
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        taken = int((cgroup / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        pass
    else:
        idle = [int(line.split()[1]) for line in _lines(cgroup / "memory.stat") if line.startswith("inactive_file ")]
        known.append(max(0, limit - taken + sum(idle)))
    return min(known, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
