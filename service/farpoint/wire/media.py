"""Media records: bytes and headers, read into a picture with its provenance."""

from dataclasses import dataclass, field

from farpoint.wire.provenance import RecordRef, derived_id
from farpoint.wire.text import MAX_ATTRIBUTES, MAX_NAME, MAX_TEXT, Headers, header_text, read_key, read_time, shown
from farpoint.wire.types import MediaRef, Metadata
from farpoint_models.errors import InvalidReason, InvalidRecord

UNKNOWN_SOURCE = "unknown"
_MAX_HEADER_BYTES = 8192  # of the headers we read, together, names and all


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """An encoded picture with its provenance."""

    ref: RecordRef
    data: bytes
    id: str
    source: str
    time: str
    subject: str | None
    content_type: str | None
    metadata: Metadata = field(default_factory=dict)

    @property
    def media(self) -> MediaRef:
        """The provenance as it travels on the wire."""
        ref = self.ref
        return MediaRef(ref.topic, ref.partition, ref.offset, self.content_type, max(ref.timestamp, 0))


_IMAGE_TYPES = frozenset(
    {"image/jpeg", "image/jpg", "image/png", "image/webp", "image/bmp", "image/x-ms-bmp", "image/tiff"}
)
_ANY_BYTES = frozenset({"application/octet-stream", "image/*", ""})


def read_media(ref: RecordRef, key: bytes | None, value: bytes | None, headers: Headers) -> MediaRecord:
    """Read a record of the images or frames topic; nothing but a value is needed.

    Raises
    ------
    InvalidRecord
        Empty value; a key or a known header that is not UTF-8 or too long; a `ce_time` or `ce_frameindex` that is
        none; a content type that is no picture.
    """
    if not value:
        raise InvalidRecord(InvalidReason.EMPTY_VALUE, "the record has no value; expected an encoded picture")
    source = read_key(key)
    metadata: Metadata = {}
    known: dict[str, str] = {}
    bytes_left = _MAX_HEADER_BYTES
    for name, raw in headers:
        if name == "content-type" or name.startswith("ce_"):
            bytes_left -= len(name.encode(errors="replace")) + len(raw or b"")
        if name == "content-type" or name in _CLOUDEVENTS:
            known[name] = header_text(name, raw)
        elif name.startswith("ce_"):
            metadata[name.removeprefix("ce_")] = header_text(name, raw)
    if bytes_left < 0:
        raise InvalidRecord(
            InvalidReason.INVALID_HEADER,
            f"content-type and ce_* headers of {_MAX_HEADER_BYTES - bytes_left} bytes; at most {_MAX_HEADER_BYTES}",
        )
    for name in ("ce_id", "ce_source", "ce_subject", "content-type"):
        longest = MAX_TEXT if name == "ce_subject" else MAX_NAME
        if len(known.get(name, "")) > longest:
            raise InvalidRecord(
                InvalidReason.INVALID_HEADER, f"{name} of {len(known[name])} characters; at most {longest}"
            )
    _check_metadata(metadata)
    content_type = known.get("content-type")
    if content_type is not None:
        kind = content_type.partition(";")[0].strip().lower()
        if kind not in _IMAGE_TYPES and kind not in _ANY_BYTES:
            raise InvalidRecord(
                InvalidReason.UNSUPPORTED_CONTENT_TYPE,
                f"content-type {shown(content_type)}; expected a picture: JPEG, PNG, WebP, BMP or TIFF",
            )
    if (index := known.get("ce_frameindex")) is not None:
        if not (index.isascii() and index.isdigit() and len(index) <= 18):
            raise InvalidRecord(InvalidReason.INVALID_HEADER, f"ce_frameindex {shown(index)} is not a whole number")
        metadata["frameindex"] = int(index)
    time = known.get("ce_time")
    return MediaRecord(
        ref=ref,
        data=value,
        id=known.get("ce_id") or derived_id(ref),
        source=known.get("ce_source") or source or UNKNOWN_SOURCE,
        time=ref.time if time is None else read_time(time, InvalidReason.INVALID_HEADER, "ce_time"),
        subject=known.get("ce_subject"),
        content_type=content_type,
        metadata=metadata,
    )


def _check_metadata(metadata: Metadata) -> None:
    # One place is left for ce_frameindex.
    if len(metadata) >= MAX_ATTRIBUTES:
        raise InvalidRecord(
            InvalidReason.INVALID_HEADER, f"{len(metadata)} ce_* attributes of your own; at most {MAX_ATTRIBUTES - 1}"
        )
    for name, value in metadata.items():
        if len(name) > MAX_NAME or len(str(value)) > MAX_TEXT:
            raise InvalidRecord(
                InvalidReason.INVALID_HEADER,
                f"attribute {shown(name)}: a name has at most {MAX_NAME} characters, a value {MAX_TEXT}",
            )


# Attributes with a meaning of their own; every other `ce_*` is the item's metadata.
_CLOUDEVENTS = frozenset({"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_frameindex"})
