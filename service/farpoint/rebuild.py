"""Detectors made anew from the embeddings log, when their checkpoints are lost, damaged or of another version."""

import time
from collections.abc import Collection

import structlog

from farpoint.checkpoint import read_checkpoints
from farpoint.fold import DetectorFold
from farpoint.group_offsets import committed_offsets
from farpoint.settings import Settings
from farpoint.topic_reader import TopicReader
from farpoint.topics import TopicNames
from farpoint.wire import read_embeddings
from farpoint_models.errors import InvalidRecord

_SAY_EVERY_SECONDS = 5.0

_log = structlog.get_logger(__name__)


def rebuild_detectors(
    settings: Settings, group: str, partitions: Collection[int]
) -> dict[tuple[int, str], DetectorFold]:
    """Fold the embeddings log of some partitions again, from its beginning up to where it was decided before; blocking.

    Nothing is published: those decisions were made. They are the same where the log still begins at its first record;
    where Kafka has dropped its beginning, normal is what is left of it.

    Parameters
    ----------
    settings
        All of them.
    group
        The consumer group of the detect stage: what it has committed is decided.
    partitions
        Of the embeddings topic.
    """
    names = TopicNames(settings.topics.domain)
    ends = dict.fromkeys(partitions, 0)
    for (topic, partition), offset in committed_offsets(settings.kafka, group).items():
        if topic == names.embeddings and partition in ends:
            ends[partition] = offset
    # A checkpoint may have been delivered whose commit was not. Behind it the new one must be, or it would not win.
    checkpoints, _ = read_checkpoints(settings.kafka, names.detector_state, partitions)
    for (partition, _), checkpoint in checkpoints.items():
        ends[partition] = max(ends[partition], checkpoint.next_offset)
    folds: dict[tuple[int, str], DetectorFold] = {}
    records = 0
    said = time.monotonic()
    with TopicReader(settings.kafka, [names.embeddings], partitions, fetch_bytes=8 * 2**20) as reader:
        for record in reader.to_end():
            if record.ref.offset >= ends[record.ref.partition]:
                continue
            records += 1
            try:
                embeddings = read_embeddings(record.ref, record.key, record.value, record.headers)
                at = (record.ref.partition, embeddings.detector)
                fold = folds.get(at) or DetectorFold.begin(
                    embeddings, settings.detector, settings.media.max_record_bytes
                )
                fold.apply(embeddings)
                folds[at] = fold
            except InvalidRecord:
                continue  # it has its dead letter
            if time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                _log.info("rebuilding detectors", records=records, of=sum(ends.values()), detectors=len(folds))
    _log.info("detectors rebuilt", records=records, detectors=len(folds), partitions=len(partitions))
    return folds
