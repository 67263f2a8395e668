"""Commands run as a stranger runs them, against the session's Kafka and topics of the test's own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from tests.integration.worker_fixtures import shared_topics, start_shared_worker, start_worker, topics

__all__ = ["shared_topics", "start_shared_worker", "start_worker", "topics"]


@dataclass
class Deployment:
    """A domain of its own on a real Kafka, and the commands of Farpoint for it."""

    bootstrap: str
    domain: str
    partitions: int = 2

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of the commands."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")}
        return clean | {
            "FARPOINT_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "FARPOINT_KAFKA__GROUP_ID": self.domain,
            "FARPOINT_TOPICS__DOMAIN": self.domain,
            "FARPOINT_TOPICS__PARTITIONS": str(self.partitions),
        }

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "farpoint.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env=self.env | env,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on until it is stopped."""
        return subprocess.Popen(
            [sys.executable, "-m", "farpoint.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
        )

    def topic(self, dataset: str) -> str:
        """Return a topic's whole name."""
        return f"{self.domain}.{dataset}.v1"

    def send(self, topic: str, *records: dict[str, Any]) -> None:
        """Send records, given as the arguments of a producer's `send`, and wait until they are acknowledged."""
        with KafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=16 * 2**20) as producer:
            for future in [producer.send(topic, **record) for record in records]:
                future.get(timeout=30)

    def stored(self, topic: str) -> list[Any]:
        """Return all records of a topic, partition by partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        try:
            parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            consumer.assign(parts)
            ends = consumer.end_offsets(parts)
            consumer.seek_to_beginning(*parts)
            found: list[Any] = []
            while any(consumer.position(part) < ends[part] for part in parts):
                for records in consumer.poll(timeout_ms=500).values():
                    found += records
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            consumer.close()

    def admin(self) -> KafkaAdminClient:
        """Connect an admin client; close it."""
        return KafkaAdminClient(bootstrap_servers=self.bootstrap)


@pytest.fixture
def bare(kafka: str, unique_domain: str) -> Deployment:
    """Return a deployment without topics."""
    return Deployment(kafka, unique_domain)


@pytest.fixture
def deployment(bare: Deployment) -> Iterator[Deployment]:
    """Return a deployment with its topics, which are deleted afterwards."""
    applied = bare.run("topics", "apply")
    assert applied.returncode == 0, applied.stderr
    yield bare
    with bare.admin() as admin:
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(f"{bare.domain}.")])
