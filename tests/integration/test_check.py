"""`farpoint check` against a real Kafka and without one."""

import http.server
import json
import shutil
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from farpoint.ports import free_ports
from farpoint_models.card import shipped_model_folder

if TYPE_CHECKING:
    from tests.integration.conftest import Deployment


def findings(deployment: "Deployment", code: int, **env: str) -> dict[str, dict[str, Any]]:
    """Run the check and return what it found, by the name of each check."""
    done = deployment.run("check", "--json", **{"FARPOINT_HTTP__PORT": "0"} | env)
    assert done.returncode == code, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] == (code == 0)
    return {found["check"]: found for found in said["checks"]}


def failed(found: dict[str, dict[str, Any]]) -> set[str]:
    """Return the names of the checks that failed; each must say what to do."""
    assert all(one["remedy"] for one in found.values() if not one["ok"])
    return {name for name, one in found.items() if not one["ok"]}


def test_all_is_well(deployment: "Deployment") -> None:
    """With Kafka, topics and the shipped model everything is ok, and the provider that really runs is named."""
    found = findings(deployment, 0)
    assert set(found) == {"settings", "kafka", "topics", "model", "execution provider", "http port"}
    assert "ExecutionProvider" in found["execution provider"]["message"]
    assert deployment.bootstrap in found["kafka"]["message"]
    text = deployment.run("check", FARPOINT_HTTP__PORT="0")
    assert all(line.startswith("ok ") for line in text.stdout.splitlines())


def test_missing_topics_are_named(bare: "Deployment") -> None:
    """Topics that are not there are named together with the command that creates them; the rest is looked at."""
    found = findings(bare, 1)
    assert failed(found) == {"topics"}
    assert bare.topic("frames") in found["topics"]["message"]
    assert found["topics"]["remedy"] == "farpoint topics apply"


def test_without_kafka_the_rest_is_looked_at(bare: "Deployment") -> None:
    """A broker that does not answer fails its checks in seconds, and hides nothing else."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    found = findings(bare, 1, FARPOINT_KAFKA__BOOTSTRAP_SERVERS=address)
    assert failed(found) == {"kafka", "topics"}
    assert address in found["kafka"]["message"]


@pytest.mark.parametrize("damage", ["none there", "card", "file", "graph"])
def test_a_damaged_model_is_found(deployment: "Deployment", tmp_path: Path, damage: str) -> None:
    """A model without card, with a broken card, with another file than its card says, or with no graph in it."""
    folder = tmp_path / "model"
    if damage != "none there":
        shutil.copytree(shipped_model_folder(), folder)
    if damage == "card":
        (folder / "card.json").write_text("{}", encoding="utf-8")
    elif damage == "file":
        for file in folder.glob("*.onnx"):
            file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    elif damage == "graph":
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        for file in card["files"].values():
            (folder / file["file"]).write_bytes(b"no graph")
            file.pop("sha256")
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    found = findings(deployment, 1, FARPOINT_EMBEDDER__MODEL=str(folder))
    assert failed(found) == ({"execution provider"} if damage == "graph" else {"model", "execution provider"})


def test_a_port_that_is_taken_is_found(deployment: "Deployment") -> None:
    """A port that something else listens on is not ok."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = findings(deployment, 1, FARPOINT_HTTP__PORT=str(taken.getsockname()[1]))
    assert failed(found) == {"http port"}


def test_a_port_of_a_live_worker_is_well(deployment: "Deployment") -> None:
    """Where a worker answers on the port, all is as it should be."""

    class Alive(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer as a live worker does."""
            self.send_response(200 if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Alive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = findings(deployment, 0, FARPOINT_HTTP__PORT=str(server.server_port))
        server.shutdown()
    assert "live worker" in found["http port"]["message"]
