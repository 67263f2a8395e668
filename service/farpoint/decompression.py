"""Bounds on what a compressed batch of records may unpack to, for both Kafka clients.

Brokers bound a batch by its compressed size. A few kilobytes of gzip can be gigabytes of zeros, and the clients would
unpack them all before anybody may look: whoever may write to a topic could end every worker that reads it.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import aiokafka.codec
import aiokafka.consumer.fetcher
import aiokafka.record.default_records
import aiokafka.record.legacy_records
import kafka.codec
import kafka.record.default_records
import kafka.record.legacy_records
import lz4.frame
import zstandard

from farpoint.errors import FarpointError
from farpoint.settings import MediaSettings

# Text of numbers packs to a third; pictures not at all. A batch holds at most one record of the largest size.
_FACTOR = 8
_STEP = 2**20
# Clients write one. What follows a member is copied for the next one: of many tiny members that would be minutes.
_MEMBERS = 16
_REMEDY = "docs/security.md says how to pass over it"
_XERIAL_MAGIC = b"\x82SNAPPY\x00"

Decode = Callable[[Any], bytes]


class OversizedBatchError(FarpointError):
    """A batch unpacks to more than it may, or has more parts."""


def bound_decompression(media: MediaSettings) -> None:
    """Make kafka-python and aiokafka give up on batches that unpack to more than eight of the largest records."""
    limit = _FACTOR * media.max_record_bytes
    decoders = {
        "gzip_decode": lambda payload: gunzip(payload, limit),
        "lz4_decode": lambda payload: unpack_lz4(payload, limit),
        "zstd_decode": lambda payload: unpack_zstd(payload, limit),
        "snappy_decode": _bounded_snappy(limit),
    }
    modules: list[Any] = [kafka.record.default_records, kafka.record.legacy_records]
    modules += _record_modules()
    for module in modules:
        for name, decode in decoders.items():
            if hasattr(module, name):
                setattr(module, name, decode)
    records = aiokafka.consumer.fetcher.PartitionRecords
    if not hasattr(records, "farpoint_unbounded"):
        records.farpoint_unbounded = records._unpack_records
        records._unpack_records = _unpack_naming_the_place


def _record_modules() -> list[Any]:
    modules: list[Any] = [aiokafka.record.default_records, aiokafka.record.legacy_records]
    try:
        from aiokafka.record._crecords import default_records, legacy_records
    except ImportError:  # built without its C extension
        return modules
    return [*modules, default_records, legacy_records]


def _unpack_naming_the_place(records: Any) -> Iterator[Any]:
    try:
        yield from records.farpoint_unbounded()
    except OversizedBatchError as error:
        tp = records._tp
        raise OversizedBatchError(
            f"{tp.topic} partition {tp.partition} offset {records.next_fetch_offset}: {error}"
        ) from None


def gunzip(payload: Any, limit: int) -> bytes:
    r"""Unpack gzip, one member or a few.

    >>> import gzip
    >>> gunzip(gzip.compress(b"a") + gzip.compress(b"b"), limit=2)
    b'ab'
    >>> gunzip(gzip.compress(bytes(3)), limit=2)
    Traceback (most recent call last):
    ...
    farpoint.decompression.OversizedBatchError: a compressed batch that unpacks to more than 2 bytes ...
    """
    left = bytes(payload)
    unpacked = bytearray()
    members = 0
    while left:
        members += 1
        if members > _MEMBERS:
            raise OversizedBatchError(f"a compressed batch of more than {_MEMBERS} gzip members; {_REMEDY}")
        member = zlib.decompressobj(wbits=31)
        unpacked += member.decompress(left, limit + 1 - len(unpacked))
        if len(unpacked) > limit:
            raise _oversized(limit)
        if not member.eof:
            raise ValueError("gzip data ends too early")
        left = member.unused_data
    return bytes(unpacked)


def unpack_lz4(payload: Any, limit: int) -> bytes:
    """Unpack an LZ4 frame."""
    with lz4.frame.LZ4FrameFile(io.BytesIO(bytes(payload))) as packed:
        return _read(packed, limit)


def unpack_zstd(payload: Any, limit: int) -> bytes:
    """Unpack Zstandard frames."""
    reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
        io.BytesIO(bytes(payload)), read_across_frames=True
    )
    with reader:
        return _read(reader, limit)


def _read(packed: Any, limit: int) -> bytes:
    unpacked = bytearray()
    while piece := packed.read(_STEP):
        unpacked += piece
        if len(unpacked) > limit:
            raise _oversized(limit)
    return bytes(unpacked)


def _bounded_snappy(limit: int) -> Decode:
    decode: Decode = aiokafka.codec.snappy_decode

    def bounded(payload: Any) -> bytes:
        if snappy_size(payload) > limit:
            raise _oversized(limit)
        return decode(bytes(payload))

    return bounded


def snappy_size(payload: Any) -> int:
    """Return what snappy data says it unpacks to; its decoder refuses data that says otherwise."""
    data = bytes(payload)
    if not data.startswith(_XERIAL_MAGIC):
        return _varint(data)
    size, at = 0, 16
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("!i", data, at)
        if length <= 0:
            raise ValueError(f"a snappy block of {length} bytes")
        size += _varint(data[at + 4 : at + 9])
        at += 4 + length
    return size


def _varint(data: bytes) -> int:
    size = 0
    for index, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return size
    raise ValueError("snappy data that does not say its size")


def _oversized(limit: int) -> OversizedBatchError:
    return OversizedBatchError(
        f"a compressed batch that unpacks to more than {limit} bytes ({_FACTOR} x FARPOINT_MEDIA__MAX_RECORD_BYTES); "
        f"{_REMEDY}"
    )
