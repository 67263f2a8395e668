"""Prometheus, Alertmanager and the boards' queries, with the shipped configuration, on a live worker."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.observed import DEPLOY, Observed, wait_until_filled
from tests.integration.worker_process import wait_for

from boards.preview import FOLDER, data_panels, draw_all

BOARDS = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in data_panels(board)
]


@pytest.fixture(scope="module")
def filled(seen: Observed) -> Observed:
    """Wait until there is something of everything to see."""
    wait_until_filled(seen)
    return seen


def run(*command: str | Path) -> None:
    """Run a checker; it must find nothing wrong."""
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_configuration_is_sound() -> None:
    """Prometheus's and Alertmanager's own checkers accept it, every rule and every target file."""
    run("promtool", "check", "config", "prometheus/prometheus.yml")
    run("promtool", "check", "rules", *sorted((DEPLOY / "prometheus" / "rules").glob("*.yml")))
    run("amtool", "check-config", "alertmanager/alertmanager.yml")


def test_each_alert_fires_when_it_should_and_not_otherwise() -> None:
    """The cases in deploy/prometheus/tests hold; tests/contract sees to it that there are cases for every alert."""
    run("promtool", "test", "rules", *sorted((DEPLOY / "prometheus" / "tests").glob("*.yml")))


@pytest.mark.parametrize(
    ("labels", "receiver"), [(["severity=critical"], "pager"), (["severity=warning"], "team"), ([], "team")]
)
def test_alerts_are_routed(labels: list[str], receiver: str) -> None:
    """Critical ones page, the others are for the next morning."""
    run("amtool", "config", "routes", "test", "--config.file=alertmanager/alertmanager.yml",
        f"--verify.receivers={receiver}", "alertname=Any", *labels)  # fmt: skip


def test_every_rule_is_evaluated(filled: Observed) -> None:
    """Prometheus has all rules, evaluates them without an error, and reaches the worker."""
    rules = [rule for group in filled.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [target["health"] for target in filled.get("targets")["activeTargets"]] == ["up"]


def test_a_healthy_worker_pages_nobody(filled: Observed) -> None:
    """Under the load nothing critical fires, though every `for` is ten seconds."""
    alerts = filled.get("alerts")["alerts"]
    assert [alert for alert in alerts if alert["labels"]["severity"] == "critical"] == []
    assert [path for path, _ in filled.webhook.pages if path == "/pager"] == []


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_has_data(filled: Observed, panel: dict[str, Any]) -> None:
    """Each query of each panel returns series with numbers in them."""
    for target in panel["targets"]:
        series = filled.queries.ask(target)
        assert series, target["expr"]
        assert any(np.isfinite(each.values).any() for each in series), target["expr"]


def test_the_boards_can_be_looked_at_without_grafana(filled: Observed, tmp_path: Path) -> None:
    """Each board becomes a picture."""
    files = draw_all(filled.queries, tmp_path)
    assert {file.stem for file in files} == set(BOARDS)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_a_killed_worker_pages_and_its_successor_ends_it(filled: Observed) -> None:
    """`kill -9`: the page arrives, with what it is about and what to do; with another worker there it is resolved."""
    filled.worker.kill()
    wait_for(lambda: filled.webhook.got("FarpointWorkerDown", "firing"), "the page")
    path, page = filled.webhook.got("FarpointWorkerDown", "firing")[0]
    assert path == "/pager"
    assert page["labels"]["job"] == "farpoint"
    assert page["annotations"] == {
        "summary": f"The worker 127.0.0.1:{filled.worker.port} does not answer.",
        "runbook_url": "docs/runbooks/worker-down.md",
    }
    assert "runbooks" not in page["labels"]
    wait_for(lambda: filled.webhook.got("FarpointPartitionsUnread", "firing"), "the page about what nobody reads")
    filled.worker = filled.start_worker()
    wait_for(lambda: filled.webhook.got("FarpointWorkerDown", "resolved"), "the end of the page")
    wait_for(lambda: filled.webhook.got("FarpointPartitionsUnread", "resolved"), "the end of the other")
