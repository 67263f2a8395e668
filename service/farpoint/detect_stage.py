"""The detect stage: embeddings in; decisions, alerts and checkpoints out. One writer for each detector."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from farpoint.checkpoint import load_checkpoints, write_checkpoint
from farpoint.fold import Decisions, DetectorFold
from farpoint.rebuild import rebuild_detectors
from farpoint.records import DeadLetter, IncomingRecord, OutgoingRecord, positions_after
from farpoint.stage import Flush, Stage
from farpoint.wire import JSON_HEADERS, EmbeddingRecord, alert_headers, read_embeddings, write_json
from farpoint_models.errors import InvalidRecord

_log = structlog.get_logger(__name__)

Detectors = dict[tuple[int, str], DetectorFold]


@dataclass(slots=True)
class _Folded:
    """A batch after the fold: what is to be delivered, in this order, before its records are done."""

    records: list[IncomingRecord]
    flush: Flush | None
    letters: list[DeadLetter] = field(default_factory=list)
    decided: list[tuple[EmbeddingRecord, Decisions]] = field(default_factory=list)
    outgoing: list[OutgoingRecord] = field(default_factory=list)
    checkpoints: list[OutgoingRecord] | None = None
    """None: no checkpoint now, so nothing is done yet either."""


class DetectStage(Stage):
    """Fold in a thread of its own, deliver: two steps, a batch in each.

    Parameters
    ----------
    rebuild_group
        Not None: the first time a partition comes, its detectors are made anew from the log, as far as this consumer
        group has decided about it, whatever the checkpoints say.
    timer
        Seconds between checkpoints are counted on it: never set back, as a clock may be. Replaced in tests.
    others
        See `Stage`.

    A record is done once a checkpoint that covers it is delivered, never before: then a restart finds either the state
    that learned the record, or the record.
    """

    name = "detect"
    max_records = 16
    max_wait_seconds = 0.005

    def __init__(
        self,
        *args: Any,
        rebuild_group: str | None = None,
        timer: Callable[[], float] = time.monotonic,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._timer = timer
        self._rebuild_group = rebuild_group
        self._rebuilt: set[int] = set()
        self._folder = ThreadPoolExecutor(1, thread_name_prefix="fold")
        self._folded: asyncio.Queue[_Folded] = asyncio.Queue(maxsize=2)
        self._detectors: Detectors = {}
        self._dirty: set[tuple[int, str]] = set()
        self._unsaved = False
        self._checkpoint_due = self._timer()

    @property
    def topics(self) -> tuple[str, ...]:  # type: ignore[override]
        """What it reads."""
        return (self.names.embeddings,)

    async def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Take over partitions: restore their detectors before a record of them is scored."""
        assigned = {partition for _, partition in partitions}
        self._detectors, self._dirty = await asyncio.get_running_loop().run_in_executor(
            self._folder, self._restore, assigned
        )
        self._unsaved = bool(self._dirty)
        if self._unsaved:
            await self._waiting.put(Flush())  # what was rebuilt is saved at once, though no record may come for long
        self._show_detectors()

    def _restore(self, partitions: set[int]) -> tuple[Detectors, set[tuple[int, str]]]:
        """Return the detectors of `partitions`, and which of them no checkpoint holds yet."""
        rebuilt: Detectors = {}
        if self._rebuild_group is not None and (new := partitions - self._rebuilt):
            rebuilt = rebuild_detectors(self.settings, self._rebuild_group, new)
            partitions = partitions - new
            self._rebuilt |= new
        checkpoints = load_checkpoints(self.settings.kafka, self.names.detector_state, partitions)
        restored = {at: DetectorFold.restore(checkpoint) for at, checkpoint in checkpoints.items()}
        return restored | rebuilt, set(rebuilt)

    async def run(self) -> None:
        """Run the two steps until cancelled."""
        async with asyncio.TaskGroup() as steps:
            steps.create_task(self._fold_batches())
            steps.create_task(self._deliver_batches())

    async def _fold_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_in = max(0.0, self._checkpoint_due - self._timer()) if self._unsaved else None
            records, flush = await self.take(within=due_in)
            with self.working("fold"):
                folded = await loop.run_in_executor(self._folder, self._fold, records, flush)
            await self._folded.put(folded)

    def _fold(self, records: list[IncomingRecord], flush: Flush | None) -> _Folded:
        folded = _Folded(records, flush)
        for record in records:
            started = time.perf_counter()
            try:
                self._fold_record(record, folded)
            except InvalidRecord as error:
                folded.letters.append(DeadLetter(record, error))
            self.metrics.scoring_seconds.observe(time.perf_counter() - started)
        # Every record waits for the next checkpoint to be done, also one that only made a dead letter.
        self._unsaved = self._unsaved or bool(records)
        if flush or self._timer() >= self._checkpoint_due:
            folded.checkpoints = [self._checkpoint(self._detectors[at]) for at in sorted(self._dirty)]
            self._dirty.clear()
            self._unsaved = False
            self._show_detectors()
            self._checkpoint_due = self._timer() + self.settings.detector.checkpoint_seconds
        return folded

    def _fold_record(self, record: IncomingRecord, folded: _Folded) -> None:
        embeddings = read_embeddings(record.ref, record.key, record.value, record.headers)
        at = (record.ref.partition, embeddings.detector)
        detector = self._detectors.get(at) or DetectorFold.begin(
            embeddings, self.settings.detector, self.settings.media.max_record_bytes
        )
        decisions = detector.apply(embeddings)
        self._detectors[at] = detector
        if decisions is None:
            return
        self._dirty.add(at)
        folded.decided.append((embeddings, decisions))
        folded.outgoing += self._outgoing(record, decisions)

    def _outgoing(self, record: IncomingRecord, decisions: Decisions) -> list[OutgoingRecord]:
        partition = record.ref.partition
        return [
            OutgoingRecord(
                self.names.assignments, record.key, write_json(decisions.assignments), JSON_HEADERS, partition
            ),
            *(
                OutgoingRecord(self.names.alerts, alert.source.encode(), write_json(alert), alert_headers(alert))
                for alert in decisions.alerts
            ),
            *(
                OutgoingRecord(self.names.cluster_events, record.key, write_json(event), JSON_HEADERS, partition)
                for event in decisions.cluster_events
            ),
        ]

    def _checkpoint(self, detector: DetectorFold) -> OutgoingRecord:
        value = write_checkpoint(detector.checkpoint())
        return OutgoingRecord(
            self.names.detector_state, detector.detector_id.encode(), value, [], partition=detector.partition
        )

    async def _deliver_batches(self) -> None:
        waiting: dict[tuple[str, int], int] = {}
        while True:
            folded = await self._folded.get()
            await self.send_dead_letters(folded.records, folded.letters)
            await self.delivery.send(folded.outgoing)
            self._count(folded)
            positions = positions_after(folded.records)
            self.mark_delivered(positions)
            waiting |= positions
            if folded.checkpoints is not None:
                # A paused and replaced worker's decisions are the same as its successor's; its checkpoints are older.
                if await self.delivery.send_as_owner(folded.checkpoints):
                    self.done |= waiting
                    if folded.checkpoints:
                        self.metrics.checkpoint_timestamp.set(self.clock())
                else:
                    _log.warning("partitions were given to another worker: checkpoints not written")
                waiting = {}
            if folded.flush:
                folded.flush.done.set()

    def _count(self, folded: _Folded) -> None:
        now = self.clock()
        metrics = self.metrics
        for embeddings, decisions in folded.decided:
            items = decisions.assignments.items
            metrics.vectors_assigned.inc(len(items))
            metrics.alerts.inc(len(decisions.alerts))
            metrics.frames_skipped.labels("redelivered").inc(decisions.skipped)
            self._count_by_name(decisions, now)
            for event in decisions.cluster_events:
                metrics.cluster_events.labels(event.type).inc()
            for item in items:
                if item.outlier_score is not None:
                    metrics.outlier_score.observe(item.outlier_score)
                if item.media is not None and item.media.timestamp is not None and item.media.topic in self.names.media:
                    latency = max(0.0, now - item.media.timestamp / 1000)
                    metrics.decision_latency.labels(item.media.topic).observe(latency)
            ref = embeddings.ref
            metrics.decision_latency.labels(ref.topic).observe(max(0.0, now - ref.timestamp / 1000))

    def _count_by_name(self, decisions: Decisions, now: float) -> None:
        metrics = self.metrics
        items, alerts = decisions.assignments.items, decisions.alerts
        detector = metrics.detector_names.label(decisions.assignments.detector)
        metrics.detector_vectors.labels(detector).inc(len(items))
        metrics.detector_alerts.labels(detector).inc(len(alerts))
        for source, count in metrics.source_names.count(item.source for item in items).items():
            metrics.source_vectors.labels(source).inc(count)
        for source, count in metrics.source_names.count(alert.source for alert in alerts).items():
            metrics.source_alerts.labels(source).inc(count)
            metrics.source_alert_timestamp.labels(source).set(now)

    def _show_detectors(self) -> None:
        # Called where nothing folds at the same time: it walks over what the fold changes.
        self.metrics.detectors.set(len(self._detectors))
        self.metrics.clusters.set(sum(detector.cluster_count for detector in self._detectors.values()))
        thresholds = [detector.threshold for detector in self._detectors.values() if detector.threshold is not None]
        # A detector keeps the rate that it was founded with; the first will have the one that is set now.
        rates = [detector.detector.false_alarm_rate for detector in self._detectors.values()]
        self.metrics.false_alarm_rate.set(max(rates, default=self.settings.detector.false_alarm_rate))
        self.metrics.detectors_warming_up.set(len(self._detectors) - len(thresholds))
        self.metrics.threshold.set(max(thresholds, default=0.0))  # of detectors that are gone none is left
