"""`farpoint kafka` from outside: a real Kafka, started, stopped, killed and misused."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

if TYPE_CHECKING:
    from tests.conftest import StartedKafka, StartKafka

# An address where nobody listens: what a machine without network gets, at once.
NO_NETWORK = dict.fromkeys(
    ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9"
)


def test_ready_means_serving(kafka: str, unique_domain: str) -> None:
    """Once the command says ready, records go in and come out."""
    topic = f"{unique_domain}.ready.v1"
    create_topic(kafka, topic)
    produce(kafka, topic, [b"one", b"two"])
    assert consume(kafka, topic, 2) == [b"one", b"two"]


def test_a_record_of_many_megabytes_passes(kafka: str, unique_domain: str) -> None:
    """The broker takes and gives records of 15 MiB, for large pictures."""
    topic = f"{unique_domain}.large.v1"
    create_topic(kafka, topic)
    produce(kafka, topic, [bytes(15 * 2**20)])
    assert len(consume(kafka, topic, 1)[0]) == 15 * 2**20


def test_restart_keeps_records_and_needs_no_network(start_kafka: "StartKafka", tmp_path: Path) -> None:
    """SIGTERM ends with 0 and no Java; a start without network, on another port, finds the records."""
    data_dir = tmp_path / "kä, fka"  # names that a properties file would garble
    first = start_kafka(data_dir, LC_ALL="C")
    socket.create_connection(("127.0.0.1", first.port), timeout=1).close()  # ready means now, not soon
    create_topic(first.bootstrap, "kept.v1")
    produce(first.bootstrap, "kept.v1", [b"a", b"b", b"c"])
    nodes = first.java_pids()
    cluster = (data_dir / "cluster.json").read_text(encoding="utf-8")
    os.kill(first.pid, signal.SIGTERM)
    assert first.process.wait(30) == 0
    assert len(nodes) == 1
    assert not is_alive(nodes[0])

    second = start_kafka(data_dir, **NO_NETWORK)
    assert second.port != first.port
    assert consume(second.bootstrap, "kept.v1", 3) == [b"a", b"b", b"c"]
    assert (data_dir / "cluster.json").read_text(encoding="utf-8") == cluster


def test_kill_9_leaves_no_java_and_a_usable_folder(start_kafka: "StartKafka", tmp_path: Path) -> None:
    """When the command is killed with SIGKILL its Java goes too, and the next start waits for that."""
    killed = start_kafka(tmp_path / "data")
    create_topic(killed.bootstrap, "kept.v1")
    produce(killed.bootstrap, "kept.v1", [b"a"])
    (node,) = killed.java_pids()
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.process.wait(10) == 137
    with (tmp_path / "data/lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the folder is taken for as long as the node is there
    again = start_kafka(tmp_path / "data")  # at once, while the former node is still stopping
    assert not is_alive(node)
    assert consume(again.bootstrap, "kept.v1", 1) == [b"a"]


def test_ctrl_c_during_the_start_leaves_nothing(start_kafka: "StartKafka", tmp_path: Path) -> None:
    """Ctrl-C before Kafka serves ends with 130 and no Java."""
    started = start_kafka(tmp_path / "data", ready=False)
    assert wait_until(started.java_pids, 60)
    (node,) = started.java_pids()
    os.kill(started.pid, signal.SIGINT)
    assert started.process.wait(30) == 130
    # Where Ctrl-C comes in the very moment of the node's start, it is the guardian that ends it, a little later.
    assert wait_until(lambda: not is_alive(node), 20)
    assert "Traceback" not in started.stderr


def test_death_of_the_only_node_ends_the_command(start_kafka: "StartKafka", tmp_path: Path) -> None:
    """When the node dies the command says so, shows the end of the node's log, and exits with 1."""
    started = start_kafka(tmp_path / "data")
    os.kill(started.java_pids()[0], signal.SIGKILL)
    assert started.process.wait(30) == 1
    assert "Kafka Server started" in started.stderr
    assert "farpoint: Kafka node 1 ended with exit code 137" in started.stderr.splitlines()[-1]


def test_three_brokers_survive_the_loss_of_one(kafka_cluster: "StartedKafka") -> None:
    """Three brokers keep three copies by default; when one is killed the others, and the command, go on."""
    addresses = kafka_cluster.bootstrap.split(",")
    assert addresses == [f"127.0.0.1:{kafka_cluster.port + i}" for i in range(3)]
    create_topic(kafka_cluster.bootstrap, "copied.v1", replicas=-1)
    admin = KafkaAdminClient(bootstrap_servers=addresses[1])
    try:
        assert len(admin.describe_cluster()["brokers"]) == 3
        (partition,) = admin.describe_topics(["copied.v1"])[0]["partitions"]
        replicas = partition.get("replica_nodes") or partition["replicas"]
        assert sorted(replicas) == [1, 2, 3]
    finally:
        admin.close()

    nodes = kafka_cluster.java_pids()
    assert len(nodes) == 3
    os.kill(nodes[0], signal.SIGKILL)
    assert wait_until(lambda: "kafka_node_ended" in kafka_cluster.stderr, 10)
    survivors = ",".join(addresses[1:])
    produce(survivors, "copied.v1", [b"after"])
    assert consume(survivors, "copied.v1", 1) == [b"after"]
    assert kafka_cluster.process.poll() is None


def test_port_taken(tmp_path: Path) -> None:
    """A taken port is named, with what to do, and no folder is formatted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = fails("--data-dir", tmp_path / "data", "--port", port)
    assert f"port {port} of 127.0.0.1 is taken" in said
    assert "--port" in said
    assert not (tmp_path / "data/node-1/data").exists()


def test_folder_in_use(shared_kafka: "StartedKafka") -> None:
    """The folder of a running Kafka is refused, and its process named."""
    said = fails("--data-dir", shared_kafka.data_dir)
    assert "in use by another `farpoint kafka`" in said
    assert str(shared_kafka.pid) in said


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made is named, with what to do."""
    (tmp_path / "file").touch()
    for data_dir in (tmp_path / "file", tmp_path / "file/data"):
        said = fails("--data-dir", data_dir)
        assert f"cannot write to the folder {data_dir}" in said
        assert "--data-dir" in said


def test_folder_of_another_kafka(tmp_path: Path) -> None:
    """A folder that another Kafka formatted is refused and left as it was."""
    (tmp_path / "meta.properties").write_text("cluster.id=somebody-elses\n", encoding="ascii")
    assert "belongs to another Kafka" in fails("--data-dir", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["meta.properties"]


def test_folder_of_another_size_of_cluster(tmp_path: Path) -> None:
    """A folder of three brokers is not opened as one."""
    (tmp_path / "cluster.json").write_text(json.dumps({"cluster_id": "x", "brokers": 3}), encoding="ascii")
    said = fails("--data-dir", tmp_path)
    assert "holds a cluster of 3, not of 1" in said
    assert "--brokers 3" in said


def test_no_network_on_the_first_start(tmp_path: Path) -> None:
    """Without jars and without network the command says both ways out in one line."""
    env = NO_NETWORK | {"M2_REPO": str(tmp_path / "m2"), "NO_PROXY": "", "no_proxy": ""}
    said = fails("--data-dir", tmp_path / "data", **env)
    assert "no network" in said
    assert "FARPOINT_KAFKA__BOOTSTRAP_SERVERS" in said


@pytest.mark.parametrize("arguments", [["--brokers", "2"], ["--port", "0"], ["--host", ""], ["--nonsense"]])
def test_bad_usage(arguments: list[str]) -> None:
    """What the command does not know is bad usage: exit 2."""
    assert run_kafka(*arguments).returncode == 2


def run_kafka(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "farpoint.cli", "kafka", *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=60, check=False)


def fails(*arguments: object, **env: str) -> str:
    """Run the command, which must fail with exit code 1 and one line that says why; return that line."""
    done = run_kafka(*arguments, **env)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("farpoint: "))
    return line


def create_topic(bootstrap: str, topic: str, replicas: int = 1) -> None:
    """Create a topic of one partition."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=replicas)])
    finally:
        admin.close()


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Send records and wait until the brokers have them."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=16 * 2**20)
    try:
        sent = [producer.send(topic, value) for value in values]
        for future in sent:
            future.get(timeout=30)
    finally:
        producer.close()


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read that many records from the beginning, by assignment."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, consumer_timeout_ms=30_000)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    values: list[bytes] = []
    try:
        for record in consumer:
            values.append(record.value)
            if len(values) == count:
                break
    finally:
        consumer.close()
    return values


def is_alive(pid: int) -> bool:
    """Return whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
