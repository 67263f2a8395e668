"""The headers of a dead letter."""

from farpoint.wire.provenance import RecordRef
from farpoint.wire.text import Headers
from farpoint_models.errors import InvalidRecord

DLQ_HEADERS = ("dlq.topic", "dlq.partition", "dlq.offset", "dlq.reason", "dlq.message", "dlq.failed-at")


def dead_letter_headers(ref: RecordRef, headers: Headers, error: InvalidRecord, failed_at: str) -> Headers:
    """Return the original headers with the six of ours behind them.

    A record that was replayed and failed again keeps one set, the newest.
    """
    return [
        *((name, value) for name, value in headers if name not in DLQ_HEADERS),
        ("dlq.topic", ref.topic.encode()),
        ("dlq.partition", str(ref.partition).encode()),
        ("dlq.offset", str(ref.offset).encode()),
        ("dlq.reason", str(error.reason).encode()),
        ("dlq.message", error.message.encode()),
        ("dlq.failed-at", failed_at.encode()),
    ]
