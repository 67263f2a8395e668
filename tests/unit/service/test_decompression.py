"""Compressed batches: unpacked as the clients do, and no further than the bound."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import aiokafka.codec as theirs
import kafka.codec as others
import kafka.record.default_records
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farpoint import decompression
from farpoint.decompression import OversizedBatchError, bound_decompression
from farpoint.settings import MediaSettings

LIMIT = 2**19
Codec = tuple[Callable[[bytes], bytes], Callable[[bytes, int], bytes]]

CODECS: dict[str, Codec] = {
    "gzip": (theirs.gzip_encode, decompression.gunzip),
    "lz4": (theirs.lz4_encode, decompression.unpack_lz4),
    "lz4 of kafka-python": (others.lz4_encode, decompression.unpack_lz4),
    "zstd": (theirs.zstd_encode, decompression.unpack_zstd),
    "zstd of kafka-python": (others.zstd_encode, decompression.unpack_zstd),
    "snappy": (theirs.snappy_encode, lambda payload, limit: decompression._bounded_snappy(limit)(payload)),
    "raw snappy": (
        lambda payload: theirs.snappy_encode(payload, xerial_compatible=False),
        lambda payload, limit: decompression._bounded_snappy(limit)(payload),
    ),
}


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(min_size=1, max_size=5000), times=st.integers(1, 30))
def test_what_is_within_the_bound_comes_out_whole(name: str, data: bytes, times: int) -> None:
    """Both clients' packers, unpacked, give what was packed, at the bound too."""
    encode, decode = CODECS[name]
    whole = data * times
    assert decode(encode(whole), len(whole)) == whole


@pytest.mark.parametrize("name", CODECS)
def test_a_bomb_is_unpacked_no_further_than_the_bound(name: str) -> None:
    """Thirty-two megabytes of zeros are given up on, having taken memory for little more than the bound."""
    encode, decode = CODECS[name]
    bomb = encode(bytes(2**25))
    tracemalloc.start()
    try:
        with pytest.raises(OversizedBatchError, match="more than 524288 bytes"):
            decode(bomb, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("name", CODECS)
def test_one_byte_more_is_too_much(name: str) -> None:
    """The bound is inclusive."""
    encode, decode = CODECS[name]
    packed = encode(bytes(LIMIT))
    assert len(decode(packed, LIMIT)) == LIMIT
    with pytest.raises(OversizedBatchError):
        decode(packed, LIMIT - 1)


def test_a_few_gzip_members_are_unpacked_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen come out whole; of a hundred thousand empty ones no more are begun before it is given up on."""
    begun = 0
    make = zlib.decompressobj

    def counted(**options: Any) -> object:
        nonlocal begun
        begun += 1
        return make(**options)

    monkeypatch.setattr(zlib, "decompressobj", counted)
    assert decompression.gunzip(gzip.compress(b"a") * 16, LIMIT) == b"a" * 16
    assert begun == 16
    with pytest.raises(OversizedBatchError, match="more than 16 gzip members"):
        decompression.gunzip(gzip.compress(b"") * 100_000, LIMIT)
    assert begun == 32


@pytest.mark.parametrize(
    "payload", [b"", b"\x82SNAPPY\x00" + bytes(8) + b"\xff\xff\xff\xff", gzip.compress(b"abc")[:-3]]
)
def test_what_is_no_packed_data_is_an_error_and_no_loop(payload: bytes) -> None:
    """Data cut short or with negative sizes ends."""
    decode = (
        decompression._bounded_snappy(LIMIT) if payload[:1] != b"\x1f" else lambda p: decompression.gunzip(p, LIMIT)
    )
    with pytest.raises((ValueError, OSError)):
        decode(payload)


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    modules = [kafka.record.default_records, *decompression._record_modules()]
    kept = [
        (module, name, getattr(module, name)) for module in modules for name in dir(module) if name.endswith("_decode")
    ]
    yield
    for module, name, value in kept:
        setattr(module, name, value)


@pytest.mark.usefixtures("_as_it_was")
def test_both_clients_are_bound() -> None:
    """After `bound_decompression` each client's reader of records, compiled or not, gives up on a bomb."""
    media = MediaSettings.model_construct(max_record_bytes=LIMIT // 8)  # less than may be set, to be quick
    bound_decompression(media)
    bound_decompression(media)  # twice does no harm
    for module in (kafka.record.default_records, *decompression._record_modules()):
        found = [name for name in dir(module) if name.endswith("_decode")]
        assert "gzip_decode" in found
        for name in found:
            encode = getattr(theirs, name.replace("decode", "encode"))
            with pytest.raises(OversizedBatchError):
                getattr(module, name)(encode(bytes(LIMIT + 1)))
