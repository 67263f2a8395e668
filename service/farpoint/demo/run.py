"""`farpoint demo`: the whole product on one machine: Kafka, topics, worker, cameras, and somebody who watches."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from farpoint import kafka_clients
from farpoint.child_process import ChildProcess
from farpoint.demo.audience import DemoAudience
from farpoint.demo.cameras import DemoShow, demo_cameras
from farpoint.errors import FarpointError
from farpoint.local_kafka.launcher import KafkaLauncher
from farpoint.ports import free_ports
from farpoint.publishing.publisher import Publisher
from farpoint.settings import Settings
from farpoint.topic_admin import apply_topics
from farpoint.topics import topics_table
from farpoint.wire import OutlierAlert

# Published and not decided yet: the show stays close to live, however slow the machine.
_AHEAD = 192
_READY_SECONDS = 180.0
_STALLED_SECONDS = 120.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DemoSummary:
    """What the demo ends with."""

    published: int
    embedded: int
    assigned: int
    detectors: int
    clusters: int
    planted: int
    planted_found: int
    other_alerts: int
    seconds_to_first_alert: float | None
    frames_per_second: float
    folder: str
    contact_sheet: str

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and every planted outlier was found."""
        return self.published == self.embedded == self.assigned and self.planted == self.planted_found

    def as_json(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)


class Demo:
    """Everything the demo starts; leaving the context ends all of it.

    Parameters
    ----------
    settings
        The user's; where Kafka is and what listens where is the demo's own affair.
    folder
        Where pictures and logs go.
    say
        Called with a line on what is going on.
    on_alert
        Called with each alert and the file of its picture.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        say: Callable[[str], None],
        on_alert: Callable[[OutlierAlert, Path | None], None],
    ) -> None:
        self._began = time.monotonic()
        self._first_alert: float | None = None
        self._folder = folder
        self._say = say
        self._on_alert = on_alert
        kafka_port, http_port = free_ports(2)
        self.settings = settings.model_copy(
            update={
                "kafka": type(settings.kafka)(bootstrap_servers=f"127.0.0.1:{kafka_port}"),
                "detector": settings.detector.model_copy(update={"scope": "source"}),
                "http": settings.http.model_copy(update={"host": "127.0.0.1", "port": http_port}),
            }
        )
        self._kafka_port = kafka_port
        self._open = ExitStack()
        self._worker: ChildProcess | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "Demo":
        """Start Kafka, the topics and the worker."""
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End everything that was started."""
        self._ended.set()
        self._open.close()

    def _start(self) -> None:
        data_dir = self._open.enter_context(TemporaryDirectory(prefix="farpoint-demo-"))
        self._say("starting Kafka")
        self._open.enter_context(KafkaLauncher(Path(data_dir) / "kafka", port=self._kafka_port))
        admin = kafka_clients.admin(self.settings.kafka)
        try:
            apply_topics(admin, topics_table(self.settings.topics, self.settings.media))
        finally:
            admin.close()
        self._say("starting the worker")
        self._worker = ChildProcess(
            [sys.executable, "-m", "farpoint.cli", "worker"],
            name="the worker",
            error_output=self._folder / "worker.log",
            env=self._worker_environment(),
            grace_seconds=20.0,
        )
        self._open.enter_context(self._worker)
        try:
            self._worker.wait_for_line("worker ready", _READY_SECONDS)
        except FarpointError as error:
            raise FarpointError(f"{error}; {self._worker_log}") from None

    @property
    def _worker_log(self) -> str:
        return f"its log is {self._folder / 'worker.log'}"

    def _worker_environment(self) -> dict[str, str]:
        # The user's settings hold for the worker too, but for those that say where to connect and what to listen on.
        mine = {name: value for name, value in os.environ.items() if not name.upper().startswith("FARPOINT_KAFKA__")}
        return mine | {
            "FARPOINT_KAFKA__BOOTSTRAP_SERVERS": self.settings.kafka.bootstrap_servers,
            "FARPOINT_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
            "FARPOINT_KAFKA__GROUP_ID": self.settings.kafka.group_id,
            "FARPOINT_DETECTOR__SCOPE": self.settings.detector.scope,
            "FARPOINT_HTTP__HOST": self.settings.http.host,
            "FARPOINT_HTTP__PORT": str(self.settings.http.port),
        }

    def play(self, on_progress: Callable[[int, int], None]) -> DemoSummary:
        """Publish the cameras' frames, watch until everything is decided, and sum up.

        Parameters
        ----------
        on_progress
            Called now and then with how many frames are decided and how many there will be.
        """
        audience = DemoAudience(self.settings, self._folder, self._hear)
        cameras = demo_cameras()
        show = DemoShow(cameras, lambda: self._room(audience, show))
        audience.start()
        failed: list[BaseException] = []

        def publish() -> None:
            try:
                with Publisher(self.settings) as publisher:
                    show.run(publisher)
            except BaseException as error:
                failed.append(error)

        self._say(f"publishing {show.total} frames of {len(cameras)} cameras")
        began = time.monotonic()
        publishing = threading.Thread(target=publish, name="cameras", daemon=True)
        publishing.start()
        try:
            self._watch(audience, show, on_progress, failed)
        finally:
            self._ended.set()
            publishing.join(timeout=10)
            audience.stop()
        seconds = time.monotonic() - began
        return self._sum_up(audience, show, seconds)

    def _hear(self, alert: OutlierAlert, picture: Path | None) -> None:
        if self._first_alert is None:
            self._first_alert = time.monotonic() - self._began
        self._on_alert(alert, picture)

    def _room(self, audience: DemoAudience, show: DemoShow) -> bool:
        while not self._ended.is_set():
            if show.published - len(audience.assigned) < _AHEAD:
                return True
            time.sleep(0.02)
        return False

    def _watch(
        self,
        audience: DemoAudience,
        show: DemoShow,
        on_progress: Callable[[int, int], None],
        failed: list[BaseException],
    ) -> None:
        last, moved = -1, time.monotonic()
        while True:
            if audience.wait(lambda: len(audience.assigned) >= show.total, timeout=0.25):
                on_progress(show.total, show.total)
                audience.wait(lambda: show.planted <= set(audience.alerts), timeout=5)
                return
            decided = len(audience.assigned)
            on_progress(decided, show.total)
            if failed:
                raise failed[0]
            if self._worker is not None and self._worker.poll() is not None:
                raise FarpointError(f"the worker ended; {self._worker_log}")
            if decided != last:
                last, moved = decided, time.monotonic()
            elif time.monotonic() - moved > _STALLED_SECONDS:
                raise FarpointError(f"nothing was decided for {_STALLED_SECONDS:.0f} s; {self._worker_log}")

    def _sum_up(self, audience: DemoAudience, show: DemoShow, seconds: float) -> DemoSummary:
        self._wait_for_checkpoints(len(audience.assigned))
        sheet, detectors, clusters = audience.contact_sheet()
        return DemoSummary(
            published=show.published,
            embedded=len(audience.embedded),
            assigned=len(audience.assigned),
            detectors=detectors,
            clusters=clusters,
            planted=len(show.planted),
            planted_found=len(show.planted & set(audience.alerts)),
            other_alerts=len(set(audience.alerts) - show.planted),
            seconds_to_first_alert=self._first_alert,
            frames_per_second=show.published / seconds,
            folder=str(self._folder),
            contact_sheet=str(sheet),
        )

    def _wait_for_checkpoints(self, decided: int) -> None:
        # The clusters are read from the checkpoints, which follow the decisions at a distance.
        _log.debug("waiting for the checkpoints", decided=decided)
        time.sleep(self.settings.detector.checkpoint_seconds + 1.0)
