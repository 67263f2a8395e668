"""Grafana's boards: generated, about metrics that exist, and by the rules of Grafana's dashboard-linter.

The linter itself is a Go module that the module proxy does not serve, so its documented rules are checked here, each
under the linter's name for it. What departs from them is argued in `EXCEPTIONS`.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import units

from boards.__main__ import BOARDS, FOLDER, board_json
from farpoint.metrics_doc import exported_metrics, exported_name

ROOT = Path(__file__).parents[2]
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
PROMETHEUS = {"up", "ALERTS"}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}

EXCEPTIONS = {
    ("target-instance-rule", "Alerts that fire"): "most rules are about a job, so their alerts have no instance",
    ("target-rate-interval-rule", "$__range"): "tables count over the chosen time",
    ("target-rate-interval-rule", "[1h]"): "false alarms are one in a thousand: a rate over a minute is noise",
    ("template-job-rule", "allValue"): "`.+` for all jobs would bring `up` and `process_*` of everybody else along",
}

Board = dict[str, Any]


@pytest.fixture(params=sorted(BOARDS))
def board(request: pytest.FixtureRequest) -> Board:
    """Return each committed board in turn."""
    found = json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def panels(board: Board) -> list[dict[str, Any]]:
    """Return a board's panels that ask for something."""
    return [panel for panel in board["panels"] if panel.get("targets")]


def expressions(board: Board) -> list[tuple[str, str]]:
    """Return (panel, query) for each query of a board."""
    return [(panel["title"], target["expr"]) for panel in panels(board) for target in panel["targets"]]


def selectors(expression: str) -> dict[str, str]:
    """Return what is between braces behind each metric's name."""
    return dict(re.findall(r"\b((?:farpoint|process)_\w+|up|ALERTS)\{([^}]*)\}", expression))


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_the_committed_board_is_what_the_code_says(name: str) -> None:
    """`make docs` writes the boards; nobody edits the JSON."""
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == board_json(name)


def test_no_board_is_left_behind() -> None:
    """Every file among the boards is one that the code writes."""
    assert {file.stem for file in FOLDER.iterdir()} == set(BOARDS)


def test_uids_do_not_change(board: Board) -> None:
    """Addresses of boards, and links between them, stand on these."""
    assert board["uid"] in {"farpoint-overview", "farpoint-pipeline", "farpoint-detector", "farpoint-kafka"}
    assert board["uid"] == "farpoint-" + board["title"].removeprefix("Farpoint / ").lower()


def test_every_metric_exists(board: Board) -> None:
    """No query asks for a metric that no worker exports; nor for a histogram as if it were a counter."""
    known = PROCESS | PROMETHEUS
    for metric in exported_metrics():
        name = exported_name(metric)
        known |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if metric._type == "histogram" else {name}
    for title, expression in expressions(board):
        assert selectors(expression), title
        assert set(selectors(expression)) <= known, title


def test_every_metric_is_on_a_board() -> None:
    """What is exported is shown somewhere."""
    shown: set[str] = set()
    for file in FOLDER.iterdir():
        for _, expression in expressions(json.loads(file.read_text(encoding="utf-8"))):
            shown |= {re.sub("_(bucket|sum|count)$", "", name) for name in selectors(expression)}
    assert {exported_name(metric) for metric in exported_metrics()} <= shown


def test_template_datasource_rule(board: Board) -> None:
    """The data source is a variable."""
    [found] = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    assert (found["name"], found["label"], found["query"]) == ("datasource", "Data source", "prometheus")


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance_rules(board: Board, name: str) -> None:
    """Job and instance are variables: several or all can be chosen, and they follow the chosen time."""
    [found] = [each for each in board["templating"]["list"] if each["name"] == name]
    assert found["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert (found["type"], found["label"]) == ("query", name.capitalize())
    assert found["multi"]
    assert found["includeAll"]
    assert found["refresh"] == 2  # template-on-time-change-reload-rule
    assert re.fullmatch(r"label_values\(up\{[^}]+\}, \w+\)", found["query"])  # template-label-promql-rule


def test_uneditable_rule(board: Board) -> None:
    """What is edited in the browser is lost: the boards are code."""
    assert board["editable"] is False


def test_panel_rules(board: Board) -> None:
    """Each panel has a title, a description and the chosen data source; a unit that Grafana knows, and queries."""
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith(".")
        if panel["type"] == "text":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"]  # panel-no-targets-rule
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
        assert all(references)


def test_panels_do_not_overlap(board: Board) -> None:
    """On the grid of 24 columns each place belongs to one panel."""
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        places = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= places


def test_target_job_and_instance_rules(board: Board) -> None:
    """Every metric of every query is limited to the chosen jobs and instances."""
    for title, expression in expressions(board):
        for name, matchers in selectors(expression).items():
            assert 'job=~"$job"' in matchers, (title, name)
            if ("target-instance-rule", title) not in EXCEPTIONS:
                assert 'instance=~"$instance"' in matchers, (title, name)


def test_target_rate_interval_rule(board: Board) -> None:
    """Rates go by $__rate_interval, so that a window always holds scrapes enough."""
    for title, expression in expressions(board):
        for function, window in re.findall(r"\b(i?rate|increase)\(.*?\[([$\w]+)\]", expression):
            expected = {"$__range"} if function == "increase" else {"$__rate_interval", "1h"}
            assert window in expected, (title, expression)


def test_target_counter_agg_rule(board: Board) -> None:
    """A counter is shown by its growth, never bare, but for the one that says so in its title."""
    for title, expression in expressions(board):
        for found in re.finditer(r"(\w+)\((?:farpoint|process)_\w+_(?:total|bucket|sum|count)\{", expression):
            assert found[1] in {"rate", "increase"} or title == "Latest alerts by source", (title, expression)


def test_runbooks_that_panels_link_to_exist(board: Board) -> None:
    """A link leads to a page of docs/runbooks."""
    links = [link["url"] for panel in board["panels"] for link in panel.get("links") or []]
    assert links
    for link in links:
        assert (ROOT / "docs" / "runbooks" / link.removeprefix("${runbooks}/")).is_file(), link


def test_what_runbooks_call_by_name_exists() -> None:
    """In italics runbooks name panels, boards and sections: under that name they must be found."""
    shown = [json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.iterdir()]
    known = {panel["title"] for board in shown for panel in board["panels"]}
    known |= {board["title"].removeprefix("Farpoint / ") for board in shown}
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    known |= set(re.findall(r"^#+ (.+)$", pages, re.MULTILINE)) | set(
        re.findall(r"^\d\. \*\*(.+?)\.\*\*", pages, re.MULTILINE)
    )
    named = {
        " ".join(name.split())
        for page in (ROOT / "docs/runbooks").glob("*.md")
        for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert named <= known


def test_what_is_provisioned_fits() -> None:
    """Fixed uids, nothing editable in the browser, and the environment is asked for in values only."""
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    assert [(each["uid"], each["type"], each["editable"]) for each in sources] == [
        ("farpoint-prometheus", "prometheus", False),
        ("farpoint-alertmanager", "alertmanager", False),
    ]
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))["global"]
    assert sources[0]["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    [provider] = yaml.safe_load((folder / "dashboards" / "farpoint.yaml").read_text(encoding="utf-8"))["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
