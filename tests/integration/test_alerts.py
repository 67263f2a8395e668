"""`farpoint alerts` and `farpoint clusters` against a real Kafka."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farpoint.checkpoint import Checkpoint, ClusterNote, load_checkpoints, write_checkpoint
from farpoint.settings import KafkaSettings
from farpoint.wire import data_url

if TYPE_CHECKING:
    from tests.integration.conftest import Deployment


def an_alert(name: str, minute: int, **changes: Any) -> dict[str, Any]:
    """Make an alert as a record for a producer's `send`, on a partition that follows from its minute."""
    event = {
        "id": name,
        "detector": "shared",
        "source": "cam-1",
        "time": f"2026-01-01T00:{minute:02d}:00.000Z",
        "detected_at": "2026-01-01T01:00:00.000Z",
        "subject": f"picture {name}",
        "media": None,
        "region": None,
        "outlier_score": 0.97,
        "p_value": 0.0002,
        "threshold": 0.95,
        "nearest_clusters": [{"cluster_id": 17, "distance": 0.61, "size": 4021}],
        "thumbnail": data_url(b"\xff\xd8picture"),
        "model": "m@1",
        "metadata": {},
    } | changes
    return {"value": json.dumps(event).encode(), "key": b"cam-1", "partition": minute % 2}


def ids(text: str) -> list[str]:
    """Return the ids of `--json` lines."""
    return [json.loads(line)["id"] for line in text.splitlines()]


def test_without_alerts_it_ends_with_nothing(deployment: "Deployment") -> None:
    """An empty topic is no failure."""
    done = deployment.run("alerts")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_each_in_order_of_time(deployment: "Deployment") -> None:
    """Partitions are mixed by time; a line says when, where, how sure, how far and what; hostile text is escaped."""
    deployment.send(
        deployment.topic("outlier-alerts"),
        an_alert("c", 3, subject="a\x1b[2J\nb"),
        an_alert("a", 1),
        an_alert("b", 2, source="gate"),
        an_alert("a", 1),
        {"value": b"no alert"},
    )
    done = deployment.run("alerts", "--from-beginning")
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.split("  ", 1)[0] == "2026-01-01T00:01:00.000Z"
    for part in ("cam-1", "0.970", "0.0002", "0.610", "17", "picture a"):
        assert part in first
    assert "gate" in second
    assert third.endswith("a\\x1b[2J\\nb")
    assert "not_an_alert" in done.stderr


def test_by_default_the_newest(deployment: "Deployment") -> None:
    """Twenty of them, or as many as asked; from the beginning, the oldest."""
    deployment.send(deployment.topic("outlier-alerts"), *(an_alert(f"{n}", n) for n in range(30)))
    assert ids(deployment.run("alerts", "--json").stdout) == [f"{n}" for n in range(10, 30)]
    assert ids(deployment.run("alerts", "--json", "--max-records", "25").stdout) == [f"{n}" for n in range(5, 30)]
    oldest = deployment.run("alerts", "--json", "--from-beginning", "--max-records", "3")
    assert ids(oldest.stdout) == ["0", "1", "2"]
    assert len(ids(deployment.run("alerts", "--json", "--from-beginning").stdout)) == 30


def test_json_is_the_whole_event(deployment: "Deployment") -> None:
    """Every field comes out as it was sent, those we do not know too."""
    record = an_alert("a", 1, later={"field": "ü\x1b"})
    deployment.send(deployment.topic("outlier-alerts"), record)
    done = deployment.run("alerts", "--json")
    assert json.loads(done.stdout) == json.loads(record["value"])
    assert done.stdout.isascii()


def test_pictures_are_saved(deployment: "Deployment", tmp_path: Path) -> None:
    """`--save` writes each picture as it was sent, inside the folder whatever the id."""
    deployment.send(deployment.topic("outlier-alerts"), an_alert("../../a", 1), an_alert("b", 2, thumbnail=None))
    folder = tmp_path / "inner" / "pictures"
    assert deployment.run("alerts", "--save", str(folder)).returncode == 0
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"\xff\xd8picture"]
    assert [path.parent for path in tmp_path.rglob("*.jpg")] == [folder]


def test_following_goes_on_until_interrupted(deployment: "Deployment") -> None:
    """What comes later is printed as it comes; Ctrl-C ends it quietly with 130."""
    topic = deployment.topic("outlier-alerts")
    deployment.send(topic, an_alert("a", 1))
    process = deployment.start("alerts", "--follow", "--json")
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == "a"
        deployment.send(topic, an_alert("a", 1), an_alert("b", 2))
        assert json.loads(process.stdout.readline())["id"] == "b"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "")


def test_following_sees_a_widened_topic(deployment: "Deployment") -> None:
    """Partitions that appear while it follows are read from their beginning."""
    topic = deployment.topic("outlier-alerts")
    deployment.send(topic, an_alert("a", 1))
    process = deployment.start("alerts", "--follow", "--json")
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == "a"
        assert deployment.run("topics", "apply", FARPOINT_TOPICS__PARTITIONS="3").returncode == 0
        deployment.send(topic, an_alert("b", 2) | {"partition": 2})
        assert json.loads(process.stdout.readline())["id"] == "b"
    finally:
        process.kill()
        process.communicate()


def test_without_topics_it_says_how_to_get_them(bare: "Deployment") -> None:
    """Reading what was never created fails with the command that creates it."""
    for command in (["alerts"], ["clusters"], ["dead-letters", "show"], ["dead-letters", "replay"]):
        done = bare.run(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "farpoint topics apply" in done.stderr
        assert done.stderr.count("\n") == 1


def a_checkpoint(detector: str, partition: int, offset: int, *sizes: int) -> dict[str, Any]:
    """Make a checkpoint as a record for a producer's `send`, with clusters of these sizes."""
    notes = [
        ClusterNote(number, size, "2026-01-01T00:00:00.000Z", f"item {number}", [f"item {number}"], 0.25)
        for number, size in enumerate(sizes)
    ]
    checkpoint = Checkpoint(detector, partition, "m@1", offset, {}, notes, b"state")
    return {"key": detector.encode(), "value": write_checkpoint(checkpoint), "partition": partition}


def test_clusters_come_largest_first(deployment: "Deployment") -> None:
    """Each detector's newest checkpoint gives its clusters: id, label, size, last seen."""
    state = deployment.topic("detector-state")
    assert deployment.run("clusters").returncode == 0
    deployment.send(
        state,
        a_checkpoint("shared", 0, 5, 1),
        a_checkpoint("shared", 0, 9, 10, 30, 20),
        a_checkpoint("shared", 0, 7, 1, 1),
        a_checkpoint("cam\x1b-2", 1, 3, 40),
        {"key": b"gone", "value": None, "partition": 1},
    )
    done = deployment.run("clusters", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["detector"], row["cluster_id"], row["size"]) for row in rows] == [
        ("cam\x1b-2", 0, 40),
        ("shared", 1, 30),
        ("shared", 2, 20),
        ("shared", 0, 10),
    ]
    assert rows[1]["label"] == "item 1"
    table = deployment.run("clusters", "--detector", "shared").stdout.splitlines()
    assert table[0].split() == ["detector", "id", "size", "last", "seen", "label"]
    assert [line.split()[1] for line in table[1:]] == ["1", "2", "0"]
    assert "\x1b" not in deployment.run("clusters").stdout
    unknown = deployment.run("clusters", "--detector", "no\x1bne")
    assert unknown.returncode == 1
    assert "no\\x1bne" in unknown.stderr


def test_checkpoints_of_some_partitions(deployment: "Deployment") -> None:
    """A worker reads those of its partitions alone, and of each detector the one that got furthest."""
    state = deployment.topic("detector-state")
    deployment.send(state, a_checkpoint("a", 0, 5), a_checkpoint("a", 0, 4), a_checkpoint("b", 1, 6))
    settings = KafkaSettings(bootstrap_servers=deployment.bootstrap)
    assert {key: found.next_offset for key, found in load_checkpoints(settings, state).items()} == {
        (0, "a"): 5,
        (1, "b"): 6,
    }
    assert set(load_checkpoints(settings, state, [1])) == {(1, "b")}
    assert load_checkpoints(settings, state, []) == {}
