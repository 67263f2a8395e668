"""Records on the wire: the one place that knows their shape.

Reading turns **bytes** into checked values or raises `InvalidRecord`; writing turns values into bytes. The types
below are also the JSON Schemas under `deploy/schemas`, so a field is named, typed and explained here and nowhere
else.

    media record       bytes + headers -> MediaRecord
    EmbeddingBatch     msgpack or JSON -> EmbeddingRecord (float32 array and items)
    AssignmentBatch, OutlierAlert, ClusterEvent -> JSON
"""

import base64
import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from farpoint_models.errors import InvalidReason, InvalidRecord

Headers = Sequence[tuple[str, bytes]]

JSON = "application/json"
MSGPACK = "application/msgpack"
ALERT_TYPE = "farpoint.outlier.v1"
EMBEDDINGS_TYPE = "farpoint.embeddings.v1"
UNKNOWN_SOURCE = "unknown"

# Bounds on text from outside: what goes into decisions and alerts must leave them far below the largest record, also
# where JSON writes one byte as six. Headers count together, names and all.
_MAX_NAME = 1024
_MAX_TEXT = 4096
_MAX_ATTRIBUTES = 64
_MAX_HEADER_BYTES = 8192
_MAX_VECTORS = 8192
_MAX_THUMBNAIL_BYTES = 512 * 1024
_SMALL_RECORD = 2**19
_MAX_ITEM_TEXTS = 2**22


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


# `gc=False`: these are made by the thousand and hold no cycles, so the garbage collector need not look through them.

# --- what travels ---------------------------------------------------------------------------------------------------

Time = Annotated[str, Meta(description="RFC 3339, such as 2026-01-01T00:00:00.000Z")]
ItemId = Annotated[str, Meta(min_length=1, max_length=_MAX_NAME, description="stays the same when work is redone")]
Subject = Annotated[str, Meta(max_length=_MAX_TEXT, description="a name or address to show people")]


class MediaRef(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """The record a picture came in."""

    topic: Annotated[str, Meta(max_length=249)]
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    content_type: Annotated[str, Meta(max_length=_MAX_NAME)] | None = None
    timestamp: Annotated[int, Meta(ge=0, description="of the record, milliseconds since 1970 UTC")] | None = None


Region = Annotated[
    tuple[float, float, float, float], Meta(description="x0, y0, x1, y1 in pixels of the original picture")
]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=_MAX_NAME)],
        Annotated[str, Meta(max_length=_MAX_TEXT)] | int | float | bool | None,
    ],
    Meta(max_length=_MAX_ATTRIBUTES, description="any flat map"),
]


class Item(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What is known of one vector besides its numbers."""

    id: ItemId | None = None
    source: Annotated[str, Meta(min_length=1, max_length=_MAX_NAME)] | None = None
    time: Time | None = None
    subject: Subject | None = None
    media: MediaRef | None = None
    region: Region | None = None
    thumbnail: Annotated[bytes, Meta(max_length=_MAX_THUMBNAIL_BYTES, description="JPEG; base64 in JSON")] | None = None
    metadata: Metadata = {}


class PackedVectors(Struct, forbid_unknown_fields=True):
    """Vectors as little-endian numbers, row after row."""

    dim: Annotated[int, Meta(ge=1, le=65536)]
    dtype: Literal["float32", "float16"]
    data: bytes


class EmbeddingBatchJson(Struct, forbid_unknown_fields=True):
    """Vectors of one detector, as people write them by hand."""

    model: Annotated[
        str, Meta(min_length=1, max_length=_MAX_NAME, description="the vector space; one detector serves one")
    ]
    vectors: Annotated[
        list[Annotated[list[float], Meta(min_length=1, max_length=65536)]], Meta(min_length=1, max_length=_MAX_VECTORS)
    ]
    items: list[Item] | None = None


class EmbeddingBatchMsgpack(Struct, forbid_unknown_fields=True):
    """Vectors of one detector, as Farpoint writes them."""

    model: Annotated[str, Meta(min_length=1, max_length=_MAX_NAME)]
    vectors: PackedVectors
    items: list[Item] | None = None


class EmbeddingsRef(Struct, frozen=True):
    """The record of the embeddings topic that a decision is about."""

    topic: str
    partition: int
    offset: int


class Assignment(Struct, gc=False):
    """The decision about one vector."""

    id: ItemId
    source: str
    time: Time
    media: MediaRef | None
    subject: str | None
    state: Literal["warming_up", "scored"]
    cluster_id: Annotated[int, Meta(description="never reused within a detector")] | None
    distance: Annotated[float, Meta(ge=0, description="to that cluster's centroid")] | None
    outlier_score: Annotated[float, Meta(ge=0, le=1, description="high = outlier")] | None
    p_value: Annotated[float, Meta(ge=0, le=1, description="share of recent normal scores at least this high")] | None
    is_outlier: bool


class AssignmentBatch(Struct):
    """The decisions about one EmbeddingBatch record: same key, same partition, same order."""

    detector: str
    model: str
    embeddings: EmbeddingsRef
    items: list[Assignment]


class NearCluster(Struct):
    """A cluster near an outlier."""

    cluster_id: int
    distance: Annotated[float, Meta(ge=0)]
    size: Annotated[int, Meta(ge=0, description="vectors it has taken in, older ones weighing less")]


class OutlierAlert(Struct):
    """One vector far from every centroid that carries mass."""

    id: Annotated[str, Meta(description="the item's id: the same when work is redone after a crash")]
    detector: str
    source: str
    time: Time
    detected_at: Annotated[Time, Meta(description="when the vector entered the embeddings log")]
    subject: str | None
    media: MediaRef | None
    region: Region | None
    outlier_score: Annotated[float, Meta(ge=0, le=1)]
    p_value: Annotated[float, Meta(ge=0, le=1)]
    threshold: Annotated[float, Meta(ge=0, le=1, description="the score above which a vector is an outlier")]
    nearest_clusters: Annotated[list[NearCluster], Meta(max_length=3, description="nearest first")]
    thumbnail: Annotated[str, Meta(description="data:image/jpeg;base64,...")] | None
    model: str
    metadata: Metadata


class ClusterEvent(Struct):
    """A change in the set of clusters."""

    id: str
    type: Literal["birth", "death", "merge", "split"]
    time: Time
    detector: str
    cluster_id: int
    from_: Annotated[list[int], Meta(description="clusters it came from")] = msgspec.field(name="from")
    size: int
    exemplars: Annotated[list[str], Meta(description="ids of items near the centroid")]


# --- media ----------------------------------------------------------------------------------------------------------


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
            known[name] = _header_text(name, raw)
        elif name.startswith("ce_"):
            metadata[name.removeprefix("ce_")] = _header_text(name, raw)
    if bytes_left < 0:
        raise InvalidRecord(
            InvalidReason.INVALID_HEADER,
            f"content-type and ce_* headers of {_MAX_HEADER_BYTES - bytes_left} bytes; at most {_MAX_HEADER_BYTES}",
        )
    for name in ("ce_id", "ce_source", "ce_subject", "content-type"):
        longest = _MAX_TEXT if name == "ce_subject" else _MAX_NAME
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
                f"content-type {_shown(content_type)}; expected a picture: JPEG, PNG, WebP, BMP or TIFF",
            )
    if (index := known.get("ce_frameindex")) is not None:
        if not (index.isascii() and index.isdigit() and len(index) <= 18):
            raise InvalidRecord(InvalidReason.INVALID_HEADER, f"ce_frameindex {_shown(index)} is not a whole number")
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
    if len(metadata) >= _MAX_ATTRIBUTES:
        raise InvalidRecord(
            InvalidReason.INVALID_HEADER, f"{len(metadata)} ce_* attributes of your own; at most {_MAX_ATTRIBUTES - 1}"
        )
    for name, value in metadata.items():
        if len(name) > _MAX_NAME or len(str(value)) > _MAX_TEXT:
            raise InvalidRecord(
                InvalidReason.INVALID_HEADER,
                f"attribute {_shown(name)}: a name has at most {_MAX_NAME} characters, a value {_MAX_TEXT}",
            )


# Attributes with a meaning of their own; every other `ce_*` is the item's metadata.
_CLOUDEVENTS = frozenset({"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_frameindex"})


def read_key(key: bytes | None) -> str | None:
    """Decode a record's key; None where there is none."""
    if not key:
        return None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise InvalidRecord(InvalidReason.INVALID_KEY, f"key {key[:32]!r} is not UTF-8") from None
    if len(text) > _MAX_NAME:
        raise InvalidRecord(InvalidReason.INVALID_KEY, f"key of {len(text)} characters; at most {_MAX_NAME}")
    return text


def read_time(text: str, reason: InvalidReason, name: str) -> str:
    """Check an RFC 3339 time and return it as it came: provenance travels untouched."""
    try:
        # RFC 3339 is stricter than ISO 8601, which knows weeks, commas and times without a zone.
        if not _RFC3339.fullmatch(text):
            raise ValueError
        datetime.fromisoformat(text.upper())
    except ValueError:
        raise InvalidRecord(
            reason, f"{name} {_shown(text)} is not RFC 3339, such as 2026-01-01T00:00:00.000Z"
        ) from None
    return text


_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _header_text(name: str, raw: bytes | None) -> str:
    try:
        return (raw or b"").decode()
    except UnicodeDecodeError:
        raise InvalidRecord(InvalidReason.INVALID_HEADER, f"header {_shown(name)} is not UTF-8") from None


def _shown(text: str) -> str:
    # Hostile text goes into messages that people read in a terminal: quoted, escaped and short.
    return ascii(text[:60])


# --- embeddings -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmbeddingRecord:
    """A checked record of the embeddings topic.

    `vectors` is (N, D) float32, `items` as many, each with id, source and time filled in. `from_media` says that
    Farpoint's own embed stage wrote it, whose frames of one media partition come in order.
    """

    ref: RecordRef
    detector: str
    model: str
    vectors: NDArray[np.float32]
    items: list[Item]
    from_media: bool


_JSON_ENCODER = msgspec.json.Encoder()
_JSON_DECODER = msgspec.json.Decoder(EmbeddingBatchJson)
_MSGPACK_DECODER = msgspec.msgpack.Decoder(EmbeddingBatchMsgpack)


def read_embeddings(ref: RecordRef, key: bytes | None, value: bytes | None, headers: Headers) -> EmbeddingRecord:
    """Read a record of the embeddings topic.

    Raises
    ------
    InvalidRecord
        No key or value; an unknown content type; a payload that does not parse or has missing, unknown or ill-typed
        fields, or too long ones; rows of unequal length; as many items as there are not vectors; NaN or infinite
        numbers.
    """
    if not value:
        raise InvalidRecord(InvalidReason.EMPTY_VALUE, "the record has no value; expected an EmbeddingBatch")
    detector = read_key(key)
    if detector is None:
        raise InvalidRecord(InvalidReason.INVALID_KEY, "the record has no key; expected the detector's id")
    texts = {name: _header_text(name, raw) for name, raw in headers if name in {"content-type", "ce_type"}}
    content_type = texts.get("content-type", JSON).partition(";")[0].strip().lower()
    batch = _decode(content_type, value)
    vectors = _packed(batch.vectors) if isinstance(batch, EmbeddingBatchMsgpack) else _listed(batch.vectors)
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InvalidRecord(InvalidReason.NON_FINITE_VECTOR, f"vector {row} has NaN or infinite numbers")
    items = batch.items
    if items is None:
        items = [Item() for _ in range(len(vectors))]
    elif len(items) != len(vectors):
        raise InvalidRecord(InvalidReason.ITEM_COUNT_MISMATCH, f"{len(items)} items for {len(vectors)} vectors")
    _fill_in(items, ref, detector)
    # Escaped in JSON, a text may take six times its bytes: the decisions would not fit where the vectors did.
    if len(value) > _SMALL_RECORD:
        size = len(_JSON_ENCODER.encode([(item.id, item.source, item.subject, item.media) for item in items]))
        if size > _MAX_ITEM_TEXTS:
            raise InvalidRecord(
                InvalidReason.SCHEMA_MISMATCH, f"ids, sources and subjects of {size} bytes; at most {_MAX_ITEM_TEXTS}"
            )
    return EmbeddingRecord(ref, detector, batch.model, vectors, items, texts.get("ce_type") == EMBEDDINGS_TYPE)


def _fill_in(items: list[Item], ref: RecordRef, detector: str) -> None:
    ids = derived_ids(ref, len(items)) if any(item.id is None for item in items) else []
    time = ref.time
    for index, item in enumerate(items):
        if item.id is None:
            item.id = ids[index]
        if item.source is None:
            item.source = detector
        if item.time is None:
            item.time = time
        else:
            read_time(item.time, InvalidReason.SCHEMA_MISMATCH, f"items[{index}].time")
        if (item.region or item.metadata) and not _all_finite(item):
            raise InvalidRecord(
                InvalidReason.SCHEMA_MISMATCH, f"items[{index}] has NaN or infinite numbers, which JSON does not have"
            )


def _all_finite(item: Item) -> bool:
    numbers = (*(item.region or ()), *(value for value in item.metadata.values() if isinstance(value, float)))
    return all(math.isfinite(number) for number in numbers)


def _decode(content_type: str, value: bytes) -> EmbeddingBatchJson | EmbeddingBatchMsgpack:
    try:
        if content_type == JSON:
            return _JSON_DECODER.decode(value)
        if content_type == MSGPACK:
            return _MSGPACK_DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        if content_type == JSON and _has_non_finite(value):
            raise InvalidRecord(
                InvalidReason.NON_FINITE_VECTOR, "the payload has NaN or infinite numbers, which JSON does not have"
            ) from None
        if isinstance(error, msgspec.ValidationError):
            raise InvalidRecord(InvalidReason.SCHEMA_MISMATCH, _one_line(error)) from None
        raise InvalidRecord(InvalidReason.MALFORMED_PAYLOAD, f"not {content_type}: {_one_line(error)}") from None
    raise InvalidRecord(
        InvalidReason.UNSUPPORTED_CONTENT_TYPE, f"content-type {_shown(content_type)}; expected {JSON} or {MSGPACK}"
    )


def _has_non_finite(value: bytes) -> bool:
    # JSON has no NaN, but Python and others write it all the same: say what is really wrong with such a record.
    found: list[str] = []

    def number(text: str) -> float:
        if not math.isfinite(float(text)):
            found.append(text)
        return 0.0

    try:
        json.loads(value, parse_constant=number, parse_float=number)
    except (ValueError, RecursionError):
        return False
    return bool(found)


def _packed(packed: PackedVectors) -> NDArray[np.float32]:
    dtype = np.dtype("<f4" if packed.dtype == "float32" else "<f2")
    width = packed.dim * dtype.itemsize
    if len(packed.data) > _MAX_VECTORS * width:
        raise InvalidRecord(
            InvalidReason.SCHEMA_MISMATCH,
            f"vectors.data has {len(packed.data) // width} vectors; at most {_MAX_VECTORS} in one record",
        )
    if not packed.data or len(packed.data) % width:
        raise InvalidRecord(
            InvalidReason.SCHEMA_MISMATCH,
            f"vectors.data has {len(packed.data)} bytes, no multiple of {packed.dim} {packed.dtype} numbers",
        )
    return np.frombuffer(packed.data, dtype).reshape(-1, packed.dim).astype(np.float32)


def _listed(rows: list[list[float]]) -> NDArray[np.float32]:
    width = len(rows[0])
    for index, row in enumerate(rows):
        if len(row) != width:
            raise InvalidRecord(
                InvalidReason.DIMENSION_MISMATCH, f"vector {index} has {len(row)} numbers, vector 0 has {width}"
            )
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, which is refused next
        return np.array(rows, dtype=np.float64).astype(np.float32)


def _one_line(error: Exception) -> str:
    return ascii(" ".join(str(error).split())[:300])[1:-1]


def write_embeddings(model: str, vectors: NDArray[np.float32], items: list[Item]) -> bytes:
    """Write an EmbeddingBatch as msgpack: `vectors` (N, D), as many `items`."""
    data = np.ascontiguousarray(vectors, dtype="<f4")
    packed = PackedVectors(dim=data.shape[1], dtype="float32", data=data.tobytes())
    return msgspec.msgpack.encode(EmbeddingBatchMsgpack(model=model, vectors=packed, items=items))


def embeddings_headers(source: str) -> list[tuple[str, bytes]]:
    """Return the headers of an EmbeddingBatch that the embed stage writes."""
    return [("content-type", MSGPACK.encode()), ("ce_type", EMBEDDINGS_TYPE.encode()), ("ce_source", source.encode())]


# --- decisions ------------------------------------------------------------------------------------------------------


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


# --- dead letters ---------------------------------------------------------------------------------------------------

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


def wire_types() -> Mapping[str, Any]:
    """Return the types whose JSON Schemas are published under `deploy/schemas`."""
    return {
        "embedding-batch": EmbeddingBatchJson,
        "assignment-batch": AssignmentBatch,
        "outlier-alert": OutlierAlert,
        "cluster-event": ClusterEvent,
    }
