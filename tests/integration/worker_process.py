"""A `farpoint worker` in a process of its own, and a stranger who looks on with plain kafka-python."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kafka
import pytest
from kafka.errors import KafkaTimeoutError

from farpoint import kafka_clients
from farpoint.child_process import ChildProcess
from farpoint.errors import FarpointError
from farpoint.ports import free_ports
from farpoint.settings import KafkaSettings, MediaSettings, TopicsSettings
from farpoint.topic_admin import apply_topics
from farpoint.topics import TopicNames, topics_table

READY_SECONDS = 120.0
PATIENCE_SECONDS = 90.0

Headers = Sequence[tuple[str, bytes | None]]


class WorkerProcess:
    """One `farpoint worker`, with an HTTP port of its own; gone when the context is left.

    Parameters
    ----------
    bootstrap, domain
        Where Kafka is, and the first part of the topics' names; also the consumer groups' prefix.
    folder
        Takes the process id and the log.
    stages
        As the option `--stages`.
    environment
        More settings.
    arguments
        More of the command line.
    """

    def __init__(
        self,
        bootstrap: str,
        domain: str,
        folder: Path,
        stages: str,
        environment: dict[str, str],
        arguments: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.port = free_ports(1)[0]
        mine = {
            "FARPOINT_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "FARPOINT_KAFKA__GROUP_ID": domain,
            "FARPOINT_TOPICS__DOMAIN": domain,
            "FARPOINT_HTTP__PORT": str(self.port),
            "FARPOINT_DETECTOR__CHECKPOINT_SECONDS": "1",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")}
        self._process = ChildProcess(
            [sys.executable, "-m", "farpoint.cli", "worker", "--stages", stages, *arguments],
            name="farpoint worker",
            error_output=folder / "stderr",
            pid_file=folder / "pid",
            grace_seconds=40.0,
            env=inherited | mine | environment,
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.stop(grace_seconds=5.0)

    @property
    def log(self) -> str:
        """What it has said on stderr so far."""
        return (self._folder / "stderr").read_text(encoding="utf-8")

    @property
    def last_line(self) -> str:
        """The last line of that."""
        return self.log.rstrip().rpartition("\n")[2]

    def wait_until_ready(self) -> None:
        """Wait for `worker ready`; the test fails with the log where it does not come."""
        try:
            self._process.wait_for_line("worker ready", READY_SECONDS)
        except FarpointError as error:
            pytest.fail(f"{error}\n{self.log}")

    def terminate(self) -> None:
        """Send SIGTERM; does not wait."""
        self.send(signal.SIGTERM)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.terminate()
        return self.wait()

    def kill(self) -> int:
        """Send SIGKILL and return the exit code."""
        self.send(signal.SIGKILL)
        return self.wait()

    def send(self, name: signal.Signals) -> None:
        """Send a signal; does not wait."""
        os.kill(self.pid, name)

    def wait(self, timeout_seconds: float = 60.0) -> int:
        """Return the exit code when it has ended."""
        return self._process.wait(timeout_seconds)

    @property
    def pid(self) -> int:
        """Its process id."""
        return int((self._folder / "pid").read_text(encoding="ascii"))

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def get(self, path: str, port: int | None = None) -> tuple[int, str, str]:
        """Ask its HTTP port, or another; returns status, content type and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()


StartWorker = Callable[..., WorkerProcess]


class Topics:
    """The topics of one test or module, as a stranger sees them: plain kafka-python, partitions assigned by hand.

    Parameters
    ----------
    bootstrap
        Where Kafka is.
    domain
        First part of the names; the topics are made here.
    replication_factor
        Copies of each partition.
    """

    def __init__(self, bootstrap: str, domain: str, replication_factor: int = 1) -> None:
        self.bootstrap = bootstrap
        self.domain = domain
        self.names = TopicNames(domain)
        table = topics_table(TopicsSettings(domain=domain, replication_factor=replication_factor), MediaSettings())
        admin = kafka_clients.admin(KafkaSettings(bootstrap_servers=bootstrap))
        try:
            apply_topics(admin, table)
        finally:
            admin.close()
        # Patient: some tests take the broker away for minutes.
        self._producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap, linger_ms=5, max_request_size=10 * 2**20, delivery_timeout_ms=300_000
        )
        self._next = {kafka.TopicPartition(topic.name, number): 0 for topic in table for number in range(8)}
        self._consumer = self._reader()
        self._records: dict[str, list[Any]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
        self._producer.close()

    def publish(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | str | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Any:
        """Send a record; returns a future of where it lies."""
        raw = key.encode() if isinstance(key, str) else key
        return self._producer.send(topic, value, raw, list(headers), partition, timestamp_ms)

    def flush(self) -> None:
        """Wait until all that was sent is acknowledged."""
        self._producer.flush(timeout=60)

    def publish_all(self, topic: str, records: Iterable[tuple[str | bytes | None, bytes | None, Headers]]) -> list[Any]:
        """Send (key, value, headers) one after the other and return where they lie when all are acknowledged."""
        futures = [self.publish(topic, value, key, headers) for key, value, headers in records]
        self._producer.flush(timeout=60)
        return [future.get(60) for future in futures]

    def records(self, topic: str) -> list[Any]:
        """Return what a topic holds by now, in order within each partition."""
        self._read()
        return self._records[topic]

    def _reader(self) -> Any:
        reader = kafka.KafkaConsumer(
            bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
        )
        reader.assign(list(self._next))
        for part, offset in self._next.items():
            reader.seek(part, offset)
        return reader

    def _read(self) -> None:
        ends = self._ends(list(self._next))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(self._next[part] < end for part, end in ends.items()):
            assert time.monotonic() < deadline, "the broker has records that it does not hand out"
            for part, records in self._consumer.poll(timeout_ms=200).items():
                self._records[part.topic] += records
                self._next[part] = records[-1].offset + 1

    def _ends(self, parts: list[Any]) -> dict[Any, int]:
        try:
            return dict(self._consumer.end_offsets(parts))
        except KafkaTimeoutError:
            # A client that has seen its brokers die and come back may go on asking one that no longer leads.
            self._consumer.close()
            self._consumer = self._reader()
            return dict(self._consumer.end_offsets(parts))

    def committed(self, stage: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return the offsets that a stage's group has committed; -1 where none."""
        parts = [part for part in self._next if part.topic in set(topics)]
        group = f"{self.domain}-{stage}"
        reader = kafka.KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False)
        try:
            reader.assign(parts)
            return {(part.topic, part.partition): _or_none(reader.committed(part)) for part in parts}
        finally:
            reader.close()

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return where the log of each partition ends."""
        parts = [part for part in self._next if part.topic in set(topics)]
        return {(part.topic, part.partition): end for part, end in self._ends(parts).items()}

    # --- what the worker writes ---------------------------------------------------------------------------------------

    def embeddings(self) -> list[Any]:
        """Return the records of the embeddings topic."""
        return self.records(self.names.embeddings)

    def decisions(self, detector: str | None = None) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return (batch, item) for each decided vector."""
        batches = [json.loads(record.value) for record in self.records(self.names.assignments)]
        return [(batch, item) for batch in batches if detector in (None, batch["detector"]) for item in batch["items"]]

    def decided(self, detector: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the decisions by id."""
        return {item["id"]: item for _, item in self.decisions(detector)}

    def alerts(self) -> dict[str, Any]:
        """Return the records of the alerts topic by the id in their header."""
        return {dict(record.headers)["ce_id"].decode(): record for record in self.records(self.names.alerts)}

    def dead_letters(self, topic: str) -> dict[tuple[int, int], list[Any]]:
        """Return the dead letters of a topic by the partition and offset that they came from."""
        letters = defaultdict(list)
        for record in self.records(self.names.dead_letters(topic)):
            headers = dict(record.headers)
            letters[int(headers["dlq.partition"]), int(headers["dlq.offset"])].append(record)
        return letters


def wait_for(condition: Callable[[], object], what: str, timeout: float = PATIENCE_SECONDS) -> None:
    """Poll until a condition holds; the test fails with `what` where it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.1)


def unique_name(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}{uuid.uuid4().hex[:12]}"


def _or_none(committed: Any) -> int:
    return -1 if committed is None else int(getattr(committed, "offset", committed))
