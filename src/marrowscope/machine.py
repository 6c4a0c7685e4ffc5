"""How many processor cores this process may keep busy."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


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
