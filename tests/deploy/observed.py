"""A worker under a small load, watched by the real Prometheus and the real Alertmanager with the shipped configuration.

What is shipped waits minutes, so a copy of it is made that waits seconds: intervals and `for`, addresses, nothing else.
"""

import itertools
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import yaml
from tests.integration.worker_process import Topics, WorkerProcess, unique_name, wait_for
from tests.pictures import encode, jpeg, stranger
from tests.vectors import as_json, clustered, outlier

from boards.preview import PanelQueries
from farpoint.child_process import ChildProcess
from farpoint.ports import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
SECONDS = 120.0
"""How far back the boards look."""
WORKER_SETTINGS = {
    "FARPOINT_DETECTOR__WARM_UP": "64",
    "FARPOINT_METRICS__DETECTORS": "shared,flows",
    "FARPOINT_METRICS__SOURCES": "gate,yard",
}


class Load:
    """Publishes about 25 pictures a second of two listed sources and one other, vectors, strangers and bad records."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        rng = np.random.default_rng(5)
        names = self._topics.names
        pictures = [jpeg(rng) for _ in range(60)]
        strangers = [encode(stranger(rng)) for _ in range(20)]
        for number in itertools.count():
            if self._ended.wait(0.2):
                return
            for source in ("gate", "gate", "yard", "yard", "hall"):
                self._topics.publish(names.frames, pictures[int(rng.integers(len(pictures)))], source)
            self._topics.publish(names.embeddings, as_json(clustered(rng, 16)), "flows")
            if number % 10 == 9 and number > 60:
                self._topics.publish(names.images, strangers[number // 10 % len(strangers)], "yard")
                self._topics.publish(names.embeddings, as_json(outlier()), "flows")
            if number % 25 == 24:
                self._topics.publish(names.frames, b"no picture", "gate")
                self._topics.publish(names.embeddings, b"no vectors", "flows")


class Webhook:
    """Somebody who is paged: keeps what Alertmanager sends, by the path that it sends it to."""

    def __init__(self) -> None:
        self.pages: list[tuple[str, dict[str, Any]]] = []
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                pages.extend((self.path, alert) for alert in json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- http.server's name
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def got(self, name: str, status: str) -> list[tuple[str, dict[str, Any]]]:
        """Return (path, alert) for what came of an alert: `firing` or `resolved`."""
        return [
            (path, alert)
            for path, alert in self.pages
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]


class Observed:
    """What runs; use `observed`."""

    def __init__(self, folder: Path, topics: Topics, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._workers = itertools.count(1)
        self.topics = topics
        self.webhook = Webhook()
        stack.callback(self.webhook.close)
        worker_port, prometheus_port, alertmanager_port = free_ports(3)
        self._worker_port = worker_port
        self.prometheus = f"http://127.0.0.1:{prometheus_port}"
        self.alertmanager = f"http://127.0.0.1:{alertmanager_port}"
        self.worker = self.start_worker()
        self._start_alertmanager(alertmanager_port)
        self._start_prometheus(prometheus_port, alertmanager_port)
        stack.enter_context(Load(topics))

    def start_worker(self) -> WorkerProcess:
        """Start a worker where Prometheus looks for it."""
        settings = WORKER_SETTINGS | {"FARPOINT_HTTP__PORT": str(self._worker_port)}
        at = self._folder / f"worker-{next(self._workers)}"
        worker = WorkerProcess(self.topics.bootstrap, self.topics.domain, at, "embed,detect", settings)
        worker.port = self._worker_port
        self._stack.enter_context(worker)
        worker.wait_until_ready()
        return worker

    @property
    def queries(self) -> PanelQueries:
        """What panels ask, of the last two minutes."""
        return PanelQueries(self.prometheus, SECONDS, step=5.0, rate_interval=6.0)

    def get(self, path: str) -> Any:
        """Ask Prometheus."""
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _start_alertmanager(self, port: int) -> None:
        config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
        config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        for receiver in config["receivers"]:
            for hook in receiver["webhook_configs"]:
                hook["url"] = hook["url"].replace("http://127.0.0.1:9095", self.webhook.address)
        file = self._folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._start(
            alertmanager_program(),
            f"--config.file={file}",
            f"--storage.path={self._folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            address=self.alertmanager,
        )

    def _start_prometheus(self, port: int, alertmanager_port: int) -> None:
        folder = self._folder / "prometheus"
        shutil.copytree(DEPLOY / "prometheus", folder)
        config = folder / "prometheus.yml"
        shipped = yaml.safe_load(config.read_text(encoding="utf-8"))
        shipped["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config.write_text(yaml.safe_dump(shipped), encoding="utf-8")
        for file in (folder / "rules").glob("*.yml"):
            rules = yaml.safe_load(file.read_text(encoding="utf-8"))
            for rule in (rule for group in rules["groups"] for rule in group["rules"]):
                if "for" in rule:
                    rule["for"] = "10s"
            file.write_text(yaml.safe_dump(rules), encoding="utf-8")
        for name, target in (("farpoint", self._worker_port), ("alertmanager", alertmanager_port)):
            targets = [{"targets": [f"127.0.0.1:{target}"]}]
            (folder / "targets" / f"{name}.yml").write_text(yaml.safe_dump(targets), encoding="utf-8")
        self._start(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            address=self.prometheus,
        )

    def _start(self, program: str, *options: str, address: str) -> None:
        name = Path(program).name
        self._stack.enter_context(
            ChildProcess([program, *options], name=name, output=self._folder / f"{name}.log", grace_seconds=10.0)
        )
        wait_for(lambda: _ready(f"{address}/-/ready"), f"{name}, whose log is {self._folder / name}.log", 60)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def alertmanager_program() -> str:
    """Return the program's path: Debian calls it otherwise."""
    return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager") or "alertmanager"


@contextmanager
def observed(bootstrap: str, folder: Path) -> Iterator[Observed]:
    """Run all of it on a Kafka that is there."""
    with ExitStack() as stack:
        topics = stack.enter_context(Topics(bootstrap, unique_name("o")))
        yield Observed(folder, topics, stack)


def wait_until_filled(seen: Observed, seconds: float = 35.0) -> None:
    """Wait until the load has gone on for so long, alerts and dead letters among it."""
    began = time.monotonic()
    wait_for(lambda: "farpoint_outlier_alerts_total 0.0" not in seen.worker.get("/metrics")[2], "an alert")
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
