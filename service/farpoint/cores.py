"""How many cores this process may use: what it is pinned to, and what its control group lets it have."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


def usable_cores(root: Path = _CGROUP, membership: Path = _SELF) -> int:
    """Return the cores that this process may use, at least 1.

    A container with a limit of two cores on a machine of 64 sees 64: as many threads would be stopped by the kernel
    most of the time, all at once.

    Parameters
    ----------
    root
        Where control groups are mounted.
    membership
        What tells which of them is ours.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [limit for folder in _groups(root, membership) if (limit := _limit(folder)) is not None]
    return max(1, min([pinned, *(math.ceil(limit) for limit in limits)]))


def _groups(root: Path, membership: Path) -> list[Path]:
    # Ours and all above it: each may set a limit. In a container `root` usually is our own already.
    folders = [root, root / "cpu"]
    try:
        lines = membership.read_text(encoding="ascii").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        folder = base / path.lstrip("/")
        while folder != base:
            folders.append(folder)
            folder = folder.parent
    return folders


def _limit(folder: Path) -> float | None:
    try:
        if (v2 := folder / "cpu.max").exists():
            quota, period = v2.read_text(encoding="ascii").split()
            return None if quota == "max" else int(quota) / int(period)
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if int(quota) > 0 else None
