"""What docs/clients.md shows people to do, done: Python and the console tools here, Java in tests/deploy."""

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kafka
import numpy as np
import pytest
from jgo.maven import MavenContext
from tests.integration.worker_process import Topics
from tests.pictures import jpeg

from farpoint.asyncapi import example_records
from farpoint.local_kafka.runtime import KAFKA_VERSION, KafkaRuntime
from farpoint.wire import RecordRef, alert_headers, read_embeddings, read_media, write_json

PAGE = Path(__file__).parents[2] / "docs/clients.md"
TOOLS = {
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-get-offsets.sh": "org.apache.kafka.tools.GetOffsetShell",
}


def examples(language: str) -> list[str]:
    """Return the page's examples in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def mine(example: str, topics: Topics) -> str:
    """Put the test's broker, topics and groups into an example."""
    changed = example.replace("127.0.0.1:9092", topics.bootstrap).replace("vision.", f"{topics.domain}.")
    assert changed != example
    return changed.replace('"my-pager"', f'"{topics.domain}-pager"').replace(
        "farpoint-detect", f"{topics.domain}-detect"
    )


def publish_alert(topics: Topics) -> str:
    """Publish an alert as the worker does; returns its id."""
    alert = example_records()["outlier-alert"]
    topics.publish_all(topics.names.alerts, [(alert.source, write_json(alert), alert_headers(alert))])
    return str(alert.id)


class _EnoughError(Exception):
    pass


def test_the_page_has_its_examples() -> None:
    """Four in Python, one in Java, four commands."""
    assert [len(examples(language)) for language in ("python", "java", "console")] == [4, 1, 1]
    assert len(examples("console")[0].splitlines()) == 4


def test_python_reads_alerts(topics: Topics) -> None:
    """The consumer prints each alert."""
    publish_alert(topics)
    printed: list[tuple[Any, ...]] = []

    def show(*parts: Any) -> None:
        printed.append(parts)
        raise _EnoughError

    with pytest.raises(_EnoughError):
        exec(mine(examples("python")[0], topics), {"print": show})  # noqa: S102
    assert printed[0][:3] == ("2026-01-01T00:00:00.000Z", "cam-1", 0.79)


def test_python_publishes(topics: Topics, tmp_path: Path) -> None:
    """The picture, the JSON and the msgpack are records that the worker reads."""
    (tmp_path / "picture.jpg").write_bytes(jpeg(np.random.default_rng(1)))
    with contextlib.chdir(tmp_path):
        for example in examples("python")[1:]:
            exec(mine(example, topics), {})  # noqa: S102
    (frame,) = topics.records(topics.names.frames)
    assert read_media(_ref(frame), frame.key, frame.value, frame.headers).source == "cam-1"
    batches = {
        read.detector: read
        for record in topics.records(topics.names.embeddings)
        for read in [read_embeddings(_ref(record), record.key, record.value, record.headers)]
    }
    assert {name: batch.vectors.shape for name, batch in batches.items()} == {"flows": (2, 2), "flows-packed": (64, 16)}


def _ref(record: Any) -> RecordRef:
    return RecordRef(record.topic, record.partition, record.offset, record.timestamp)


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """Put Kafka's console tools on the path: `farpoint kafka` brings all their jars but one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    found = KafkaRuntime.find()
    tools_jar = MavenContext().project("org.apache.kafka", "kafka-tools").at_version(KAFKA_VERSION).artifact().resolve()
    runtime = KafkaRuntime(found.java, (*found.jars, Path(tools_jar)))
    for name, main_class in TOOLS.items():
        quoted = " ".join(f"'{part}'" for part in runtime.command(main_class, [], ["-XX:TieredStopAtLevel=1"]))
        (folder / name).write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_console_tools(topics: Topics, tools: dict[str, str]) -> None:
    """Each command ends well: alerts are shown, the group and the dead letters counted, vectors published."""
    identity = publish_alert(topics)
    group = f"{topics.domain}-detect"
    member = kafka.KafkaConsumer(bootstrap_servers=topics.bootstrap, group_id=group, enable_auto_commit=False)
    part = kafka.TopicPartition(topics.names.embeddings, 0)
    member.assign([part])
    member.commit({part: kafka.structs.OffsetAndMetadata(0, "", -1)})
    member.close()
    said = []
    for command in mine(examples("console")[0], topics).splitlines():
        done = subprocess.run(  # noqa: S602 -- as people paste it into their shell
            command, shell=True, capture_output=True, text=True, env=tools, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    consumer, groups, offsets, _ = said
    assert identity in consumer
    assert topics.names.embeddings in groups
    assert f"{topics.names.embeddings}.dlq:0:0" in offsets
    (record,) = topics.records(topics.names.embeddings)
    assert read_embeddings(_ref(record), record.key, record.value, record.headers).detector == "flows"
