"""The short cut of the chaos suite; `make chaos` is the full one."""

from pathlib import Path

import pytest

from tests.chaos.run import run

SEED = 942
"""Its first ten disruptions are of nine kinds of the ten."""


@pytest.mark.timeout(600)
def test_disruptions_change_nothing(tmp_path: Path) -> None:
    """Whatever is killed, stopped or paused: nothing accepted is lost, and every decision is as if undisturbed."""
    report = run(SEED, 10, tmp_path, brokers=3)
    assert report.problems == []
    assert report.disruptions.total() == 10
    assert len(report.disruptions) == 9
    assert report.decided > 2000
    assert report.alerts > 10
    assert report.dead_letters > 10
