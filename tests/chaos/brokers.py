"""A cluster of real brokers, each of which can be killed, paused and started again."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import kafka
from kafka.errors import KafkaError

from farpoint.local_kafka.folder import KafkaFolder
from farpoint.local_kafka.node import KafkaNode, NodeAddress
from farpoint.local_kafka.runtime import KafkaRuntime
from farpoint.ports import free_ports

READY_SECONDS = 120.0


class Brokers:
    """One broker or three, in a folder of their own."""

    def __init__(self, folder: Path, count: int) -> None:
        self._stack = ExitStack()
        self._runtime = KafkaRuntime.find()
        self._folder = KafkaFolder.take(folder, count)
        self._stack.callback(self._folder.release)
        ports = free_ports(count)
        controllers = free_ports(count, avoid=ports)
        self._addresses = [
            NodeAddress(node_id, "127.0.0.1", port, controller)
            for node_id, (port, controller) in enumerate(zip(ports, controllers, strict=True), start=1)
        ]
        self._nodes = [KafkaNode(self._runtime, self._folder, address) for address in self._addresses]
        for node in self._nodes:
            node.configure(self._addresses)
            node.format()

    @property
    def bootstrap(self) -> str:
        """What clients start from."""
        return ",".join(address.clients for address in self._addresses)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._addresses)

    def __enter__(self) -> Self:
        self._stack.callback(self._stop)
        for node in self._nodes:
            node.start()
        self.wait_until_serving()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def send(self, index: int, name: signal.Signals) -> None:
        """Send a signal to a broker's Java."""
        os.kill(self.pid(index), name)

    def pid(self, index: int) -> int:
        """Return the process id of a broker's Java."""
        return int((self._nodes[index].path / "pid").read_text(encoding="ascii"))

    def kill(self, index: int) -> None:
        """End a broker with SIGKILL."""
        self.send(index, signal.SIGKILL)
        self._nodes[index].stop()

    def stop(self, index: int) -> None:
        """End a broker in order."""
        self._nodes[index].stop()

    def start(self, index: int) -> None:
        """Start a broker that has ended, on its old data."""
        self._nodes[index] = KafkaNode(self._runtime, self._folder, self._addresses[index])
        self._nodes[index].start()

    def wait_until_serving(self) -> None:
        """Wait until every partition has all its copies in sync."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._in_sync():
            if time.monotonic() > deadline:
                raise TimeoutError("the brokers did not come back")
            time.sleep(0.3)

    def _in_sync(self) -> bool:
        try:
            admin = kafka.KafkaAdminClient(
                bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=5_000, request_timeout_ms=5_000
            )
        except KafkaError:
            return False
        try:
            if len(admin.describe_cluster()["brokers"]) < self.count:
                return False
            topics = admin.describe_topics()
            return all(
                len(partition["isr_nodes"]) == len(partition["replica_nodes"])
                for topic in topics
                for partition in topic["partitions"]
            )
        except KafkaError:
            return False
        finally:
            admin.close()

    def _stop(self) -> None:
        for node in self._nodes:
            node.ask_to_stop()
        for node in self._nodes:
            node.stop()
