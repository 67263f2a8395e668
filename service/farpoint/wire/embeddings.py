"""EmbeddingBatch: msgpack or JSON, read into a float32 array and its items, and written as msgpack."""

import json
import math
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from farpoint.wire.provenance import RecordRef, derived_ids
from farpoint.wire.text import JSON, MSGPACK, Headers, header_text, read_key, read_time, shown
from farpoint.wire.types import MAX_VECTORS, EmbeddingBatchJson, EmbeddingBatchMsgpack, Item, PackedVectors
from farpoint_models.errors import InvalidReason, InvalidRecord

EMBEDDINGS_TYPE = "farpoint.embeddings.v1"
_SMALL_RECORD = 2**19
_MAX_ITEM_TEXTS = 2**22


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
    texts = {name: header_text(name, raw) for name, raw in headers if name in {"content-type", "ce_type"}}
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
        InvalidReason.UNSUPPORTED_CONTENT_TYPE, f"content-type {shown(content_type)}; expected {JSON} or {MSGPACK}"
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
    if len(packed.data) > MAX_VECTORS * width:
        raise InvalidRecord(
            InvalidReason.SCHEMA_MISMATCH,
            f"vectors.data has {len(packed.data) // width} vectors; at most {MAX_VECTORS} in one record",
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
