"""Text from outside: keys, header values and times, decoded, checked and bounded.

The bounds keep decisions and alerts far below the largest record, also where JSON writes one byte as six.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from farpoint_models.errors import InvalidReason, InvalidRecord

Headers = Sequence[tuple[str, bytes]]

JSON = "application/json"
MSGPACK = "application/msgpack"

MAX_NAME = 1024
MAX_TEXT = 4096
MAX_ATTRIBUTES = 64


def read_key(key: bytes | None) -> str | None:
    """Decode a record's key; None where there is none."""
    if not key:
        return None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise InvalidRecord(InvalidReason.INVALID_KEY, f"key {key[:32]!r} is not UTF-8") from None
    if len(text) > MAX_NAME:
        raise InvalidRecord(InvalidReason.INVALID_KEY, f"key of {len(text)} characters; at most {MAX_NAME}")
    return text


def read_time(text: str, reason: InvalidReason, name: str) -> str:
    """Check an RFC 3339 time and return it as it came: provenance travels untouched."""
    try:
        # RFC 3339 is stricter than ISO 8601, which knows weeks, commas and times without a zone.
        if not _RFC3339.fullmatch(text):
            raise ValueError
        datetime.fromisoformat(text.upper())
    except ValueError:
        raise InvalidRecord(reason, f"{name} {shown(text)} is not RFC 3339, such as 2026-01-01T00:00:00.000Z") from None
    return text


_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def header_text(name: str, raw: bytes | None) -> str:
    """Decode a header's value; one without a value is as good as empty."""
    try:
        return (raw or b"").decode()
    except UnicodeDecodeError:
        raise InvalidRecord(InvalidReason.INVALID_HEADER, f"header {shown(name)} is not UTF-8") from None


def shown(text: str) -> str:
    """Return hostile text for a message that people read in a terminal: quoted, escaped and short."""
    return ascii(text[:60])
