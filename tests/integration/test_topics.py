"""`farpoint topics` against a real Kafka."""

import json
from typing import TYPE_CHECKING

from kafka.admin import ConfigResource, ConfigResourceType

from farpoint.settings import MediaSettings, TopicsSettings
from farpoint.topics import topics_table

if TYPE_CHECKING:
    from tests.integration.conftest import Deployment


def shown(deployment: "Deployment", **env: str) -> dict[str, dict[str, object]]:
    """Return what `topics show --json` says, by topic."""
    done = deployment.run("topics", "show", "--json", **env)
    assert done.returncode == 0, done.stderr
    return {topic["topic"]: topic for topic in map(json.loads, done.stdout.splitlines())}


def test_apply_creates_the_table_and_then_changes_nothing(bare: "Deployment") -> None:
    """The first run creates every topic as the table says, the second finds nothing to do."""
    first = bare.run("topics", "apply")
    assert first.returncode == 0, first.stderr
    assert all(line.endswith(": created") for line in first.stdout.splitlines())
    table = topics_table(TopicsSettings(domain=bare.domain, partitions=2), MediaSettings())
    topics = shown(bare)
    assert set(topics) == {topic.name for topic in table}
    for topic in table:
        found = topics[topic.name]
        assert (found["partitions"], found["replication_factor"], found["records"]) == (2, 1, 0)
        assert found["config"] == dict(topic.config)
        assert found["differences"] == []
    second = bare.run("topics", "apply")
    assert second.returncode == 0
    assert all(line.endswith(": unchanged") for line in second.stdout.splitlines())
    assert len(second.stdout.splitlines()) == len(table)


def test_apply_widens(deployment: "Deployment") -> None:
    """More partitions are added to what is there, and it says from how many to how many."""
    done = deployment.run("topics", "apply", FARPOINT_TOPICS__PARTITIONS="3")
    assert done.returncode == 0, done.stderr
    assert all(line.endswith(": widened 2 -> 3 partitions") for line in done.stdout.splitlines())
    assert {topic["partitions"] for topic in shown(deployment).values()} == {3}


def test_apply_never_takes_partitions_away(deployment: "Deployment") -> None:
    """Fewer partitions are refused topic by topic with what would agree, and nothing is changed."""
    done = deployment.run("topics", "apply", FARPOINT_TOPICS__PARTITIONS="1")
    assert done.returncode == 1
    assert all("set FARPOINT_TOPICS__PARTITIONS=2" in line for line in done.stdout.splitlines())
    assert done.stderr.count("\n") == 1
    assert {topic["partitions"] for topic in shown(deployment).values()} == {2}


def test_more_copies_than_brokers_is_refused_by_name(bare: "Deployment") -> None:
    """A replication factor that the cluster cannot give is refused with the setting and the number of brokers."""
    done = bare.run("topics", "apply", FARPOINT_TOPICS__REPLICATION_FACTOR="3")
    assert done.returncode == 1
    assert all("the cluster has 1 broker;" in line for line in done.stdout.splitlines())
    assert "FARPOINT_TOPICS__REPLICATION_FACTOR" in done.stdout
    assert not any(topic["exists"] for topic in shown(bare).values())


def test_settings_are_brought_in_line(deployment: "Deployment") -> None:
    """A topic whose settings drifted is changed back, and only it; settings of one's own are left alone."""
    alerts = deployment.topic("outlier-alerts")
    with deployment.admin() as admin:
        changed = {"retention.ms": "60000", "segment.ms": "70000"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, alerts, changed)])
    assert any("retention.ms is 60000" in str(said) for said in shown(deployment)[alerts]["differences"])  # type: ignore[attr-defined]
    done = deployment.run("topics", "apply")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines.pop(alerts) == f"retention.ms 60000 -> {90 * 86_400_000}"
    assert set(lines.values()) == {"unchanged"}
    with deployment.admin() as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, alerts, ["segment.ms"])
        config = admin.describe_configs([resource])["topic"][alerts]
    assert config["segment.ms"]["value"] == "70000"


def test_show_names_what_is_missing_and_counts_records(deployment: "Deployment") -> None:
    """The table has a line for each topic: how many records, or that it is missing."""
    frames, images = deployment.topic("frames"), deployment.topic("images")
    deployment.send(frames, {"value": b"1"}, {"value": b"2"}, {"value": b"3"})
    with deployment.admin() as admin:
        admin.delete_topics([images])
    done = deployment.run("topics", "show")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert lines[frames][:3] == ["2", "1", "3"]
    assert lines[images][-1] == "missing"
