"""deploy/compose.yaml: read by Compose's own loader, and everything that it wires done without containers."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jgo.maven import MavenContext
from tests.deploy.deploy_programs import ROOT, program
from tests.pictures import jpeg

from farpoint.child_process import ChildProcess
from farpoint.local_kafka.runtime import KAFKA_VERSION, KafkaRuntime
from farpoint.ports import free_ports

COMPOSE = ROOT / "deploy/compose.yaml"


def model() -> dict[str, Any]:
    """Return compose.yaml as Compose's loader understands it: merged, interpolated, checked, every profile."""
    loaded = subprocess.run(
        [program("compose-go"), "--format", "json", COMPOSE.name],
        capture_output=True,
        text=True,
        cwd=COMPOSE.parent,
        check=False,
    )
    assert (loaded.returncode, loaded.stderr) == (0, "")
    found: dict[str, Any] = json.loads(loaded.stdout)
    return found


def test_compose_understands_it() -> None:
    """Merge keys, profiles, conditions and the GPU's reservation come out as meant, with no warning."""
    services = model()["services"]
    assert set(services) == {
        "kafka", "topics", "worker", "worker-gpu", "tools", "prometheus", "alertmanager", "grafana",
    }  # fmt: skip
    gpu = services["worker-gpu"]
    assert (gpu["image"], gpu["build"]["target"]) == ("farpoint:gpu", "gpu")
    assert gpu["environment"]["FARPOINT_EMBEDDER__DEVICE"] == "cuda"
    assert gpu["environment"]["FARPOINT_KAFKA__BOOTSTRAP_SERVERS"] == "kafka:19092"
    assert gpu["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    assert gpu["read_only"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert Path(services["worker"]["build"]["context"]) == ROOT
    assert services["tools"]["healthcheck"] == {"disable": True}


def test_the_users_settings_go_in() -> None:
    """What the file lets one choose reaches every service of ours, and without a choice the default does."""
    raw = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    given = model()["services"]
    for name in ("topics", "worker", "worker-gpu", "tools"):
        for setting, default in (("TOPICS__DOMAIN", "vision"), ("DETECTOR__SCOPE", "shared")):
            variable = f"FARPOINT_{setting}"
            assert raw[name]["environment"][variable] == f"${{{variable}:-{default}}}"
            assert given[name]["environment"][variable] == default


@dataclass
class Wired:
    """The services with the names of containers and their ports replaced by this machine's."""

    services: dict[str, Any]
    places: Mapping[str, str]
    folder: Path

    def here(self, text: str) -> str:
        """Replace what only exists inside containers."""
        for there, here in self.places.items():
            text = text.replace(there, here)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment that a service is given, and nothing of ours but the path."""
        given = {key: self.here(str(value)) for key, value in self.services[name]["environment"].items()}
        given["FARPOINT_TOPICS__PARTITIONS"] = "2"  # ten topics of eight make a slow start
        image = {"HOME": "/nonexistent", "TMPDIR": str(self.folder), "FARPOINT_HTTP__HOST": "0.0.0.0"}  # noqa: S104
        port = {"FARPOINT_HTTP__PORT": self.places[":8080"].removeprefix(":")}
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | image | port | given

    def command(self, name: str, *instead: str) -> list[str]:
        """Return a service's command line: the image's entry point and its command."""
        return [sys.executable, "-m", "farpoint.cli", *(instead or self.services[name]["command"])]

    def run(self, name: str, *instead: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends."""
        return subprocess.run(
            self.command(name, *instead),
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment(name),
            cwd=self.folder,
            check=False,
        )


def _properties(wired: Wired) -> dict[str, str]:
    # As the official image does: KAFKA_A_B becomes a.b.
    environment = {name: wired.here(str(value)) for name, value in wired.services["kafka"]["environment"].items()}
    found = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith("KAFKA_")
    }
    # The image formats and listens in the container; here every address is the loopback.
    found["listeners"] = found["listeners"].replace("://:", "://127.0.0.1:")
    return found | {"log.dirs": str(wired.folder / "data"), "log.cleaner.dedupe.buffer.size": "16777216"}


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """Start Kafka by the environment of the service `kafka`, with its other ports."""
    folder = tmp_path_factory.mktemp("compose")
    internal, external, controller, http = free_ports(4)
    places = {
        "kafka:19092": f"127.0.0.1:{internal}",
        "kafka:9093": f"127.0.0.1:{controller}",
        ":19092": f":{internal}",
        ":9093": f":{controller}",
        ":9092": f":{external}",
        ":8080": f":{http}",
    }
    wired = Wired(model()["services"], places, folder)
    found = KafkaRuntime.find()
    tools = MavenContext().project("org.apache.kafka", "kafka-tools").at_version(KAFKA_VERSION).artifact().resolve()
    runtime = KafkaRuntime(found.java, (*found.jars, Path(tools)))
    (folder / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in _properties(wired).items()))
    cluster = wired.services["kafka"]["environment"]["CLUSTER_ID"]
    formatting = ["format", "-t", cluster, "-c", "server.properties"]
    formatted = subprocess.run(
        runtime.command("kafka.tools.StorageTool", formatting),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    broker = ChildProcess(
        runtime.command("kafka.Kafka", ["server.properties"], ["-Xmx384m"]),
        name="kafka",
        output=folder / "kafka.log",
        cwd=folder,
    )
    with ExitStack() as stack:
        stack.enter_context(broker)
        _wait_until_healthy(wired, runtime)
        yield wired


def _wait_until_healthy(wired: Wired, runtime: KafkaRuntime) -> None:
    check = wired.services["kafka"]["healthcheck"]
    kind, tool, *arguments = check["test"]
    assert (kind, tool) == ("CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh")
    command = runtime.command(
        "org.apache.kafka.tools.BrokerApiVersionsCommand", [wired.here(argument) for argument in arguments]
    )
    for _ in range(check["retries"]):
        # The timeout of the file is for a quiet machine.
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=wired.folder, check=False)
        if done.returncode == 0:
            return
    pytest.fail(f"never healthy: {done.stdout}{done.stderr}\n{(wired.folder / 'kafka.log').read_text()[-3000:]}")


def test_topics_then_worker_then_tools(wired: Wired, tmp_path: Path) -> None:
    """In the order of `depends_on`: topics end with 0, the worker gets healthy, tools publish and see the decision."""
    applied = wired.run("topics")
    assert applied.returncode == 0, applied.stderr
    worker = ChildProcess(
        wired.command("worker"),
        name="the worker",
        error_output=tmp_path / "worker.log",
        env=wired.environment("worker"),
        cwd=wired.folder,
        grace_seconds=60.0,
    )
    with worker:
        worker.wait_for_line("worker ready", 120)
        _healthy(wired)
        checked = wired.run("tools")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        (tmp_path / "one.jpg").write_bytes(jpeg(np.random.default_rng(1)))
        published = wired.run("tools", "publish", str(tmp_path / "one.jpg"))
        assert published.returncode == 0, published.stderr
        external = {"FARPOINT_KAFKA__BOOTSTRAP_SERVERS": wired.here("127.0.0.1:9092")}
        outside = subprocess.run(
            wired.command("tools", "topics", "show", "--json"),
            capture_output=True,
            text=True,
            env=wired.environment("tools") | external,
            check=False,
        )
        assert outside.returncode == 0, outside.stderr
        rows = {row["topic"]: row for row in map(json.loads, outside.stdout.splitlines())}
        assert rows["vision.images.v1"]["records"] == 1
        assert rows["vision.images.v1"]["partitions"] == 2
        metrics = urllib.request.urlopen(f"http://127.0.0.1{wired.places[':8080']}/metrics", timeout=10)
        assert b"farpoint_frames_embedded_total" in metrics.read()
        assert worker.stop() == 0


def _healthy(wired: Wired) -> None:
    # The image's own health check, word for word, in the worker's environment.
    (line,) = [
        line
        for line in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").splitlines()
        if '"python", "-c"' in line
    ]
    _, *arguments = json.loads(line.strip().removeprefix("CMD "))
    command, env = [sys.executable, *arguments], wired.environment("worker")
    assert subprocess.run(command, env=env, timeout=30, check=False).returncode == 0
    nobody = env | {"FARPOINT_HTTP__PORT": str(free_ports(1)[0])}
    assert subprocess.run(command, env=nobody, timeout=30, capture_output=True, check=False).returncode != 0
