"""One detector as a fold: what it decides, what it keeps, and that no interruption shows."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import ValidationError
from tests.unit.service.stage_kit import MOMENT
from tests.vectors import MODEL, Vectors, clustered, outlier

from farpoint.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from farpoint.fold import Decisions, DetectorFold
from farpoint.settings import DetectorSettings, MediaSettings
from farpoint.wire import EmbeddingRecord, Item, MediaRef, RecordRef, derived_id
from farpoint_models.errors import InvalidReason, InvalidRecord

SETTINGS = DetectorSettings(warm_up=64, clusters=8)
PER_RECORD = 16


def ref_of(offset: int) -> RecordRef:
    """Return the place of a record of this module."""
    return RecordRef("vision.embeddings.v1", 2, offset, MOMENT + offset)


def a_record(offset: int, vectors: Vectors, items: list[Item] | None = None, **changes: Any) -> EmbeddingRecord:
    """Return a checked record as `read_embeddings` would."""
    ref = ref_of(offset)
    items = items or [
        Item(id=derived_id(ref, row), source="d", time=ref.time, subject=f"{offset}/{row}")
        for row in range(len(vectors))
    ]
    return replace(EmbeddingRecord(ref, "d", MODEL, vectors, items, from_media=False), **changes)


def stream(count: int, seed: int = 1) -> list[EmbeddingRecord]:
    """Return records with an outlier now and then."""
    rng = np.random.default_rng(seed)
    records = []
    for offset in range(count):
        vectors = clustered(rng, PER_RECORD)
        if offset % 7 == 6:
            vectors[5] = outlier()[0]
        records.append(a_record(offset, vectors))
    return records


def folded(records: list[EmbeddingRecord]) -> tuple[DetectorFold, list[Decisions | None]]:
    """Fold records from the beginning."""
    fold = DetectorFold.begin(records[0], SETTINGS)
    return fold, [fold.apply(record) for record in records]


def saved_and_restored(fold: DetectorFold) -> DetectorFold:
    """Send a fold through the bytes of its checkpoint."""
    return DetectorFold.restore(read_checkpoint(write_checkpoint(fold.checkpoint())))


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_a_restart_changes_nothing(cut: int) -> None:
    """Restored anywhere, before, at or after the end of the warm-up: same decisions, same state, bit for bit."""
    records = stream(30)
    whole, expected = folded(records)
    fold, decisions = folded(records[:cut])
    fold = saved_and_restored(fold)
    decisions += [fold.apply(record) for record in records[cut:]]
    assert [msgspec.json.encode(one) for one in decisions] == [msgspec.json.encode(one) for one in expected]
    assert write_checkpoint(fold.checkpoint()) == write_checkpoint(whole.checkpoint())


def test_a_record_is_learned_once() -> None:
    """A record below `next_offset` is passed over, and the state stays as it is."""
    records = stream(10)
    fold, _ = folded(records)
    before = write_checkpoint(fold.checkpoint())
    assert [fold.apply(record) for record in records] == [None] * 10
    assert write_checkpoint(fold.checkpoint()) == before
    assert fold.next_offset == 10


def test_gaps_in_the_log_do_not_matter() -> None:
    """Offsets may jump: dead letters and other detectors lie between."""
    fold, _ = folded(stream(2))
    assert fold.apply(a_record(50, clustered(np.random.default_rng(3), 4))) is not None
    assert fold.next_offset == 51


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (a_record(99, clustered(np.random.default_rng(3), 4), model="others@2"), InvalidReason.MODEL_MISMATCH),
        (a_record(99, np.ones((2, 7), np.float32)), InvalidReason.DIMENSION_MISMATCH),
        (a_record(99, np.vstack([outlier(), 0 * outlier()])), InvalidReason.ZERO_VECTOR),
    ],
    ids=["model", "dimension", "zero"],
)
@pytest.mark.parametrize("length", [2, 12], ids=["warming up", "scored"])
def test_an_invalid_record_leaves_no_trace(record: EmbeddingRecord, reason: InvalidReason, length: int) -> None:
    """It raises, and the state, the position included, is as before."""
    fold, _ = folded(stream(length))
    before = write_checkpoint(fold.checkpoint())
    with pytest.raises(InvalidRecord) as caught:
        fold.apply(record)
    assert caught.value.reason == reason
    assert "\n" not in caught.value.message
    assert write_checkpoint(fold.checkpoint()) == before


def media_items(offsets: list[int], partition: int = 0) -> list[Item]:
    """Return items of frames at these offsets."""
    return [
        Item(id=f"{partition}/{offset}", source="cam", time="t", media=MediaRef("vision.frames.v1", partition, offset))
        for offset in offsets
    ]


def media_record(offset: int, offsets: list[int], partition: int = 0, *, from_media: bool = True) -> EmbeddingRecord:
    """Return a record of frames at these offsets."""
    vectors = clustered(np.random.default_rng(offset), len(offsets))
    return a_record(offset, vectors, media_items(offsets, partition), from_media=from_media)


def ids_of(decisions: Decisions | None) -> list[str]:
    """Return the ids that were decided about."""
    assert decisions is not None
    return [item.id for item in decisions.assignments.items]


def test_frames_embedded_twice_are_decided_once() -> None:
    """What our embed stage wrote is recognised by the frame's place, partition by partition, also after a restart."""
    fold, _ = folded([media_record(0, [0, 1, 2])])
    assert ids_of(fold.apply(media_record(1, [0, 1, 2], partition=1))) == ["1/0", "1/1", "1/2"]
    fold = saved_and_restored(fold)
    again = fold.apply(media_record(2, [1, 2, 3, 4]))
    assert ids_of(again) == ["0/3", "0/4"]
    assert again is not None
    assert again.skipped == 2
    nothing = fold.apply(media_record(3, [0, 4]))
    assert ids_of(nothing) == []
    assert nothing is not None
    assert nothing.skipped == 2
    assert fold.next_offset == 4


def test_an_invalid_record_of_frames_leaves_no_trace() -> None:
    """Its frames are not taken for learned: embedded again, and whole this time, they are decided."""
    fold, _ = folded([media_record(0, [0, 1])])
    broken = media_record(1, [2, 3])
    broken.vectors[1] = 0
    with pytest.raises(InvalidRecord):
        fold.apply(broken)
    assert ids_of(fold.apply(media_record(2, [2, 3]))) == ["0/2", "0/3"]


def test_skipped_frames_leave_the_state_alone() -> None:
    """A redelivery leads to the state that there would be without it."""
    once, _ = folded([media_record(0, [0, 1, 2]), media_record(5, [3, 4])])
    fold, _ = folded([media_record(0, [0, 1, 2])])
    twice = media_record(0, [0, 1, 2])
    fold.apply(replace(twice, ref=ref_of(1)))
    fold.apply(media_record(5, [3, 4]))
    assert write_checkpoint(fold.checkpoint()) == write_checkpoint(once.checkpoint())


def test_other_writers_may_name_any_frame() -> None:
    """Only our embed stage promises order: of others nothing is skipped, whatever media they name."""
    fold, _ = folded([media_record(0, [7, 8], from_media=False)])
    assert ids_of(fold.apply(media_record(1, [3, 8], from_media=False))) == ["0/3", "0/8"]
    assert ids_of(fold.apply(media_record(2, [1, 2]))) == ["0/1", "0/2"]


def test_an_alert_says_what_the_item_said() -> None:
    """Every field of the alert comes from the item, the record or the score, and the decision agrees with it."""
    fold, decisions = folded(stream(6))
    assert all(item.state == "warming_up" for item in decisions[0].assignments.items)  # type: ignore[union-attr]
    media = MediaRef("vision.frames.v1", 3, 1042, "image/jpeg")
    item = Item(
        id="odd", source="cam-1", time="2026-01-01T00:00:00Z", subject="door", media=media, region=(1.0, 2.0, 3.0, 4.0),
        thumbnail=b"\xff\xd8", metadata={"lens": "wide"},
    )  # fmt: skip
    # In company: what its neighbours teach the detector must not show in the alert, which is about the state before.
    company = np.vstack([clustered(np.random.default_rng(9), 30), outlier()])
    others = [Item(id=f"other-{row}", source="d", time="t") for row in range(30)]
    _, distances, sizes = fold.detector.nearest_clusters(outlier(), k=3)
    decided = fold.apply(a_record(6, company, [*others, item]))
    assert decided is not None
    (alert,) = decided.alerts
    assignment = decided.assignments.items[-1]
    assert (alert.id, alert.source, alert.time, alert.subject) == ("odd", "cam-1", "2026-01-01T00:00:00Z", "door")
    assert (alert.media, alert.region, alert.metadata) == (media, item.region, item.metadata)
    assert alert.thumbnail == "data:image/jpeg;base64,/9g="
    assert (alert.detector, alert.model, alert.detected_at) == ("d", MODEL, ref_of(6).time)
    assert alert.threshold == fold.threshold
    assert alert.outlier_score >= alert.threshold
    near = [cluster.distance for cluster in alert.nearest_clusters]
    assert near == sorted(near) == distances[0].tolist()
    assert [cluster.size for cluster in alert.nearest_clusters] == sizes[0].tolist()
    assert 1 <= len(near) <= 3
    assert assignment.is_outlier
    assert (assignment.state, assignment.id, assignment.media) == ("scored", "odd", media)
    assert (assignment.outlier_score, assignment.p_value) == (alert.outlier_score, alert.p_value)
    assert (assignment.cluster_id, assignment.distance) == (
        alert.nearest_clusters[0].cluster_id,
        alert.nearest_clusters[0].distance,
    )
    assert (decided.assignments.embeddings.partition, decided.assignments.embeddings.offset) == (2, 6)


def test_assignments_come_in_the_order_of_the_vectors() -> None:
    """One for each vector, in order."""
    records = stream(8)
    _, decisions = folded(records)
    for record, decided in zip(records, decisions, strict=True):
        assert ids_of(decided) == [item.id for item in record.items]


def test_notes_tell_of_the_live_clusters() -> None:
    """Each has a size, when it was last seen, and the item nearest to its centroid; outliers are nobody's exemplar."""
    fold, decisions = folded(stream(30))
    notes = fold.cluster_notes()
    assert [note.cluster_id for note in notes] == sorted({note.cluster_id for note in notes})
    assert len(notes) == fold.cluster_count > 0
    flagged = {item.id for one in decisions if one for item in one.assignments.items if item.is_outlier}
    seen = [note for note in notes if note.label]
    assert len(seen) >= 4
    for note in seen:
        assert note.size > 0
        assert note.last_seen.startswith("2026-01-01T00:00:00")
        assert "/" in note.label
        assert 1 <= len(note.exemplars) <= 3
        assert not set(note.exemplars) & flagged


def test_cluster_events_have_ids_of_their_place() -> None:
    """Redone work gives the same events with the same ids, and no id twice."""
    _, first = folded(stream(30))
    _, again = folded(stream(30))
    events = [event for one in first if one for event in one.cluster_events]
    assert events == [event for one in again if one for event in one.cluster_events]
    assert len({event.id for event in events}) == len(events) > 0
    assert all(event.detector == "d" for event in events)


def test_detectors_differ_by_their_id_alone() -> None:
    """The seed comes from the detector's id: another detector is another fold of the same records."""
    records = stream(12)
    others = [replace(record, detector="e") for record in records]
    assert folded(records)[0].detector.seed != folded(others)[0].detector.seed


def test_a_damaged_snapshot_is_refused() -> None:
    """A checkpoint whose snapshot cannot be read stops the start, with the detector's name, instead of forgetting."""
    checkpoint = folded(stream(6))[0].checkpoint()
    checkpoint.snapshot = checkpoint.snapshot[:-9]
    with pytest.raises(CheckpointError, match="'d'"):
        DetectorFold.restore(checkpoint)


def test_merges_and_splits_are_told_and_leave_no_notes_behind() -> None:
    """The events account for every live cluster, merges and splits among them, and only live clusters have notes."""
    rng = np.random.default_rng(3)
    settings = DetectorSettings(warm_up=64, clusters=30)
    events = []
    fold = None
    for offset in range(100):  # thirty places, more than the warm-up can tell apart
        places = np.eye(32)[rng.integers(0, 30, 32)]
        vectors = (places + rng.normal(0, 0.1, (32, 32))).astype(np.float32)
        record = a_record(offset, vectors)
        fold = fold or DetectorFold.begin(record, settings)
        decisions = fold.apply(record)
        assert decisions is not None
        events += decisions.cluster_events
    assert fold is not None
    assert {"birth", "merge", "split"} <= {event.type for event in events}
    alive: set[int] = set()
    for event in events:
        if event.type == "death":
            alive.remove(event.cluster_id)
        elif event.type == "merge":
            assert event.cluster_id in alive
            alive -= set(event.from_)
        else:
            assert event.cluster_id not in alive
            assert set(event.from_) <= alive
            alive.add(event.cluster_id)
    assert alive == {note.cluster_id for note in fold.cluster_notes()} == set(fold._notes)


@pytest.mark.parametrize(
    ("settings", "dimension", "fits"),
    [
        (DetectorSettings(), 1280, True),
        (DetectorSettings(clusters=1000), 1280, True),
        (DetectorSettings(clusters=1000, geometry="standardized"), 1280, False),
        (DetectorSettings(), 7500, True),
        (DetectorSettings(), 20_000, False),
        (DetectorSettings(warm_up=1650), 1280, False),
        (DetectorSettings(warm_up=1000), 1280, True),
    ],
)
def test_a_state_that_could_not_be_stored_is_never_begun(
    settings: DetectorSettings, dimension: int, fits: bool
) -> None:
    """Where Kafka would refuse the state sooner or later, the first record is, naming what to change."""
    record = a_record(0, np.ones((1, dimension), np.float32))
    most = MediaSettings().max_record_bytes
    if fits:
        assert DetectorFold.begin(record, settings, most).apply(record) is not None
        return
    with pytest.raises(
        InvalidRecord, match=r"DETECTOR__WARM_UP=.*DETECTOR__CLUSTERS=.*MAX_RECORD_BYTES=8388608"
    ) as bad:
        DetectorFold.begin(record, settings, most)
    assert bad.value.reason == InvalidReason.DIMENSION_MISMATCH


def test_the_smallest_largest_record_takes_the_shipped_model() -> None:
    """The least that MAX_RECORD_BYTES may be is enough for default detectors of the shipped model."""
    record = a_record(0, np.ones((1, 1280), np.float32))
    assert DetectorFold.begin(record, DetectorSettings(), 2**21)
    with pytest.raises(ValidationError):
        MediaSettings(max_record_bytes=2**21 - 1)
