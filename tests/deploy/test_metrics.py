"""What a live worker exposes, judged by Prometheus's own tool."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from farpoint.child_process import ChildProcess
from farpoint.ports import free_ports


@pytest.fixture
def metrics_page(kafka: str, unique_domain: str, tmp_path: Path) -> str:
    """Start a worker, and return what its /metrics says."""
    [port] = free_ports(1)
    env = os.environ | {
        "FARPOINT_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "FARPOINT_KAFKA__GROUP_ID": unique_domain,
        "FARPOINT_TOPICS__DOMAIN": unique_domain,
        "FARPOINT_HTTP__PORT": str(port),
    }
    command = [sys.executable, "-m", "farpoint.cli"]
    subprocess.run([*command, "topics", "apply"], check=True, env=env, capture_output=True)
    worker = ChildProcess([*command, "worker"], name="the worker", error_output=tmp_path / "worker.log", env=env)
    with worker:
        worker.wait_for_line("worker ready", 120)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


def test_promtool_finds_nothing_wrong(metrics_page: str) -> None:
    """`promtool check metrics` accepts every name, type and help text."""
    checked = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 -- found on the path by `programs`
        input=metrics_page,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "farpoint_vectors_assigned_total" in metrics_page
