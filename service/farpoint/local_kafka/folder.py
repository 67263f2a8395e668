"""The folder of a local Kafka: which cluster it belongs to, who uses it, and where its nodes keep what.

::

    cluster.json        cluster id, number of brokers: written once
    lock                held while a node runs; names the launcher's process id
    node-1/             one folder a node
        data/           what Kafka keeps (`log.dirs`)
        server.log      Kafka's own log, 10 MB, and three older ones
        console.log     what its Java says before and beside that
        pid             process id of the Java, while it runs
"""

import base64
import fcntl
import json
import os
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

import structlog

from farpoint.errors import FarpointError

# Nodes of a launcher that was killed have so long to stop before the guardian kills them; a new start waits for that.
_WAIT_FOR_STOPPING_NODES_SECONDS = 30.0

log = structlog.get_logger(__name__)


class KafkaFolder:
    """A data folder, taken for one launcher at a time.

    Attributes
    ----------
    path
        The folder.
    brokers
        Number of nodes.
    cluster_id
        Kafka's id of the cluster, made when the folder was new.
    """

    def __init__(self, path: Path, brokers: int, cluster_id: str, lock: IO[str]) -> None:
        self.path = path
        self.brokers = brokers
        self.cluster_id = cluster_id
        self._lock = lock

    @classmethod
    def take(cls, path: Path, brokers: int) -> Self:
        """Make or open the folder, and lock it.

        Raises
        ------
        FarpointError
            It cannot be written, somebody else uses it, or what it holds is not this cluster.
        """
        path = path.expanduser().absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / "cluster.json").exists():  # before the lock file is made: a foreign folder is left as it was
                _refuse_foreign(path)
            with ExitStack() as stack:
                lock = stack.enter_context(_lock(path / "lock"))
                cluster_id = (_open if (path / "cluster.json").exists() else _create)(path, brokers)
                stack.pop_all()
        except OSError as error:
            raise FarpointError(
                f"cannot write to the folder {path} ({error.strerror}): choose another with --data-dir"
            ) from error
        return cls(path, brokers, cluster_id, lock)

    @property
    def lock_descriptor(self) -> int:
        """File descriptor of the lock: whoever has it open keeps the folder taken."""
        return self._lock.fileno()

    def node(self, node_id: int) -> Path:
        """Return the folder of a node."""
        return _node(self.path, node_id)

    def release(self) -> None:
        """Let others take the folder, once the nodes are gone."""
        self._lock.close()


def _node(path: Path, node_id: int) -> Path:
    return path / f"node-{node_id}"


def _refuse_foreign(path: Path) -> None:
    content = {entry.name for entry in path.iterdir()} - {"lock", "lost+found"}
    if "meta.properties" in content:
        raise FarpointError(
            f"the folder {path} belongs to another Kafka (it holds meta.properties): choose another with --data-dir"
        )
    # A launcher that was killed in its very first moments leaves empty folders for the nodes.
    if strange := {name for name in content if not name.startswith(("node-", "cluster.json"))}:
        raise FarpointError(
            f"the folder {path} holds other things ({min(strange)}): choose an empty or a new one with --data-dir"
        )


def _create(path: Path, brokers: int) -> str:
    cluster_id = _new_cluster_id()
    for node_id in range(1, brokers + 1):
        _node(path, node_id).mkdir(exist_ok=True)
    draft = path / "cluster.json.draft"
    draft.write_text(json.dumps({"cluster_id": cluster_id, "brokers": brokers}) + "\n", encoding="utf-8")
    draft.replace(path / "cluster.json")
    return cluster_id


def _open(path: Path, brokers: int) -> str:
    try:
        cluster = json.loads((path / "cluster.json").read_text(encoding="utf-8"))
        cluster_id, there = str(cluster["cluster_id"]), int(cluster["brokers"])
    except (ValueError, KeyError, TypeError) as error:
        raise FarpointError(f"the folder {path} holds a cluster.json that is not Farpoint's: choose another") from error
    if there != brokers:
        raise FarpointError(
            f"the folder {path} holds a cluster of {there}, not of {brokers}: "
            f"start it with --brokers {there}, or choose another with --data-dir"
        )
    for node_id in range(1, brokers + 1):
        formatted = formatted_cluster_id(_node(path, node_id))
        if formatted not in (None, cluster_id):
            raise FarpointError(
                f"the folder {_node(path, node_id)} was formatted for another cluster ({formatted}) "
                f"than the one it lies in ({cluster_id}): choose another with --data-dir"
            )
        _node(path, node_id).mkdir(exist_ok=True)
    return cluster_id


def formatted_cluster_id(node: Path) -> str | None:
    """Return the cluster that a node's data belong to; None where it has none yet."""
    try:
        properties = (node / "data" / "meta.properties").read_text(encoding="latin-1")
    except FileNotFoundError:
        return None
    return dict(line.split("=", 1) for line in properties.splitlines() if "=" in line).get("cluster.id")


def _lock(path: Path) -> IO[str]:
    lock = path.open("a+", encoding="ascii")
    deadline = time.monotonic() + _WAIT_FOR_STOPPING_NODES_SECONDS
    waited = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            if time.monotonic() > deadline or not holder.isdigit() or _is_alive(int(holder)):
                lock.close()
                raise FarpointError(
                    f"the folder {path.parent} is in use by another `farpoint kafka` (process {holder or 'unknown'}): "
                    "stop that one, or choose another with --data-dir"
                ) from None
            # Its launcher is dead and its guardians are stopping its nodes.
            if not waited:
                log.info("kafka_waits_for_former_nodes", folder=str(path.parent))
                waited = True
            time.sleep(0.1)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _new_cluster_id() -> str:
    while (cluster_id := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")).startswith("-"):
        pass  # as Kafka does: an id in front of which nobody takes it for an option
    return cluster_id
