"""Dead letters as a reader sees them, and the way back for those whose cause is mended."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from farpoint.errors import FarpointError
from farpoint.group_offsets import committed_offsets
from farpoint.kafka_clients import admin, kafka_errors, producer
from farpoint.records import IncomingRecord, Positions
from farpoint.settings import KafkaSettings, MediaSettings
from farpoint.topic_reader import TopicReader
from farpoint.topics import DLQ_SUFFIX
from farpoint.wire import DLQ_HEADERS, Headers, rfc3339

# Sent before we ask what was acknowledged: few enough to fit in memory, enough that a flush costs nothing.
_BATCH_RECORDS = 500
_BATCH_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, its headers read as far as they can be.

    The six `dlq.*` are text of whoever may write to the topic: nothing here has been checked.
    """

    record: IncomingRecord
    topic: str | None
    partition: int | None
    offset: int | None
    reason: str
    message: str
    failed_at: str

    @classmethod
    def read(cls, record: IncomingRecord) -> Self:
        """Read the headers; what is missing or broken is None or empty."""
        texts = {name: (value or b"").decode(errors="replace") for name, value in record.headers if name in DLQ_HEADERS}
        return cls(
            record,
            texts.get("dlq.topic"),
            _whole(texts.get("dlq.partition")),
            _whole(texts.get("dlq.offset")),
            texts.get("dlq.reason", ""),
            texts.get("dlq.message", ""),
            texts.get("dlq.failed-at", ""),
        )

    @property
    def original_headers(self) -> Headers:
        """The headers it was published with."""
        return [(name, value) for name, value in self.record.headers if name not in DLQ_HEADERS]

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.record.value or b"")


def _whole(text: str | None) -> int | None:
    return int(text) if text and len(text) <= 18 and text.isascii() and text.isdigit() else None


def newest_dead_letters(reader: TopicReader, count: int) -> list[DeadLetter]:
    """Return the newest `count` of the topics that the reader reads, oldest of them first."""
    reader.seek_to_last(count)  # any partition may hold them all
    newest = heapq.nlargest(count, reader.to_end(), key=_age)
    return [DeadLetter.read(record) for record in reversed(newest)]


def _age(record: IncomingRecord) -> tuple[int, int, str, int]:
    ref = record.ref
    return ref.timestamp, ref.offset, ref.topic, ref.partition  # many come in one millisecond


def replay_group(settings: KafkaSettings) -> str:
    """Name the consumer group under which Kafka keeps how far dead letters were sent back."""
    return f"{settings.group_id}-dead-letters-replay"


def replayed_up_to(settings: KafkaSettings) -> Positions:
    """Return the offsets of the first dead letters that were not sent back yet; empty where none ever was."""
    return committed_offsets(settings, replay_group(settings))


def was_replayed(letter: DeadLetter, up_to: Positions) -> bool:
    """Say whether a dead letter lies below what was sent back."""
    ref = letter.record.ref
    return ref.offset < up_to.get((ref.topic, ref.partition), 0)


@dataclass
class Replay:
    """What a replay did.

    Attributes
    ----------
    sent
        Dead letters back where they came from, acknowledged by Kafka.
    refused
        Those whose headers name no topic of ours, which are passed over.
    """

    sent: int = 0
    refused: list[DeadLetter] = field(default_factory=list)


def replay(
    settings: KafkaSettings,
    media: MediaSettings,
    inputs: Sequence[str],
    *,
    topics: Sequence[str],
    max_records: int | None = None,
) -> Replay:
    """Send dead letters back, each once: how far it got is kept in Kafka for the next time.

    It ends where the dead letters ended when it began, so that those which fail again do not go round and round.

    Parameters
    ----------
    settings, media
        How to reach Kafka, and the largest record.
    inputs
        The topics that a dead letter may be sent to, whatever its headers say.
    topics
        Whose dead letters; some of the inputs.
    max_records
        Take at most so many.

    Raises
    ------
    FarpointError
        Kafka refused one, or is gone. What was acknowledged before is done and remembered.
    """
    done = Replay()
    with (
        TopicReader(settings, [topic + DLQ_SUFFIX for topic in topics]) as reader,
        kafka_errors(settings),
        producer(settings, max_request_size=media.max_record_bytes + 2**17) as back,
    ):
        reader.seek(replayed_up_to(settings))
        for batch in _batches(reader.to_end(), max_records):
            _send(settings, back, inputs, batch, done)
    return done


def _batches(records: Iterable[IncomingRecord], limit: int | None) -> Iterator[list[DeadLetter]]:
    batch: list[DeadLetter] = []
    size = 0
    for taken, record in enumerate(records, start=1):
        batch.append(DeadLetter.read(record))
        size += batch[-1].size
        if taken == limit:
            break
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _send(settings: KafkaSettings, back: Any, inputs: Sequence[str], batch: list[DeadLetter], done: Replay) -> None:
    # None stands for a letter that is not sent at all; it is passed over all the same.
    futures = [_send_one(back, letter) if letter.topic in inputs else None for letter in batch]
    back.flush()
    passed: dict[TopicPartition, OffsetAndMetadata] = {}
    stopped: set[TopicPartition] = set()
    failure: tuple[DeadLetter, KafkaError] | None = None
    for letter, future in zip(batch, futures, strict=True):
        ref = letter.record.ref
        part = TopicPartition(ref.topic, ref.partition)
        error = future if isinstance(future, KafkaError) else future and future.exception
        if error is not None:
            failure = failure or (letter, error)
            stopped.add(part)
        elif future is None:
            done.refused.append(letter)
        else:
            done.sent += 1
        # The position stays before the first that failed, even if some behind it arrived: sent twice beats never.
        if part not in stopped:
            passed[part] = OffsetAndMetadata(ref.offset + 1, rfc3339(ref.timestamp), -1)
    _remember(settings, passed)
    if failure:
        letter, error = failure
        ref = letter.record.ref
        raise FarpointError(
            f"{done.sent} dead letters were sent back, then {ref.topic} partition {ref.partition} offset {ref.offset} "
            f"could not be: {error}"
        )


def _send_one(back: Any, letter: DeadLetter) -> Any:
    # Returns the client's future, or the error.
    # Into the partition it came from: whoever published it may spread keys in another way than we do. With the time
    # of now, not its own: a topic that keeps a day would drop an older record before the worker sees it.
    record = letter.record
    known = back.partitions_for(letter.topic) or set()
    try:
        return back.send(
            letter.topic,
            key=record.key,
            value=b"" if record.key is None and record.value is None else record.value,  # or the client refuses
            headers=list(letter.original_headers),
            partition=letter.partition if letter.partition in known else None,
        )
    except KafkaError as error:  # too large, for instance, which the client sees by itself
        return error


def _remember(settings: KafkaSettings, passed: dict[TopicPartition, OffsetAndMetadata]) -> None:
    with admin(settings) as client:
        for part, error in client.alter_group_offsets(replay_group(settings), passed).items():
            if getattr(error, "errno", 0):
                raise FarpointError(f"Kafka does not keep how far {part.topic} was sent back: {error.__name__}")
