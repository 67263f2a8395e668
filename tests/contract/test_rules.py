"""Prometheus's rules: each alert says how bad it is and what to do, is about metrics that exist, and is tested."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from farpoint.metrics_doc import exported_metrics, exported_name

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"


def _rules() -> list[dict[str, Any]]:
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in _rules() if "record" in rule}


def _tested() -> dict[str, list[bool]]:
    """Return for each alert whether the cases of its tests fire."""
    found: dict[str, list[bool]] = {}
    for file in sorted((PROMETHEUS / "tests").glob("*.yml")):
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", []):
                found.setdefault(case["alertname"], []).append(bool(case["exp_alerts"]))
    return found


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_it_must(name: str) -> None:
    """CamelCase, a time it must hold, a severity that Alertmanager routes, one sentence, and a runbook that exists."""
    rule = ALERTS[name]
    assert re.fullmatch(r"Farpoint([A-Z][a-z]+)+", name)
    assert rule["for"]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert rule["annotations"]["summary"].endswith(".")
    page = rule["annotations"]["runbook_url"].removeprefix("{{ $externalLabels.runbooks }}/")
    text = (RUNBOOKS / page).read_text(encoding="utf-8")
    assert f"`{name}`" in text, "the runbook does not name the alert"


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_is_tested_firing_and_silent(name: str) -> None:
    """At least one case in which it fires and one in which it must not."""
    assert set(_tested().get(name, [])) == {True, False}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_names(name: str) -> None:
    """level:metric:operation, where the level is the labels that are left."""
    level, metric, operation = name.split(":")
    assert set(level.split("_")) <= {"job", "topic"}
    assert metric.startswith("farpoint_")
    assert re.fullmatch(r"(sum|rate5m|ratio_rate1[05]m|p95_rate5m)", operation)
    labels = ", ".join(level.split("_"))
    assert f"by ({labels})" in RECORDED[name]["expr"] or f"by ({labels}, le)" in RECORDED[name]["expr"]


def test_every_metric_exists() -> None:
    """No rule asks for a metric that no worker exports."""
    known = {"up", "process_start_time_seconds", *RECORDED}
    for metric in exported_metrics():
        name = exported_name(metric)
        known |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if metric._type == "histogram" else {name}
    for rule in _rules():
        asked = set(re.findall(r"(?:\w+:)?\b(?:farpoint|process)_\w+(?::\w+)?", rule["expr"]))
        assert asked or "up{" in rule["expr"]
        assert asked <= known, rule


def test_inhibited_alerts_exist() -> None:
    """A misspelt name in Alertmanager's configuration would inhibit nothing, in silence."""
    config = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
    matchers = [text for rule in config["inhibit_rules"] for text in rule["source_matchers"] + rule["target_matchers"]]
    names = {name for text in matchers for name in re.findall(r"Farpoint\w+", text)}
    assert names
    assert names <= set(ALERTS)
