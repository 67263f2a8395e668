"""Records between Kafka and the stages: dead letters keep what came, positions say what is next."""

from typing import Any

from tests.unit.service.stage_kit import record

from farpoint.records import DeadLetter, positions_after
from farpoint_models.errors import InvalidReason, InvalidRecord

ERROR = InvalidRecord(InvalidReason.EMPTY_VALUE, "the record has no value")


def test_a_dead_letter_keeps_everything() -> None:
    """Key, value, headers and partition are as they came; only neither key nor value becomes an empty value."""
    headers = [("a", b"\xff"), ("a", b"twice"), ("", b"")]
    for key, value in [(b"k", b"v"), (None, None), (b"\xff", b"")]:
        out = DeadLetter(record("t", 41, value, key, headers, partition=3), ERROR).outgoing("t.dlq", "now")
        assert (out.topic, out.key, out.value or b"", out.partition) == ("t.dlq", key, value or b"", 3)
        assert (out.key, out.value) != (None, None)
        assert list(out.headers[:3]) == headers
        assert dict(out.headers[3:]) == {
            "dlq.topic": b"t",
            "dlq.partition": b"3",
            "dlq.offset": b"41",
            "dlq.reason": b"empty_value",
            "dlq.message": b"the record has no value",
            "dlq.failed-at": b"now",
        }


def test_a_header_without_value_stays_one() -> None:
    """Kafka knows headers that have no value: they are not made empty ones."""
    headers: Any = [("null", None)]
    out = DeadLetter(record("t", 0, b"v", b"k", headers), ERROR).outgoing("t.dlq", "now")
    assert list(out.headers[:1]) == headers


def test_a_second_failure_replaces_the_first() -> None:
    """A replayed dead letter that fails again has one set of our headers, the newest."""
    first = DeadLetter(record("t", 1, b"v"), ERROR).outgoing("t.dlq", "then")
    second = DeadLetter(record("t", 2, b"v", headers=first.headers), ERROR).outgoing("t.dlq", "now")
    assert len(second.headers) == 6
    assert dict(second.headers)["dlq.offset"] == b"2"
    assert dict(second.headers)["dlq.failed-at"] == b"now"


def test_positions_are_behind_the_last_record() -> None:
    """For each partition of each topic the offset to be read next."""
    records = [record("t", 4, b""), record("t", 5, b""), record("t", 0, b"", partition=1), record("u", 9, b"")]
    assert positions_after(records) == {("t", 0): 6, ("t", 1): 1, ("u", 0): 10}
    assert positions_after([]) == {}
