"""The parts of `farpoint kafka` that need no running Kafka: properties, folder, jars, ports."""

import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from farpoint.errors import FarpointError
from farpoint.local_kafka import folder, runtime
from farpoint.local_kafka.folder import KafkaFolder, formatted_cluster_id
from farpoint.local_kafka.launcher import KafkaLauncher, default_data_dir
from farpoint.local_kafka.node import NodeAddress, properties
from farpoint.local_kafka.runtime import KafkaRuntime
from farpoint.ports import accepts, check_free, free_ports


def addresses(count: int) -> list[NodeAddress]:
    """Return the addresses of a cluster."""
    return [NodeAddress(i, "127.0.0.1", 9091 + i, 19091 + i) for i in range(1, count + 1)]


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_copies_follow_the_number_of_brokers(brokers: int, copies: str, in_sync: str) -> None:
    """Topics of people and Kafka's own have as many copies as there are brokers; of three, two must be in sync."""
    written = properties(addresses(brokers)[0], addresses(brokers))
    for prefix in ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert written[f"{prefix}.replication.factor"] == copies
    for name in ("min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"):
        assert written[name] == in_sync


def test_what_is_accepted_can_be_copied() -> None:
    """Brokers fetch records as large as they accept, topics are never made by accident, groups start at once."""
    written = properties(addresses(3)[1], addresses(3))
    assert written["message.max.bytes"] == written["replica.fetch.max.bytes"] == str(16 * 2**20)
    assert written["auto.create.topics.enable"] == "false"
    assert written["group.initial.rebalance.delay.ms"] == "0"
    assert written["node.id"] == "2"
    assert written["controller.quorum.voters"] == "1@127.0.0.1:19092,2@127.0.0.1:19093,3@127.0.0.1:19094"


def test_controllers_never_leave_the_machine() -> None:
    """With --host only the clients' listener is reachable from elsewhere."""
    address = NodeAddress(1, "10.0.0.7", 9092, 19092)
    written = properties(address, [address])
    assert written["listeners"] == "PLAINTEXT://10.0.0.7:9092,CONTROLLER://127.0.0.1:19092"
    assert written["advertised.listeners"] == "PLAINTEXT://10.0.0.7:9092"


def test_bootstrap_servers() -> None:
    """Three brokers take the port and the two after it."""
    launcher = KafkaLauncher(Path("unused"), port=9092, brokers=3)
    assert launcher.bootstrap_servers == "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"


def test_default_data_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data are kept in the user's data folder, apart for one and for three brokers."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "farpoint/kafka"
    assert default_data_dir(3) == tmp_path / "farpoint/kafka-3"


def test_folder_keeps_its_cluster(tmp_path: Path) -> None:
    """A folder that is opened again is the same cluster."""
    first = KafkaFolder.take(tmp_path / "data", 1)
    first.release()
    again = KafkaFolder.take(tmp_path / "data", 1)
    again.release()
    assert again.cluster_id == first.cluster_id
    assert len(again.cluster_id) == 22
    assert again.node(1).is_dir()


def test_folder_is_taken_once(tmp_path: Path) -> None:
    """While somebody has the folder nobody else gets it; afterwards they do."""
    folder = KafkaFolder.take(tmp_path, 1)
    with pytest.raises(FarpointError, match=f"in use by another `farpoint kafka` \\(process {os.getpid()}\\)"):
        KafkaFolder.take(tmp_path, 1)
    folder.release()
    KafkaFolder.take(tmp_path, 1).release()


def test_folder_waits_for_the_nodes_of_a_dead_launcher(tmp_path: Path) -> None:
    """A lock that only the guardians of a dead launcher hold is waited for, not refused."""
    KafkaFolder.take(tmp_path, 1).release()
    holder = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'a+'); fcntl.flock(lock, fcntl.LOCK_EX); lock.truncate(0); "
        "lock.write('999999999'); lock.flush(); print('held', flush=True); time.sleep(0.5)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, tmp_path / "lock"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        KafkaFolder.take(tmp_path, 1).release()
        assert process.wait(10) == 0


def test_folder_refused_is_not_kept_locked(tmp_path: Path) -> None:
    """A folder refused for its size is free for who asks rightly."""
    KafkaFolder.take(tmp_path, 3).release()
    with pytest.raises(FarpointError, match="holds a cluster of 3, not of 1: start it with --brokers 3"):
        KafkaFolder.take(tmp_path, 1)
    KafkaFolder.take(tmp_path, 3).release()


def test_folder_with_a_node_of_another_cluster(tmp_path: Path) -> None:
    """A node that was formatted for another cluster is named."""
    folder = KafkaFolder.take(tmp_path, 1)
    folder.release()
    assert formatted_cluster_id(folder.node(1)) is None
    (folder.node(1) / "data").mkdir()
    (folder.node(1) / "data/meta.properties").write_text("#\nversion=1\ncluster.id=theirs\n", encoding="ascii")
    assert formatted_cluster_id(folder.node(1)) == "theirs"
    with pytest.raises(FarpointError, match=r"node-1 was formatted for another cluster \(theirs\)"):
        KafkaFolder.take(tmp_path, 1)


@pytest.mark.parametrize("content", ["not JSON", "[]", '{"brokers": 1}'])
def test_folder_with_a_strange_cluster_file(tmp_path: Path, content: str) -> None:
    """A cluster.json that is not ours is refused in one line."""
    (tmp_path / "cluster.json").write_text(content, encoding="utf-8")
    with pytest.raises(FarpointError, match=r"cluster\.json that is not Farpoint's"):
        KafkaFolder.take(tmp_path, 1)


def test_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """A folder full of something else is refused, and nothing is put into it."""
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(FarpointError, match=r"holds other things \(holiday\.jpg\)"):
        KafkaFolder.take(tmp_path, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.jpg"]


def test_folder_killed_in_its_first_moments(tmp_path: Path) -> None:
    """What a launcher leaves that was killed before it wrote cluster.json is no obstacle."""
    (tmp_path / "lock").touch()
    (tmp_path / "node-1").mkdir()
    (tmp_path / "cluster.json.draft").touch()
    KafkaFolder.take(tmp_path, 1).release()


def test_cluster_ids_are_no_options() -> None:
    """An id never begins with a dash, which Kafka's tools would take for an option."""
    assert not any(folder._new_cluster_id().startswith("-") for _ in range(1000))


def test_jars_are_listed_only_when_all_are_there(tmp_path: Path) -> None:
    """A jar that is gone or has another size makes the list void: it is resolved again."""
    jar, listing = tmp_path / "a.jar", tmp_path / "jars.json"
    assert runtime._read_resolved(listing, tmp_path) is None
    jar.write_bytes(b"1234")
    listing.write_text(json.dumps({"a.jar": 4}), encoding="utf-8")
    assert runtime._read_resolved(listing, tmp_path) == (jar,)
    jar.write_bytes(b"12")
    assert runtime._read_resolved(listing, tmp_path) is None
    jar.unlink()
    assert runtime._read_resolved(listing, tmp_path) is None


class HalfDownloaded:
    """An artifact whose jar in the cache was cut short; asked again, it is downloaded whole, or cut short again."""

    def __init__(self, jar: Path, *, mends: bool) -> None:
        self.jar, self.mends = jar, mends
        with zipfile.ZipFile(jar, "w") as archive:
            archive.writestr("Main.class", bytes(1000))
        self.whole = jar.read_bytes()
        jar.write_bytes(self.whole[:500])

    def resolve(self) -> Path:
        """Return the jar, as jgo's artifacts do."""
        if not self.jar.exists():
            self.jar.write_bytes(self.whole if self.mends else self.whole[:500])
        return self.jar


def test_a_jar_cut_short_is_fetched_again(tmp_path: Path) -> None:
    """A download that was interrupted does not stay broken; one that always arrives damaged is an error."""
    assert zipfile.is_zipfile(runtime._fetch(HalfDownloaded(tmp_path / "a.jar", mends=True)))
    with pytest.raises(RuntimeError, match=r"b\.jar arrives damaged"):
        runtime._fetch(HalfDownloaded(tmp_path / "b.jar", mends=False))


def test_command_line() -> None:
    """Options for Java come before the class, the class's arguments after it."""
    runtime = KafkaRuntime(Path("java"), (Path("a.jar"), Path("b.jar")))
    command = runtime.command("kafka.Kafka", ["server.properties"], ["-Xmx1g"])
    assert command == ["java", "-Xmx1g", "-cp", f"a.jar{os.pathsep}b.jar", "kafka.Kafka", "server.properties"]


def test_taken_port_is_named() -> None:
    """A port on which somebody listens is taken; it is free once nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert accepts("127.0.0.1", port)
        with pytest.raises(FarpointError, match=f"port {port} of 127.0.0.1 is taken"):
            check_free("127.0.0.1", port)
    assert not accepts("127.0.0.1", port)
    check_free("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_foreign_host_is_named(host: str) -> None:
    """An address of another machine, or no address at all, points at --host."""
    with pytest.raises(FarpointError, match=f"{host} is not .*: see --host"):
        check_free(host, 9092)


def test_free_ports_avoid_what_is_spoken_for() -> None:
    """Free ports lie in a row and leave out those that were named."""
    avoid = range(20_000, 32_000, 8)
    for _ in range(20):
        found = free_ports(3, avoid=avoid)
        assert len(found) == 3
        assert not set(found) & set(avoid)
