"""Checkpoints: a detector's whole state as one record of the compacted detector-state topic.

A checkpoint is written on the partition of the embeddings it was folded from, with the detector's id as its key, so
that whoever is assigned that partition reads just the detectors it has to go on with.
"""

from collections.abc import Iterable

import kafka
import msgspec
import structlog
from msgspec import Struct

from farpoint.kafka_clients import consumer, kafka_errors
from farpoint.settings import KafkaSettings

VERSION = 1

_log = structlog.get_logger(__name__)


class ClusterNote(Struct):
    """What people want to know of one live cluster besides its numbers.

    `size` counts the vectors it took in, older ones weighing less; `last_seen` is the record time of the last of them;
    `label` and `exemplars` name the item nearest to the centroid so far, `exemplar_distance` how near.
    """

    cluster_id: int
    size: int
    last_seen: str
    label: str
    exemplars: list[str]
    exemplar_distance: float


class Checkpoint(Struct):
    """One detector's state after all records below `next_offset`.

    `media_high_water` maps "topic/partition" of media to the highest offset learned, by which frames that a redelivery
    embedded twice are recognised. `snapshot` is `farpoint_models.snapshot`'s, with a version of its own.
    """

    detector: str
    partition: int
    model: str
    next_offset: int
    media_high_water: dict[str, int]
    clusters: list[ClusterNote]
    snapshot: bytes
    version: int = VERSION


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read: going on without it would silently forget what is normal."""


def write_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Encode a checkpoint."""
    return msgspec.msgpack.encode(checkpoint)


def read_checkpoint(value: bytes) -> Checkpoint:
    """Decode a checkpoint; raises CheckpointError where it is damaged or of a newer version."""
    try:
        version = msgspec.msgpack.decode(value, type=dict)["version"]
        if version != VERSION:
            raise CheckpointError(f"a checkpoint of version {version}; this Farpoint reads version {VERSION}")
        return msgspec.msgpack.decode(value, type=Checkpoint)
    except (msgspec.MsgspecError, KeyError) as error:
        raise CheckpointError(f"a damaged checkpoint: {error}") from None


def load_checkpoints(
    settings: KafkaSettings, topic: str, partitions: Iterable[int] | None = None
) -> dict[tuple[int, str], Checkpoint]:
    """Read the newest checkpoint of every (partition, detector); blocking.

    Parameters
    ----------
    settings
        How to reach Kafka.
    topic
        The detector-state topic.
    partitions
        Which partitions to read; None: all.
    """
    newest: dict[tuple[int, str], Checkpoint] = {}
    # The bound is for one fetch; Kafka hands out a larger record all the same.
    with kafka_errors(settings):
        reader = consumer(settings, auto_offset_reset="earliest", max_partition_fetch_bytes=16 * 2**20)
        try:
            wanted = sorted(reader.partitions_for_topic(topic) or () if partitions is None else partitions)
            parts = [kafka.TopicPartition(topic, partition) for partition in wanted]
            for part, value in _read_to_end(reader, parts):
                if value is not None:
                    checkpoint = read_checkpoint(value)
                    known = newest.get((part, checkpoint.detector))
                    # A paused and replaced writer may come late: the highest position wins, not the last record.
                    if known is None or checkpoint.next_offset >= known.next_offset:
                        newest[part, checkpoint.detector] = checkpoint
        finally:
            reader.close()
    return newest


def _read_to_end(reader: kafka.KafkaConsumer, parts: list[kafka.TopicPartition]) -> Iterable[tuple[int, bytes | None]]:
    reader.assign(parts)
    ends = reader.end_offsets(parts)
    reader.seek_to_beginning(*parts)
    left = {part for part in parts if reader.position(part) < ends[part]}
    while left:
        for part, records in reader.poll(timeout_ms=1000).items():
            for record in records:
                yield part.partition, record.value
        left = {part for part in left if reader.position(part) < ends[part]}
