"""`farpoint dead-letters` against a real Kafka."""

import json
from typing import TYPE_CHECKING, Any

from kafka.admin import ConfigResource, ConfigResourceType

if TYPE_CHECKING:
    from tests.integration.conftest import Deployment


def letter(topic: str | None, value: bytes | None, *, partition: int = 0, **more: Any) -> dict[str, Any]:
    """Make a dead letter as the worker writes it, for a producer's `send`."""
    headers = [("content-type", b"image/jpeg"), ("x", b"\xff")]
    if topic is not None:
        headers += [
            ("dlq.topic", topic.encode()),
            ("dlq.partition", str(partition).encode()),
            ("dlq.offset", b"7"),
            ("dlq.reason", b"corrupt_image"),
            ("dlq.message", b"cut short"),
            ("dlq.failed-at", b"2026-01-01T00:00:00.000Z"),
        ]
    return {"key": b"cam-1", "value": value, "partition": partition, "headers": headers} | more


def replay(deployment: "Deployment", *arguments: str, code: int = 0) -> int:
    """Replay and return how many were sent."""
    done = deployment.run("dead-letters", "replay", "--json", *arguments)
    assert done.returncode == code, done.stderr
    sent: int = json.loads(done.stdout)["sent"]
    return sent


def test_show_says_where_from_and_why(deployment: "Deployment") -> None:
    """Each letter shows its origin, reason, message, key and size; hostile text cannot act on the terminal."""
    frames = deployment.topic("frames")
    hostile = letter(frames, b"12345", partition=1, key=b"\x1b[2J\xff")
    hostile["headers"] = [*hostile["headers"][:-2], ("dlq.message", b"a\nb\x1b[31m"), hostile["headers"][-1]]
    deployment.send(f"{frames}.dlq", letter(frames, b"abc"), hostile)
    done = deployment.run("dead-letters", "show", "--json")
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert {name: first[name] for name in ("topic", "partition", "offset", "reason", "message", "key", "size")} == {
        "topic": frames,
        "partition": 0,
        "offset": 7,
        "reason": "corrupt_image",
        "message": "cut short",
        "key": "cam-1",
        "size": 3,
    }
    assert first["failed_at"] == "2026-01-01T00:00:00.000Z"
    assert first["headers"] == {"content-type": "image/jpeg", "x": "\\xff"}
    assert first["replayed"] is False
    assert second["size"] == 5
    table = deployment.run("dead-letters", "show", "--topic", frames).stdout
    assert len(table.splitlines()) == 3
    assert table.isprintable() or "\x1b" not in table
    assert "a\\nb\\x1b[31m" in table


def test_show_takes_the_newest(deployment: "Deployment") -> None:
    """Of many, the newest are shown, whatever partition they are on; without any it says so and succeeds."""
    assert deployment.run("dead-letters", "show").stdout == ""
    frames = deployment.topic("frames")
    letters = [letter(frames, b"x" * (n + 1), partition=n % 2, timestamp_ms=1_000_000 + n) for n in range(6)]
    deployment.send(f"{frames}.dlq", *letters)
    done = deployment.run("dead-letters", "show", "--json", "--max-records", "3")
    assert [json.loads(line)["size"] for line in done.stdout.splitlines()] == [4, 5, 6]


def test_replay_sends_back_what_came_and_once(deployment: "Deployment") -> None:
    """Key, value, headers and partition are the original ones; a second replay sends only what is new."""
    frames, images = deployment.topic("frames"), deployment.topic("images")
    deployment.send(f"{frames}.dlq", letter(frames, b"one", partition=1), letter(frames, None), letter(frames, b""))
    deployment.send(f"{images}.dlq", letter(images, b"two", key=None))
    done = deployment.run("dead-letters", "replay")
    assert (done.returncode, done.stdout) == (0, "4 dead letters sent back\n"), done.stderr
    headers = [("content-type", b"image/jpeg"), ("x", b"\xff")]
    assert [
        (record.partition, record.key, record.value, list(record.headers)) for record in deployment.stored(frames)
    ] == [(0, b"cam-1", None, headers), (0, b"cam-1", b"", headers), (1, b"cam-1", b"one", headers)]
    assert [(record.key, record.value) for record in deployment.stored(images)] == [(None, b"two")]
    assert replay(deployment) == 0
    deployment.send(f"{frames}.dlq", letter(frames, b"three"))
    shown = deployment.run("dead-letters", "show", "--json", "--topic", frames).stdout.splitlines()
    assert sorted(json.loads(line)["replayed"] for line in shown) == [False, True, True, True]
    assert replay(deployment) == 1
    assert len(deployment.stored(frames)) == 4


def test_replay_is_bounded(deployment: "Deployment") -> None:
    """`--max-records` takes so many and the next run goes on behind them; `--topic` leaves the others."""
    frames, images = deployment.topic("frames"), deployment.topic("images")
    deployment.send(f"{frames}.dlq", *(letter(frames, b"%d" % n, partition=n % 2) for n in range(7)))
    deployment.send(f"{images}.dlq", letter(images, b"x"))
    assert replay(deployment, "--topic", frames, "--max-records", "3") == 3
    assert replay(deployment, "--topic", f"{frames}.dlq", "--max-records", "100") == 4
    assert sorted(record.value for record in deployment.stored(frames)) == [b"%d" % n for n in range(7)]
    assert deployment.stored(images) == []


def test_replay_trusts_no_header_with_a_topic_that_is_none_of_ours(deployment: "Deployment") -> None:
    """A letter whose headers name another topic, or none, is passed over and named; its neighbours go back."""
    frames, alerts = deployment.topic("frames"), deployment.topic("outlier-alerts")
    deployment.send(
        f"{frames}.dlq",
        letter(alerts, b"forged"),
        letter(None, b"bare"),
        letter("__consumer_offsets", b"worse"),
        letter(frames, b"good", partition=0),
    )
    done = deployment.run("dead-letters", "replay")
    assert done.returncode == 1
    assert done.stdout == "1 dead letter sent back\n"
    assert "3 passed over" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [record.value for record in deployment.stored(frames)] == [b"good"]
    assert deployment.stored(alerts) == []


def test_a_partition_that_is_not_there_is_no_obstacle(deployment: "Deployment") -> None:
    """A letter that claims a partition beyond the topic's is placed by its key."""
    frames = deployment.topic("frames")
    forged = letter(frames, b"x")
    forged["headers"] = [(name, b"999" if name == "dlq.partition" else value) for name, value in forged["headers"]]
    deployment.send(f"{frames}.dlq", forged)
    assert replay(deployment) == 1
    assert len(deployment.stored(frames)) == 1


def test_only_what_kafka_took_counts_as_sent(deployment: "Deployment") -> None:
    """Where Kafka refuses a record it is named, exit 1, and the next replay begins with it."""
    frames = deployment.topic("frames")
    deployment.send(f"{frames}.dlq", letter(frames, b"small"), letter(frames, bytes(50_000)), letter(frames, b"behind"))
    with deployment.admin() as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, frames, {"max.message.bytes": "10000"})
        admin.alter_configs([resource])
    refused = deployment.run("dead-letters", "replay", "--max-records", "2")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert f"{frames}.dlq partition 0 offset 1 could not be" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert deployment.run("topics", "apply").returncode == 0
    assert replay(deployment) in (2, 3)  # Kafka takes or refuses a whole batch, and sent twice beats never
    assert {record.value for record in deployment.stored(frames)} == {b"small", bytes(50_000), b"behind"}
