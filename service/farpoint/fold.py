"""One detector as a fold over its records: score with the state before the record, then learn it.

Nothing here reads a clock, draws a random number or depends on how records arrived, so the same records give the same
decisions and the same state, bit for bit, wherever a crash cut them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farpoint.checkpoint import Checkpoint, CheckpointError, ClusterNote
from farpoint.settings import DetectorSettings
from farpoint.wire import (
    Assignment,
    AssignmentBatch,
    ClusterEvent,
    EmbeddingRecord,
    EmbeddingsRef,
    Item,
    NearCluster,
    OutlierAlert,
    RecordRef,
    data_url,
    derived_id,
)
from farpoint_models import snapshot
from farpoint_models.cluster_change import ClusterChange
from farpoint_models.detector import OutlierDetector, Scores
from farpoint_models.errors import InvalidReason, InvalidRecord

EXEMPLARS = 3
NOTE_BYTES = 2048
"""Room for the note on one cluster in a checkpoint; most are a tenth of it."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one record led to."""

    assignments: AssignmentBatch
    alerts: list[OutlierAlert] = field(default_factory=list)
    cluster_events: list[ClusterEvent] = field(default_factory=list)
    skipped: int = 0


class DetectorFold:
    """A detector, how far it has read, and what people want to know of its clusters.

    Parameters
    ----------
    detector_id
        The key of its records.
    partition
        Of the embeddings topic; the detector is a fold over that partition alone.
    model
        The vector space; records of another are invalid.
    detector
        The numerical core.
    """

    def __init__(self, detector_id: str, partition: int, model: str, detector: OutlierDetector) -> None:
        self.detector_id = detector_id
        self.partition = partition
        self.model = model
        self.detector = detector
        self.next_offset = 0
        self._media_high_water: dict[str, int] = {}
        self._notes: dict[int, ClusterNote] = {}

    @classmethod
    def begin(
        cls, record: EmbeddingRecord, settings: DetectorSettings, most_bytes: int | None = None
    ) -> "DetectorFold":
        """Found a detector on its first record, without learning it yet.

        Parameters
        ----------
        record
            Says the dimension and the model.
        settings
            Shape the detector for good.
        most_bytes
            Largest checkpoint that can be stored; None: any.

        Raises
        ------
        InvalidRecord
            `dimension_mismatch`: with vectors this long the state might grow larger than can be stored.
        """
        detector = OutlierDetector(
            geometry=settings.geometry,
            clusters=settings.clusters,
            warm_up=settings.warm_up,
            half_life_vectors=settings.half_life_vectors,
            false_alarm_rate=settings.false_alarm_rate,
            seed=_seed(record.detector),
        )
        dimension = record.vectors.shape[1]
        largest = detector.largest_state(dimension) + settings.clusters * NOTE_BYTES
        if most_bytes is not None and largest > most_bytes:
            raise InvalidRecord(
                InvalidReason.DIMENSION_MISMATCH,
                f"vectors of {dimension} dimensions: with FARPOINT_DETECTOR__WARM_UP={settings.warm_up} and "
                f"FARPOINT_DETECTOR__CLUSTERS={settings.clusters} the detector's state may take {largest} bytes, more "
                f"than FARPOINT_MEDIA__MAX_RECORD_BYTES={most_bytes}",
            )
        return cls(record.detector, record.ref.partition, record.model, detector)

    @classmethod
    def restore(cls, checkpoint: Checkpoint) -> "DetectorFold":
        """Go on from a checkpoint; raises CheckpointError where its snapshot cannot be read."""
        try:
            detector = snapshot.load(checkpoint.snapshot)
        except snapshot.SnapshotError as error:
            raise CheckpointError(f"detector {checkpoint.detector!r}: {error}") from None
        fold = cls(checkpoint.detector, checkpoint.partition, checkpoint.model, detector)
        fold.next_offset = checkpoint.next_offset
        fold._media_high_water = checkpoint.media_high_water
        fold._notes = {note.cluster_id: note for note in checkpoint.clusters}
        return fold

    def checkpoint(self) -> Checkpoint:
        """Return the whole state after every record below `next_offset`."""
        return Checkpoint(
            detector=self.detector_id,
            partition=self.partition,
            model=self.model,
            next_offset=self.next_offset,
            media_high_water=dict(sorted(self._media_high_water.items())),
            clusters=self.cluster_notes(),
            snapshot=snapshot.dump(self.detector),
        )

    @property
    def threshold(self) -> float | None:
        """The score from which a vector is an outlier now; None while warming up."""
        return self.detector.threshold

    @property
    def cluster_count(self) -> int:
        """How many clusters are alive."""
        return len(self.detector.kmeans.ids)

    def cluster_notes(self) -> list[ClusterNote]:
        """Return a note on every live cluster, by id."""
        ids, sizes, _ = self.detector.clusters_table()
        for cluster_id, size in zip(ids.tolist(), sizes.tolist(), strict=True):
            self._note(cluster_id).size = round(size)
        return [self._notes[cluster_id] for cluster_id in sorted(ids.tolist())]

    def apply(self, record: EmbeddingRecord) -> Decisions | None:
        """Decide and learn one record; None where it was learned before.

        Raises
        ------
        InvalidRecord
            Another model or dimension than the detector's, or a vector it cannot take. The state is as before.
        """
        if record.ref.offset < self.next_offset:
            return None
        if record.model != self.model:
            raise InvalidRecord(
                InvalidReason.MODEL_MISMATCH,
                f"vectors of {record.model[:60]!a}; detector {self.detector_id[:60]!a} is of {self.model!a}",
            )
        self.detector.validate(record.vectors)
        rows = self._rows_not_learned_before(record)
        items = [record.items[row] for row in rows]
        vectors = record.vectors if len(rows) == len(record.items) else record.vectors[rows]
        decisions = self._decide(record, items, vectors, skipped=len(record.items) - len(rows))
        self.next_offset = record.ref.offset + 1
        return decisions

    def _rows_not_learned_before(self, record: EmbeddingRecord) -> list[int]:
        # The embed stage sends the frames of a media partition in order, so a frame at or below the highest offset
        # learned is one that a redelivery embedded a second time. Other writers promise no order: nothing is skipped.
        rows = list(range(len(record.items)))
        if not record.from_media:
            return rows
        before = dict(self._media_high_water)
        kept = []
        for row in rows:
            media = record.items[row].media
            if media is not None:
                name = f"{media.topic}/{media.partition}"
                if media.offset <= before.get(name, -1):
                    continue
                self._media_high_water[name] = max(media.offset, self._media_high_water.get(name, -1))
            kept.append(row)
        return kept

    def _decide(
        self, record: EmbeddingRecord, items: list[Item], vectors: NDArray[np.float32], skipped: int
    ) -> Decisions:
        ref = record.ref
        batch = AssignmentBatch(
            detector=self.detector_id,
            model=self.model,
            embeddings=EmbeddingsRef(ref.topic, ref.partition, ref.offset),
            items=[],
        )
        if not items:
            return Decisions(batch, skipped=skipped)
        scores = self.detector.score_many(vectors)
        alerts = self._alerts(record, items, vectors, scores)
        changes = self.detector.learn_many(vectors, scores)
        batch.items = _assignments(items, scores)
        self._take_notes(ref, items, scores)
        events = [self._cluster_event(ref, index, change, items) for index, change in enumerate(changes)]
        return Decisions(batch, alerts, events, skipped)

    def _alerts(
        self, record: EmbeddingRecord, items: list[Item], vectors: NDArray[np.float32], scores: Scores
    ) -> list[OutlierAlert]:
        rows = np.flatnonzero(scores.is_outlier)
        if not len(rows):
            return []
        near_ids, near_distances, near_sizes = self.detector.nearest_clusters(vectors[rows], k=3)
        alerts = []
        for index, row in enumerate(rows.tolist()):
            item = items[row]
            near = zip(
                near_ids[index].tolist(), near_distances[index].tolist(), near_sizes[index].tolist(), strict=True
            )
            alerts.append(
                OutlierAlert(
                    id=item.id or "",
                    detector=self.detector_id,
                    source=item.source or "",
                    time=item.time or "",
                    detected_at=record.ref.time,
                    subject=item.subject,
                    media=item.media,
                    region=item.region,
                    outlier_score=float(scores.outlier_score[row]),
                    p_value=float(scores.p_value[row]),
                    threshold=float(scores.threshold or 0.0),
                    nearest_clusters=[NearCluster(cluster, distance, round(size)) for cluster, distance, size in near],
                    thumbnail=data_url(item.thumbnail),
                    model=self.model,
                    metadata=item.metadata,
                )
            )
        return alerts

    def _take_notes(self, ref: RecordRef, items: list[Item], scores: Scores) -> None:
        # The nearest item of each cluster comes first when sorted by cluster, then distance.
        kept = np.flatnonzero(~scores.is_outlier & (scores.cluster_id >= 0))
        order = kept[np.lexsort((scores.distance[kept], scores.cluster_id[kept]))]
        ids, firsts = np.unique(scores.cluster_id[order], return_index=True)
        nearest = order[firsts]
        time = ref.time
        for cluster_id, row, distance in zip(
            ids.tolist(), nearest.tolist(), scores.distance[nearest].tolist(), strict=True
        ):
            note = self._note(cluster_id)
            note.last_seen = time
            if distance < note.exemplar_distance:
                item = items[row]
                note.exemplar_distance = distance
                note.label = item.subject or item.source or ""
                note.exemplars = [item.id or "", *note.exemplars][:EXEMPLARS]

    def _note(self, cluster_id: int) -> ClusterNote:
        if cluster_id not in self._notes:
            self._notes[cluster_id] = ClusterNote(
                cluster_id=cluster_id, size=0, last_seen="", label="", exemplars=[], exemplar_distance=float("inf")
            )
        return self._notes[cluster_id]

    def _cluster_event(self, ref: RecordRef, index: int, change: ClusterChange, items: Sequence[Item]) -> ClusterEvent:
        exemplars = [items[row].id or "" for row in change.members][:EXEMPLARS]
        if change.type == "death":
            note = self._notes.pop(change.cluster_id, None)
            exemplars = note.exemplars if note else exemplars
        else:
            if change.type == "merge":  # what it came from lives on under the older id; its note ends with it
                gone = [self._notes.pop(cluster_id, None) for cluster_id in change.from_ids]
                exemplars = exemplars or [name for other in gone if other for name in other.exemplars][:EXEMPLARS]
            note = self._note(change.cluster_id)
            note.last_seen = note.last_seen or ref.time
            note.exemplars = note.exemplars or exemplars
        return ClusterEvent(
            id=derived_id(ref, "cluster-event", index),
            type=change.type,
            time=ref.time,
            detector=self.detector_id,
            cluster_id=change.cluster_id,
            from_=list(change.from_ids),
            size=round(change.size),
            exemplars=exemplars,
        )


def _assignments(items: list[Item], scores: Scores) -> list[Assignment]:
    if not scores.scored:
        return [
            Assignment(
                item.id or "", item.source or "", item.time or "", item.media, item.subject,
                "warming_up", None, None, None, None, is_outlier=False,
            )
            for item in items
        ]  # fmt: skip
    columns = zip(
        items,
        scores.cluster_id.tolist(),
        scores.distance.tolist(),
        scores.outlier_score.tolist(),
        scores.p_value.tolist(),
        scores.is_outlier.tolist(),
        strict=True,
    )
    return [
        Assignment(
            item.id or "", item.source or "", item.time or "", item.media, item.subject,
            "scored", cluster_id, distance, score, p_value, is_outlier,
        )
        for item, cluster_id, distance, score, p_value, is_outlier in columns
    ]  # fmt: skip


def _seed(detector_id: str) -> int:
    # Any fixed function of the id will do; this one spreads.
    return int.from_bytes(derived_id(RecordRef(detector_id, 0, 0, 0)).encode()[:4], "big")
