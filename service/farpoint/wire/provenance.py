"""Where things come from: a record's place, the ids and times made from it."""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999


@dataclass(frozen=True, slots=True)
class RecordRef:
    """Where a record lies in Kafka; travels with everything made from it.

    `timestamp` is the record's own, in milliseconds since 1970 UTC.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset: what no other record has."""
        return (self.topic, self.partition, self.offset)

    @property
    def time(self) -> str:
        """The record's time as RFC 3339 with milliseconds."""
        return rfc3339(self.timestamp)


def rfc3339(milliseconds: int) -> str:
    """Write a time as people and CloudEvents do.

    Whoever publishes sets a record's timestamp: one before 1970 or after 9999 becomes the nearest that can be written.

    >>> rfc3339(1767225600123)
    '2026-01-01T00:00:00.123Z'
    >>> rfc3339(-1), rfc3339(2**62)
    ('1970-01-01T00:00:00.000Z', '9999-12-31T23:59:59.999Z')
    """
    moment = _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MILLISECOND))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def derived_id(ref: RecordRef, *parts: object) -> str:
    """Name a thing made from a record: the same record gives the same id, however often the work is redone.

    It is the uuid5 of `topic/partition/offset[/part...]` in the namespace of URLs.

    >>> derived_id(RecordRef("t", 0, 7, 0), 3) == derived_id(RecordRef("t", 0, 7, 99), 3)
    True
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(str(part) for part in (*ref.place, *parts))))


def derived_ids(ref: RecordRef, count: int) -> list[str]:
    """Return `derived_id(ref, index)` for each index below `count`, the common part hashed once.

    >>> derived_ids(RecordRef("t", 0, 7, 0), 2)[1] == derived_id(RecordRef("t", 0, 7, 0), 1)
    True
    """
    place = "/".join(str(part) for part in ref.place)
    common = hashlib.sha1(uuid.NAMESPACE_URL.bytes + f"{place}/".encode(), usedforsecurity=False)
    ids = []
    for index in range(count):
        digest = common.copy()
        digest.update(b"%d" % index)
        name = digest.hexdigest()
        # As RFC 9562 lays out version 5: the version's digit, and the two upper bits of the variant.
        variant = "89ab"[int(name[16], 16) & 3]
        ids.append(f"{name[:8]}-{name[8:12]}-5{name[13:16]}-{variant}{name[17:20]}-{name[20:32]}")
    return ids
