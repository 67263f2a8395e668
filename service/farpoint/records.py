"""Records as the stages see them: what came in, what goes out, and how far each partition is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farpoint.wire import Headers, RecordRef, dead_letter_headers
from farpoint_models.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class IncomingRecord:
    """A record as it came from Kafka, nothing decoded."""

    ref: RecordRef
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A record to be delivered; `partition` None leaves the choice to the key, `timestamp` None to the clock."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be processed, and why."""

    record: IncomingRecord
    error: InvalidRecord

    def outgoing(self, topic: str, failed_at: str) -> OutgoingRecord:
        """Return the record for the dead-letter topic: key, value and headers as they came, and six more headers."""
        record = self.record
        headers = dead_letter_headers(record.ref, record.headers, self.error, failed_at)
        # Clients refuse to send a record with neither key nor value; an empty value says the same.
        value = b"" if record.key is None and record.value is None else record.value
        return OutgoingRecord(topic, record.key, value, headers, partition=record.ref.partition)


Positions = Mapping[tuple[str, int], int]
"""Offsets by topic and partition."""


def positions_after(records: Sequence[IncomingRecord]) -> dict[tuple[str, int], int]:
    """Return, for each (topic, partition), the offset behind the last of `records`: what is to be read next."""
    return {(record.ref.topic, record.ref.partition): record.ref.offset + 1 for record in records}
