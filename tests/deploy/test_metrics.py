"""What a live worker exposes, judged by Prometheus's own tool."""

import subprocess

from tests.deploy.observed import Observed


def test_promtool_finds_nothing_wrong(seen: Observed) -> None:
    """`promtool check metrics` accepts every name, type and help text."""
    _, _, page = seen.worker.get("/metrics")
    ours = "".join(line for line in page.splitlines(keepends=True) if "process_" not in line.partition("{")[0])
    checked = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 -- found on the path by `programs`
        input=ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "farpoint_vectors_assigned_total" in ours
