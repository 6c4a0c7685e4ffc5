"""How many processor cores this process may keep busy, and how much memory it may still take."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_LIMIT = _CGROUP / "cpu.max"
_MEMINFO = Path("/proc/meminfo")


def available_cores(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Count the cores of the machine, of the process' affinity, and of its container's quota: the least, at least 1.

    A container that may use two cores' time of a machine with 64 is slowed by 64 threads, not sped up.
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
    """Return the bytes that the machine has available and the process' container leaves of them; None where unknown.

    Files that a container has read count as taken until the memory is needed: what is not in use of them is added.
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
