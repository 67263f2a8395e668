"""What docs/delivery.md shows people to do, done."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.worker_process import Topics

PAGE = Path(__file__).parents[2] / "docs/delivery.md"


def test_what_the_page_says_a_test_holds() -> None:
    """Every scenario of the page names tests, and they are there."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (PAGE.parents[1] / "tests").rglob("test_*.py"))
    table = PAGE.read_text(encoding="utf-8").partition("## When something dies")[2].partition("\n\nThe session")[0]
    rows = [line.split("|")[1:-1] for line in table.strip().splitlines()[2:]]
    assert len(rows) > 10
    for what, *_, held_by in rows:
        tests = re.findall(r"`(test_\w+)`", held_by)
        assert tests, f"nothing holds: {what}"
        assert [name for name in tests if f"def {name}(" not in sources] == []


class _EnoughError(Exception):
    pass


def test_the_example_pages_once(topics: Topics) -> None:
    """The page's example, word for word but for the address and the topic, pages once for an alert that comes twice."""
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ids = ["a", "a", "b", "a", "b", "last"]
    topics.publish_all(topics.names.alerts, [("cam", json.dumps({"id": name}).encode(), ()) for name in ids])
    paged: list[str] = []

    def page_somebody(alert: dict[str, Any]) -> None:
        paged.append(alert["id"])
        if alert["id"] == "last":
            raise _EnoughError

    mine = example.replace("127.0.0.1:9092", topics.bootstrap).replace("vision.outlier-alerts.v1", topics.names.alerts)
    assert mine.count(topics.domain) == 1
    with pytest.raises(_EnoughError):
        exec(mine.replace('"pager"', f'"{topics.domain}-pager"'), {"page_somebody": page_somebody})  # noqa: S102
    assert paged == ["a", "b", "last"]
