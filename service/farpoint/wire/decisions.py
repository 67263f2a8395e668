"""Decisions as they leave: assignments, alerts and cluster events as JSON."""

import base64

import msgspec

from farpoint.wire.text import JSON, Headers
from farpoint.wire.types import AssignmentBatch, ClusterEvent, OutlierAlert

ALERT_TYPE = "farpoint.outlier.v1"

_JSON_ENCODER = msgspec.json.Encoder()


def write_json(record: AssignmentBatch | OutlierAlert | ClusterEvent) -> bytes:
    """Write a decision, an alert or a cluster event."""
    return _JSON_ENCODER.encode(record)


JSON_HEADERS: Headers = [("content-type", JSON.encode())]


def alert_headers(alert: OutlierAlert) -> list[tuple[str, bytes]]:
    """Return an alert's CloudEvents headers."""
    return [
        ("content-type", JSON.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_id", alert.id.encode()),
        ("ce_type", ALERT_TYPE.encode()),
        ("ce_time", alert.time.encode()),
        ("ce_source", alert.source.encode()),
    ]


def data_url(thumbnail: bytes | None) -> str | None:
    """Write a thumbnail as a browser reads it."""
    return None if thumbnail is None else "data:image/jpeg;base64," + base64.b64encode(thumbnail).decode()


def picture_bytes(url: str | None) -> bytes | None:
    """Read back what `data_url` wrote; None where there is no picture."""
    return None if url is None else base64.b64decode(url.partition(",")[2])
