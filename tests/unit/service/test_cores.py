"""Threads are as many as the cores that this process may really use."""

import os
from pathlib import Path

import pytest

from farpoint.cores import usable_cores


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("files", "membership", "cores"),
    [
        ({}, "", 64),
        ({"cpu.max": "max 100000"}, "0::/", 64),
        ({"cpu.max": "200000 100000"}, "0::/", 2),
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"cpu.max": "20000 100000"}, "0::/", 1),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 4),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "300000 100000"}, "0::/a/b", 3),
        ({"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x\n1:memory:/x", 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", 64),
        ({"cpu.max": "nonsense"}, "0::/", 64),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], membership: str, cores: int
) -> None:
    """Of 64 cores as many are used as the tightest group above us allows, version 1 or 2, rounded up."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    ours = tmp_path / "membership"
    ours.write_text(membership, encoding="ascii")
    assert usable_cores(tree(tmp_path / "cgroup", files), ours) == cores


def test_pinning_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that is pinned to three cores has three, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert usable_cores(tmp_path, tmp_path / "none") == 3
