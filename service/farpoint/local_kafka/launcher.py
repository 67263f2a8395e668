"""Genuine Apache Kafka on this machine, without Docker and without the system's Java: one node, or three."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import kafka
import structlog
from kafka.errors import KafkaError

from farpoint.errors import FarpointError
from farpoint.local_kafka.folder import KafkaFolder
from farpoint.local_kafka.node import KafkaNode, NodeAddress
from farpoint.local_kafka.runtime import KAFKA_VERSION, KafkaRuntime
from farpoint.ports import accepts, check_free, free_ports

_START_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.2

log = structlog.get_logger(__name__)


def default_data_dir(brokers: int = 1) -> Path:
    """Return where Kafka keeps its data when nobody says so, a folder for each size of cluster."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return home / "farpoint" / ("kafka" if brokers == 1 else f"kafka-{brokers}")


class KafkaLauncher:
    """A running Kafka, as a context manager: serves inside, gone outside, also when this process is killed.

    Parameters
    ----------
    data_dir
        Folder of the cluster; made when it is not there. What is in it survives.
    port
        Port of the first broker; the others take the next ones.
    brokers
        1, or 3: then every partition has three copies, and writing needs two.
    host
        Address of this machine that the brokers listen on and that clients are told.
    """

    def __init__(self, data_dir: Path, *, port: int = 9092, brokers: int = 1, host: str = "127.0.0.1") -> None:
        self._data_dir = data_dir
        self._host = host
        self._ports = range(port, port + brokers)
        self._nodes: list[KafkaNode] = []
        self._ended: set[int] = set()
        self._stack = ExitStack()

    @property
    def bootstrap_servers(self) -> str:
        """What clients start from, HOST:PORT[,HOST:PORT...]."""
        return ",".join(f"{self._host}:{port}" for port in self._ports)

    def start(self) -> None:
        """Start the nodes and wait until all of them serve.

        Raises
        ------
        FarpointError
            A port is taken, the folder is not ours or is in use, there is no network on the first start, or Kafka
            ended or did not serve in time.
        """
        with ExitStack() as stack:
            runtime = KafkaRuntime.find()
            folder = KafkaFolder.take(self._data_dir, len(self._ports))
            stack.callback(folder.release)
            for port in self._ports:
                check_free(self._host, port)
            # Fixed voters are read from the configuration at each start, so the controllers may move.
            controller_ports = free_ports(len(self._ports), avoid=self._ports)
            addresses = [
                NodeAddress(node_id, self._host, port, controller_port)
                for node_id, (port, controller_port) in enumerate(
                    zip(self._ports, controller_ports, strict=True), start=1
                )
            ]
            nodes = [KafkaNode(runtime, folder, address) for address in addresses]
            log.info("kafka_starting", version=KAFKA_VERSION, data_dir=str(folder.path), brokers=len(nodes))
            for node in nodes:
                node.configure(addresses)
            with ThreadPoolExecutor(len(nodes)) as pool:
                list(pool.map(KafkaNode.format, nodes))
            stack.callback(self._stop_nodes)
            for node in nodes:
                self._nodes.append(node)  # before it starts: Ctrl-C may come at any moment
                node.start()
            self._wait_until_serving()
            self._stack = stack.pop_all()

    def run(self) -> None:
        """Watch the nodes until none is left.

        A dead node of several is reported and the others go on: surviving that is what they are for.

        Raises
        ------
        FarpointError
            The last node ended by itself; the end of its log is in the log.
        """
        while True:
            for node in self._nodes:
                code = node.poll()
                if code is None or node.address.node_id in self._ended:
                    continue
                self._ended.add(node.address.node_id)
                left = len(self._nodes) - len(self._ended)
                if not left:
                    raise self._died(node)
                log.error(
                    "kafka_node_ended",
                    node=node.address.node_id,
                    exit_code=code,
                    nodes_left=left,
                    serving=left > len(self._nodes) // 2,
                    folder=str(node.path),
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the nodes, in order."""
        self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        waiting = list(self._nodes)
        while waiting:
            for node in self._nodes:
                if node.poll() is not None:
                    raise self._died(node)
            if time.monotonic() > deadline:
                log_file = waiting[0].path / "server.log"
                raise FarpointError(f"Kafka did not serve within {_START_TIMEOUT_SECONDS:g} seconds: see {log_file}")
            if _brokers_known_to(waiting[0].address) == len(self._nodes):
                waiting.pop(0)
            else:
                time.sleep(_POLL_SECONDS)

    def _stop_nodes(self) -> None:
        # All at once: each needs the others to hand over its partitions, and the last one would wait for nobody.
        for node in self._nodes:
            node.ask_to_stop()
        for node in self._nodes:
            node.stop()
        self._nodes.clear()
        log.info("kafka_stopped")

    def _died(self, node: KafkaNode) -> FarpointError:
        code = node.poll()
        for line in node.last_words():
            log.error("kafka_said", node=node.address.node_id, line=line)
        return FarpointError(
            f"Kafka node {node.address.node_id} ended with exit code {code}: see {node.path / 'server.log'}"
        )


def _brokers_known_to(address: NodeAddress) -> int:
    """Return how many brokers a node names in its metadata; 0 while it does not serve."""
    if not accepts(address.host, address.port):
        return 0
    try:
        admin = kafka.KafkaAdminClient(
            bootstrap_servers=address.clients,
            client_id="farpoint-launcher",
            bootstrap_timeout_ms=5_000,
            request_timeout_ms=5_000,
        )
        try:
            return len(admin.describe_cluster()["brokers"])
        finally:
            admin.close()
    except KafkaError:
        return 0
