"""Reading topics as tools do: every partition assigned by ourselves, no consumer group.

A group join costs seconds, shows up in the operator's list of groups, and with kafka-python sometimes never ends.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import kafka

from farpoint.errors import FarpointError
from farpoint.kafka_clients import consumer, kafka_errors
from farpoint.records import IncomingRecord, Positions
from farpoint.settings import KafkaSettings
from farpoint.wire import RecordRef

_POLL_MS = 500
# So long without an answer, and records still missing: the broker is gone, and saying so beats waiting.
_STALLED_SECONDS = 60.0


class TopicReader:
    """Reads one or more topics from where one says, to the end or for ever.

    It stands at the beginning until one of the `seek_*` is called.

    Parameters
    ----------
    settings
        How to reach Kafka.
    topics
        The topics to read.
    partitions
        Which partitions of each; None: all, also those that `follow` sees appear.
    fetch_bytes
        How much one fetch takes of one partition; Kafka hands out a larger record all the same.

    Raises
    ------
    FarpointError
        Kafka does not answer, or has no such topic.

    Examples
    --------
    ::

        with TopicReader(settings.kafka, [names.alerts]) as reader:
            reader.seek_to_last(20)
            for record in reader.to_end(): ...
            for record in reader.follow(): ...
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Iterable[str],
        partitions: Iterable[int] | None = None,
        *,
        fetch_bytes: int = 2**20,
    ) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._fixed = partitions is not None
        # Metadata is asked for often enough that `follow` sees a widened topic soon.
        self._consumer = consumer(
            settings,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=fetch_bytes,
            metadata_max_age_ms=10_000,
            max_poll_records=1000,
        )
        try:
            wanted = None if partitions is None else set(partitions)
            with kafka_errors(settings):
                self._parts = [
                    kafka.TopicPartition(topic, partition)
                    for topic in self._topics
                    for partition in sorted(self._partitions_of(topic) if wanted is None else wanted)
                ]
                self._consumer.assign(self._parts)
                self._seek(self._consumer.beginning_offsets(self._parts) if self._parts else {})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def seek_to_end(self) -> None:
        """Stand behind the last record: `follow` then gives what comes from now on."""
        with kafka_errors(self._settings):
            self._seek(self._consumer.end_offsets(self._parts))

    def seek_to_last(self, count: int) -> None:
        """Stand before the last `count` records of each partition."""
        with kafka_errors(self._settings):
            begins = self._consumer.beginning_offsets(self._parts)
            ends = self._consumer.end_offsets(self._parts)
        self._seek({part: max(begins[part], ends[part] - count) for part in self._parts})

    def seek(self, positions: Positions) -> None:
        """Stand at these offsets, as far as the log reaches; partitions not named stay at their beginning."""
        with kafka_errors(self._settings):
            begins = self._consumer.beginning_offsets(self._parts)
            ends = self._consumer.end_offsets(self._parts)
        self._seek(
            {
                part: min(max(positions.get((part.topic, part.partition), begins[part]), begins[part]), ends[part])
                for part in self._parts
            }
        )

    def to_end(self) -> Iterator[IncomingRecord]:
        """Give the records up to where the log ends now, in order within each partition.

        What arrives while reading is left for a later call, so it ends however busy the topic is. Whoever stops
        early does not come back to the rest: read to the end, or be done with the reader.
        """
        if not self._parts:
            return
        with kafka_errors(self._settings):
            ends = self._consumer.end_offsets(self._parts)
        left = self._short_of(ends, self._parts)
        heard = time.monotonic()
        while left:
            batch = self._poll()
            for part, records in batch.items():
                for record in records:
                    if record.offset < ends[part]:
                        yield _record(record)
                if records and records[-1].offset >= ends[part]:
                    self._consumer.seek(part, ends[part])
            # Compaction leaves gaps: the position passes them though no record does.
            still = self._short_of(ends, left)
            if batch or still != left:
                heard = time.monotonic()
            elif time.monotonic() - heard > _STALLED_SECONDS:
                raise FarpointError(
                    f"Kafka at {self._settings.bootstrap_servers} stopped answering while reading {left[0].topic} "
                    f"partition {left[0].partition}"
                )
            left = still

    def follow(self, until: Callable[[], bool] = lambda: False) -> Iterator[IncomingRecord]:
        """Give the records from here on, and wait for more, for ever or until `until` holds."""
        while not until():
            for records in self._poll().values():
                for record in records:
                    yield _record(record)
            self._take_new_partitions()

    def _poll(self) -> Any:
        with kafka_errors(self._settings):
            return self._consumer.poll(timeout_ms=_POLL_MS)

    def _short_of(self, ends: Mapping[Any, int], parts: list[Any]) -> list[Any]:
        with kafka_errors(self._settings):
            return [part for part in parts if (self._consumer.position(part) or 0) < ends[part]]

    def _seek(self, offsets: Mapping[Any, int]) -> None:
        for part, offset in offsets.items():
            self._consumer.seek(part, offset)

    def _partitions_of(self, topic: str) -> set[int]:
        partitions: set[int] = self._consumer.partitions_for_topic(topic)
        if not partitions:
            raise FarpointError(f"Kafka has no topic {topic}: create it with `farpoint topics apply`")
        return partitions

    def _take_new_partitions(self) -> None:
        if self._fixed:
            return
        with kafka_errors(self._settings):
            known = set(self._parts)
            new = [
                part
                for topic in self._topics
                for part in (kafka.TopicPartition(topic, number) for number in self._partitions_of(topic))
                if part not in known
            ]
            if new:
                self._parts += new
                self._consumer.assign(self._parts)  # the others keep their places
                self._consumer.seek_to_beginning(*new)


def _record(record: Any) -> IncomingRecord:
    ref = RecordRef(record.topic, record.partition, record.offset, record.timestamp)
    # Kafka knows headers without a value; here they are as good as empty.
    return IncomingRecord(ref, record.key, record.value, [(name, value or b"") for name, value in record.headers or ()])
