"""One node of a local Kafka: its properties, its storage, its process."""

import os
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from farpoint.child_process import ChildProcess
from farpoint.errors import FarpointError
from farpoint.local_kafka.folder import KafkaFolder, formatted_cluster_id
from farpoint.local_kafka.runtime import KafkaRuntime

# Frames are records; brokers must be able to copy what they accept.
MAX_MESSAGE_BYTES = 16 * 2**20
STOP_GRACE_SECONDS = 15.0
_INTERNAL_PARTITIONS = 8
_HEAP_MEGABYTES_ALONE = 512
_HEAP_MEGABYTES_OF_THREE = 384

# Relative names throughout: nodes run in their own folder, so no path needs the escapes of a properties file.
_LOG4J = """\
status = error
shutdownHook = disable
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = server.log
appender.file.filePattern = server.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %p %m (%c)%n%throwable
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


@dataclass(frozen=True)
class NodeAddress:
    """Where a node listens: `host:port` for clients, `controller_port` of the loopback for the other controllers."""

    node_id: int
    host: str
    port: int
    controller_port: int

    @property
    def clients(self) -> str:
        """What clients connect to, HOST:PORT."""
        return f"{self.host}:{self.port}"


def properties(address: NodeAddress, voters: list[NodeAddress]) -> dict[str, str]:
    """Return the configuration of a node in the cluster of `voters`, all of which are brokers and controllers."""
    replicas = str(min(3, len(voters)))
    in_sync = str(2 if len(voters) >= 3 else 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(address.node_id),
        "controller.quorum.voters": ",".join(f"{v.node_id}@127.0.0.1:{v.controller_port}" for v in voters),
        "listeners": f"PLAINTEXT://{address.clients},CONTROLLER://127.0.0.1:{address.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{address.clients}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "data",
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        # A week, and never more than 4 GiB a partition: pictures fill a disk quickly.
        "log.retention.hours": "168",
        "log.retention.bytes": str(4 * 2**30),
        "log.segment.bytes": str(256 * 2**20),
        # The default takes 128 MiB of the heap for compaction.
        "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
        # A group starts at once: nobody waits for members that do not come.
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": str(_INTERNAL_PARTITIONS),
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": str(_INTERNAL_PARTITIONS),
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": str(_INTERNAL_PARTITIONS),
    }


class KafkaNode:
    """A broker and controller in a folder of its own."""

    def __init__(self, runtime: KafkaRuntime, folder: KafkaFolder, address: NodeAddress) -> None:
        self.address = address
        self.path = folder.node(address.node_id)
        self._runtime = runtime
        self._cluster_id = folder.cluster_id
        heap = _HEAP_MEGABYTES_ALONE if folder.brokers == 1 else _HEAP_MEGABYTES_OF_THREE
        options = [f"-Xmx{heap}m", "-XX:+ExitOnOutOfMemoryError", "-XX:ErrorFile=java-error.log"]
        self._process = ChildProcess(
            self._java("kafka.Kafka", ["server.properties"], options),
            name=f"Kafka node {address.node_id}",
            output=self.path / "console.log",
            grace_seconds=STOP_GRACE_SECONDS,
            pid_file=self.path / "pid",
            cwd=self.path,
            env=_environment(),
            keep_open=[folder.lock_descriptor],
        )

    def configure(self, voters: list[NodeAddress]) -> None:
        """Write the node's configuration."""
        lines = (f"{name}={value}\n" for name, value in properties(self.address, voters).items())
        try:
            (self.path / "server.properties").write_text("".join(lines), encoding="ascii")
            (self.path / "log4j2.properties").write_text(_LOG4J, encoding="ascii")
        except OSError as error:
            raise FarpointError(f"cannot write to the folder {self.path} ({error.strerror})") from error

    def format(self) -> None:
        """Prepare the node's storage, unless that has been done before."""
        if formatted_cluster_id(self.path) is not None:
            return
        arguments = ["format", "-t", self._cluster_id, "-c", "server.properties", "--ignore-formatted"]
        command = self._java("kafka.tools.StorageTool", arguments, ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        done = subprocess.run(
            command, cwd=self.path, env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it does not say why"]
            raise FarpointError(f"Kafka cannot format {self.path / 'data'}: {said[0]}")

    def start(self) -> None:
        """Start the node; returns at once."""
        self._process.start()

    def poll(self) -> int | None:
        """Return the exit code of a node that has ended, 128 + n after signal n; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Have it stopped, in order; does not wait."""
        if self._process.is_started:
            self._process.ask_to_stop()

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        if self._process.is_started:
            self._process.stop()

    def last_words(self, lines: int = 15) -> list[str]:
        """Return the end of its log, and what its Java said besides."""
        return [*_tail(self.path / "server.log", lines), *_tail(self.path / "console.log", lines)]

    def _java(self, main_class: str, arguments: list[str], options: list[str]) -> list[str]:
        common = [
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-Djava.awt.headless=true",
            "-Dlog4j2.disableJmx=true",
            # Java 25 warns of how Kafka's libraries reach the system; nobody here can change that.
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
        ]
        return self._runtime.command(main_class, arguments, [*options, *common])


def _tail(file: Path, lines: int) -> list[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as content:
            return [line.rstrip() for line in deque(content, maxlen=lines)]
    except FileNotFoundError:
        return []


def _environment() -> Mapping[str, str]:
    # Java takes the encoding of file names from the locale; in the plain C locale it cannot open a folder named "dätä".
    return {**os.environ, "LC_ALL": "C.UTF-8"}
