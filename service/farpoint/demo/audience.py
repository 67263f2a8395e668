"""The demo's audience: reads what the worker writes, as any client would, and keeps count."""

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec

from farpoint.alert_log import save_picture
from farpoint.checkpoint import load_checkpoints
from farpoint.demo.contact_sheet import SheetRow, contact_sheet
from farpoint.records import IncomingRecord
from farpoint.settings import Settings
from farpoint.topic_reader import TopicReader
from farpoint.topics import TopicNames
from farpoint.wire import AssignmentBatch, OutlierAlert, read_embeddings

_PICTURES_A_CLUSTER = 6
_ROWS = 24


class DemoAudience:
    """Follows embeddings, assignments and alerts in a thread of its own.

    Parameters
    ----------
    settings
        Where to read.
    folder
        Where the pictures of the alerts go.
    on_alert
        Called with each alert and the file of its picture.
    """

    def __init__(self, settings: Settings, folder: Path, on_alert: Callable[[OutlierAlert, Path | None], None]) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topics.domain)
        self._folder = folder
        self._on_alert = on_alert
        self._stop = threading.Event()
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name="audience", daemon=True)
        self._error: BaseException | None = None
        self.embedded: set[str] = set()
        self.assigned: dict[str, bool] = {}
        """Whether each decided item was scored; items decided while warming up are not."""
        self.alerts: dict[str, OutlierAlert] = {}
        self._thumbnails: dict[str, bytes] = {}
        self._nearest: dict[tuple[str, int], list[tuple[float, str]]] = defaultdict(list)

    def start(self) -> None:
        """Begin to read, from the first record."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(timeout=10)

    def wait(self, enough: Callable[[], bool], timeout: float) -> bool:
        """Wait until `enough` holds; returns whether it does. Raises what ended the reading."""
        with self._change:
            held = self._change.wait_for(lambda: self._error is not None or enough(), timeout)
        if self._error is not None:
            raise self._error
        return held

    def contact_sheet(self) -> tuple[Path, int, int]:
        """Draw the live clusters into the folder; returns the file, how many detectors and how many clusters."""
        checkpoints = load_checkpoints(self._settings.kafka, self._names.detector_state)
        rows = []
        for checkpoint in sorted(checkpoints.values(), key=lambda checkpoint: checkpoint.detector):
            for note in sorted(checkpoint.clusters, key=lambda note: -note.size)[: _ROWS // max(1, len(checkpoints))]:
                nearest = sorted(self._nearest[checkpoint.detector, note.cluster_id], reverse=True)
                pictures = [self._thumbnails[item] for _, item in nearest if item in self._thumbnails]
                rows.append(
                    SheetRow(f"{checkpoint.detector} #{note.cluster_id}", f"about {note.size} frames", pictures)
                )
        path = self._folder / "clusters.jpg"
        path.write_bytes(contact_sheet(rows, _PICTURES_A_CLUSTER))
        return path, len(checkpoints), sum(len(checkpoint.clusters) for checkpoint in checkpoints.values())

    def _follow(self) -> None:
        names = self._names
        try:
            with TopicReader(self._settings.kafka, [names.embeddings, names.assignments, names.alerts]) as reader:
                for record in reader.follow(until=self._stop.is_set):
                    with self._change:
                        if record.ref.topic == names.embeddings:
                            self._see_embeddings(record)
                        elif record.ref.topic == names.assignments:
                            self._see_assignments(msgspec.json.decode(record.value or b"", type=AssignmentBatch))
                        else:
                            self._see_alert(msgspec.json.decode(record.value or b"", type=OutlierAlert))
                        self._change.notify_all()
        except BaseException as error:
            with self._change:
                self._error = error
                self._change.notify_all()

    def _see_embeddings(self, record: IncomingRecord) -> None:
        for item in read_embeddings(record.ref, record.key, record.value, record.headers).items:
            name = item.id or ""
            self.embedded.add(name)
            if item.thumbnail:
                self._thumbnails[name] = item.thumbnail

    def _see_assignments(self, batch: AssignmentBatch) -> None:
        for item in batch.items:
            self.assigned[item.id] = item.state == "scored"
            if item.cluster_id is None or item.distance is None or item.is_outlier:
                continue
            nearest = self._nearest[batch.detector, item.cluster_id]
            heapq.heappush(nearest, (-item.distance, item.id))
            if len(nearest) > _PICTURES_A_CLUSTER:
                heapq.heappop(nearest)

    def _see_alert(self, alert: OutlierAlert) -> None:
        if alert.id not in self.alerts:
            self.alerts[alert.id] = alert
            self._on_alert(alert, save_picture(alert, self._folder / "alerts"))
