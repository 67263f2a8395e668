"""What the tests share: a real Kafka, started through our own command, and topics that no other test sees."""

import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from farpoint.child_process import ChildProcess
from farpoint.ports import free_ports

READY_SECONDS = 150.0  # includes the first download

# A shell starts what runs in the background with Ctrl-C ignored, and so would be every command that we start and press
# Ctrl-C on.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class StartedKafka:
    """A `farpoint kafka` of the tests: the process, where it keeps its things, and how clients reach it."""

    process: ChildProcess
    data_dir: Path
    port: int
    folder: Path
    bootstrap: str = ""

    @property
    def stderr(self) -> str:
        """What the command has said so far."""
        return (self.folder / "stderr").read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        """Process id of the command itself."""
        return int((self.folder / "pid").read_text(encoding="ascii"))

    def java_pids(self) -> list[int]:
        """Process ids of the nodes, by the files in their folders."""
        return [int(file.read_text(encoding="ascii")) for file in sorted(self.data_dir.glob("node-*/pid"))]


StartKafka = Callable[..., StartedKafka]


def _start(stack: ExitStack, folder: Path, data_dir: Path, *, brokers: int, ready: bool, **env: str) -> StartedKafka:
    port = free_ports(brokers)[0]
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "farpoint.cli", "kafka", "--data-dir", str(data_dir), "--port", str(port)]
    process = ChildProcess(
        [*command, "--brokers", str(brokers)],
        name="farpoint kafka",
        error_output=folder / "stderr",
        pid_file=folder / "pid",
        grace_seconds=30.0,
        env={name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")} | env,
    )
    stack.enter_context(process)
    started = StartedKafka(process, data_dir, port, folder)
    if ready:
        try:
            line = process.wait_for_line("kafka ready ", READY_SECONDS)
        except Exception as error:
            # Not a skip: without Kafka nothing of this product is tested.
            pytest.fail(f"{error}\n{started.stderr}")
        started.bootstrap = line.removeprefix("kafka ready ")
    return started


@pytest.fixture
def start_kafka(tmp_path: Path) -> Iterator[StartKafka]:
    """Start a Kafka of the test's own: `start_kafka(data_dir, brokers=1, ready=True, **environment)`."""
    with ExitStack() as stack:

        def start(data_dir: Path, *, brokers: int = 1, ready: bool = True, **env: str) -> StartedKafka:
            folder = tmp_path / f"farpoint-kafka-{uuid.uuid4().hex}"
            return _start(stack, folder, data_dir, brokers=brokers, ready=ready, **env)

        yield start


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedKafka]:
    """Start the one-node Kafka of the session; do not stop it."""
    folder = tmp_path_factory.mktemp("kafka")
    with ExitStack() as stack:
        yield _start(stack, folder / "process", folder / "data", brokers=1, ready=True)


@pytest.fixture(scope="session")
def kafka(shared_kafka: StartedKafka) -> str:
    """Return the bootstrap servers of the session's Kafka."""
    return shared_kafka.bootstrap


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedKafka]:
    """Start three nodes for one module of tests, which may kill what it likes."""
    folder = tmp_path_factory.mktemp("kafka-cluster")
    with ExitStack() as stack:
        yield _start(stack, folder / "process", folder / "data", brokers=3, ready=True)


@pytest.fixture
def unique_domain() -> str:
    """Return a FARPOINT_TOPICS__DOMAIN that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"
