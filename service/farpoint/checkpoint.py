"""Checkpoints: a detector's whole state as one record of the compacted detector-state topic.

A checkpoint is written on the partition of the embeddings it was folded from, with the detector's id as its key, so
that whoever is assigned that partition reads just the detectors it has to go on with.
"""

from collections.abc import Iterable
from importlib.metadata import version as package_version

import msgspec
import structlog
from msgspec import Struct

from farpoint.errors import FarpointError
from farpoint.settings import KafkaSettings
from farpoint.topic_reader import TopicReader

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
    embedded twice are recognised. `snapshot` is `farpoint_models.snapshot`'s, with a version of its own. `version` is
    that of this format, `code_version` names the Farpoint that wrote it, for people.
    """

    detector: str
    partition: int
    model: str
    next_offset: int
    media_high_water: dict[str, int]
    clusters: list[ClusterNote]
    snapshot: bytes
    version: int = VERSION
    code_version: str = package_version("farpoint")


class CheckpointError(FarpointError):
    """A checkpoint cannot be read: going on without it would silently forget what is normal."""


def write_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Encode a checkpoint."""
    return msgspec.msgpack.encode(checkpoint)


def read_checkpoint(value: bytes) -> Checkpoint:
    """Decode a checkpoint; raises CheckpointError where it is damaged or of another version."""
    try:
        version = msgspec.msgpack.decode(value, type=dict)["version"]
        if version != VERSION:
            raise CheckpointError(f"a checkpoint of version {version}; this Farpoint reads version {VERSION}")
        return msgspec.msgpack.decode(value, type=Checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise CheckpointError(f"a damaged checkpoint: {error}") from None


def load_checkpoints(
    settings: KafkaSettings, topic: str, partitions: Iterable[int] | None = None
) -> dict[tuple[int, str], Checkpoint]:
    """Read the newest checkpoint of every (partition, detector); blocking.

    Newest is the one with the highest `next_offset`: a paused and replaced writer may come late.

    Parameters
    ----------
    settings
        How to reach Kafka.
    topic
        The detector-state topic.
    partitions
        Which partitions to read; None: all.

    Raises
    ------
    CheckpointError
        One cannot be read, and none that can came after it.
    """
    newest, unreadable = read_checkpoints(settings, topic, partitions)
    for (partition, detector), error in unreadable.items():
        raise CheckpointError(
            f"detector {detector!r}, partition {partition} of {topic}: {error}. `farpoint worker --rebuild-state` "
            "makes its state anew from the embeddings log"
        )
    return newest


def read_checkpoints(
    settings: KafkaSettings, topic: str, partitions: Iterable[int] | None = None
) -> tuple[dict[tuple[int, str], Checkpoint], dict[tuple[int, str], CheckpointError]]:
    """Read the newest checkpoint of every (partition, detector), and what is wrong where the last cannot be read."""
    newest: dict[tuple[int, str], Checkpoint] = {}
    unreadable: dict[tuple[int, str], CheckpointError] = {}
    with TopicReader(settings, [topic], partitions, fetch_bytes=16 * 2**20) as reader:
        for record in reader.to_end():
            if record.value is None:
                continue
            key = (record.ref.partition, (record.key or b"").decode(errors="replace"))
            try:
                checkpoint = read_checkpoint(record.value)
            except CheckpointError as error:
                unreadable[key] = error
                continue
            unreadable.pop(key, None)
            if key not in newest or checkpoint.next_offset >= newest[key].next_offset:
                newest[key] = checkpoint
    return newest, unreadable
