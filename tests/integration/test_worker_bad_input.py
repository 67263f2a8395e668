"""Bad input to the real worker: one dead letter with a precise reason, its neighbours unharmed."""

import io
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tests.integration.worker_process import Headers, StartWorker, Topics, unique_name, wait_for
from tests.pictures import encode, jpeg, scene, stranger
from tests.vectors import MODEL, MSGPACK_HEADERS, as_json, as_msgpack, clustered

from farpoint_models.errors import InvalidReason

PARTITION = 5
RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def world(shared_topics: Topics, start_shared_worker: StartWorker) -> Topics:
    """Run a worker with both stages."""
    start_shared_worker(shared_topics.domain)
    return shared_topics


@dataclass(frozen=True)
class Bad:
    """A bad record: what it holds, and why it must be refused."""

    name: str
    reason: InvalidReason
    says: str
    value: bytes | None
    headers: Headers = ()
    key: bytes | None = b"cam-1"


def huge_png(side: int) -> bytes:
    """Return a small, well-formed PNG file that declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(4096)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


JPEG = jpeg(RNG)
TRACE: Headers = [("x-trace", b"\x00\xff"), ("x-trace", b"twice"), ("x-empty", b""), ("ce_lens", b"wide")]

BAD_MEDIA = [
    Bad("empty value", InvalidReason.EMPTY_VALUE, "no value", b""),
    Bad("no value", InvalidReason.EMPTY_VALUE, "no value", None),
    Bad("text", InvalidReason.UNKNOWN_IMAGE_FORMAT, "", b"hello, this is no picture"),
    Bad("gif", InvalidReason.UNKNOWN_IMAGE_FORMAT, "", encode(scene(RNG), "GIF")),
    Bad("truncated jpeg", InvalidReason.CORRUPT_IMAGE, "JPEG", JPEG[: len(JPEG) * 2 // 3]),
    Bad("truncated png", InvalidReason.CORRUPT_IMAGE, "PNG", encode(scene(RNG), "PNG")[:20_000]),
    Bad("png of 60,000 x 60,000", InvalidReason.IMAGE_TOO_LARGE, "60", huge_png(60_000)),
    Bad("broken ce_time", InvalidReason.INVALID_HEADER, "ce_time 'yesterday'", JPEG, [("ce_time", b"yesterday")]),
    Bad("ce_time without zone", InvalidReason.INVALID_HEADER, "ce_time", JPEG, [("ce_time", b"2026-01-01T00:00:00")]),
    Bad("header not UTF-8", InvalidReason.INVALID_HEADER, "ce_subject", JPEG, [("ce_subject", b"\xff\xfe")]),
    Bad("broken frame index", InvalidReason.INVALID_HEADER, "ce_frameindex", JPEG, [("ce_frameindex", b"-1")]),
    Bad("content type", InvalidReason.UNSUPPORTED_CONTENT_TYPE, "video/mp4", JPEG, [("content-type", b"video/mp4")]),
    Bad("key not UTF-8", InvalidReason.INVALID_KEY, "not UTF-8", JPEG, key=b"\xff\xfe cam"),
]


@pytest.mark.parametrize("bad", BAD_MEDIA, ids=lambda bad: bad.name)
def test_bad_pictures(world: Topics, bad: Bad) -> None:
    """A record that is no picture becomes one dead letter; the pictures around it are decided all the same."""
    topic = world.names.frames
    good = [unique_name("good/") for _ in range(4)]

    def publish(name: str) -> None:
        world.publish(topic, jpeg(RNG), "cam-1", [("ce_id", name.encode())], PARTITION)

    publish(good[0])
    publish(good[1])
    future = world.publish(topic, bad.value, bad.key, [*TRACE, *bad.headers], PARTITION)
    publish(good[2])
    publish(good[3])
    place = future.get(30)
    wait_for(lambda: set(good) <= set(world.decided()), "the decisions about the good neighbours")
    check_dead_letter(world, place, bad, [*TRACE, *bad.headers])


def check_dead_letter(world: Topics, place: Any, bad: Bad, headers: Headers) -> None:
    """Check that there is one dead letter of that place, byte for byte, with our six headers behind its own."""
    at = (place.partition, place.offset)
    wait_for(lambda: at in world.dead_letters(place.topic), "the dead letter")
    (letter,) = world.dead_letters(place.topic)[at]
    assert letter.value == bad.value
    assert letter.key == bad.key
    assert list(letter.headers[: len(headers)]) == list(headers)
    ours = dict(letter.headers[len(headers) :])
    assert set(ours) == {f"dlq.{name}" for name in ("topic", "partition", "offset", "reason", "message", "failed-at")}
    assert ours["dlq.topic"] == place.topic.encode()
    assert ours["dlq.partition"] == str(place.partition).encode()
    assert ours["dlq.offset"] == str(place.offset).encode()
    assert ours["dlq.reason"] == bad.reason.encode()
    message = ours["dlq.message"].decode()
    assert bad.says in message
    assert message
    assert "\n" not in message
    assert ours["dlq.failed-at"].endswith(b"Z")


def several(kind: str, **options: object) -> bytes:
    """Encode a scene and behind it, in the same file, a stranger."""
    return encode(scene(RNG), kind, save_all=True, append_images=[stranger(RNG)], **options)


@pytest.mark.parametrize(
    "value", [several("TIFF"), several("WEBP", duration=100), several("PNG")], ids=["pages", "webp", "apng"]
)
def test_of_several_pictures_the_first_is_taken(world: Topics, value: bytes) -> None:
    """An animated or multi-page file is no bad input: its first picture is embedded."""
    name = unique_name("animated/")
    (place,) = world.publish_all(world.names.images, [(None, value, [("ce_id", name.encode())])])
    wait_for(lambda: name in world.decided(), "the decision")
    assert (place.partition, place.offset) not in world.dead_letters(world.names.images)
    thumbnail = next(item["thumbnail"] for record in world.embeddings() if (item := _item(record, name)) is not None)
    shown = np.asarray(_open(thumbnail)).astype(int)
    first = np.asarray(scene(RNG).resize((160, 120))).astype(int)
    assert np.abs(shown - first).mean() < 12


def _item(record: Any, name: str) -> Any:
    if dict(record.headers).get("content-type") != b"application/msgpack" or record.key != b"shared":
        return None
    return next((item for item in msgspec.msgpack.decode(record.value)["items"] if item["id"] == name), None)


def _open(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


def vectors(count: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return good vectors of the detectors of this module."""
    return clustered(RNG, count)


def with_fields(**fields: Any) -> bytes:
    """Return a JSON record with fields added, or taken away where None."""
    whole = json.loads(as_json(vectors())) | fields
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def spoilt(number: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return vectors with a number that is none in the second."""
    made = vectors()
    made[1, 4] = number
    return made


ZEROS = np.vstack([vectors(1), np.zeros((1, 16), np.float32)])

BAD_VECTORS = [
    Bad("empty value", InvalidReason.EMPTY_VALUE, "no value", b""),
    Bad("no value", InvalidReason.EMPTY_VALUE, "no value", None),
    Bad("content type", InvalidReason.UNSUPPORTED_CONTENT_TYPE, "text/csv", b"1,2,3", [("content-type", b"text/csv")]),
    Bad("not JSON", InvalidReason.MALFORMED_PAYLOAD, "not application/json", b'{"model": "numbers@1", "vect'),
    Bad("text", InvalidReason.MALFORMED_PAYLOAD, "not application/json", b"\xff\xfe\x00"),
    Bad("nested too deep", InvalidReason.SCHEMA_MISMATCH, "", b'{"model":"m","vectors":' + b"[" * 200_000),
    Bad("JSON, but a list", InvalidReason.SCHEMA_MISMATCH, "", b"[1, 2, 3]"),
    Bad("no model", InvalidReason.SCHEMA_MISMATCH, "model", with_fields(model=None)),
    Bad("no vectors", InvalidReason.SCHEMA_MISMATCH, "vectors", with_fields(vectors=None)),
    Bad("empty vectors", InvalidReason.SCHEMA_MISMATCH, "vectors", with_fields(vectors=[])),
    Bad("unknown field", InvalidReason.SCHEMA_MISMATCH, "vektors", with_fields(vektors=[])),
    Bad("unknown field of an item", InvalidReason.SCHEMA_MISMATCH, "ident", with_fields(items=[{"ident": "x"}] * 3)),
    Bad("number as text", InvalidReason.SCHEMA_MISMATCH, "vectors", with_fields(vectors=[["1", "2"]])),
    Bad("time of an item", InvalidReason.SCHEMA_MISMATCH, "items[1].time", with_fields(items=[{}, {"time": "x"}, {}])),
    Bad("NaN in JSON", InvalidReason.NON_FINITE_VECTOR, "NaN", as_json(spoilt(float("nan")))),
    Bad("Infinity in JSON", InvalidReason.NON_FINITE_VECTOR, "infinite", as_json(spoilt(float("inf")))),
    Bad("1e999 in JSON", InvalidReason.NON_FINITE_VECTOR, "", b'{"model": "numbers@1", "vectors": [[1e999, 1]]}'),
    Bad("beyond float32", InvalidReason.NON_FINITE_VECTOR, "", b'{"model": "numbers@1", "vectors": [[1e300, 1]]}'),
    Bad("NaN in msgpack", InvalidReason.NON_FINITE_VECTOR, "vector 1", as_msgpack(spoilt(np.nan)), MSGPACK_HEADERS),
    Bad("infinity in msgpack", InvalidReason.NON_FINITE_VECTOR, "1", as_msgpack(spoilt(-np.inf)), MSGPACK_HEADERS),
    Bad("not msgpack", InvalidReason.MALFORMED_PAYLOAD, "msgpack", b"\xc1\xc1", MSGPACK_HEADERS),
    Bad("JSON called msgpack", InvalidReason.SCHEMA_MISMATCH, "", as_json(vectors()), MSGPACK_HEADERS),
    Bad("odd bytes", InvalidReason.SCHEMA_MISMATCH, "vectors.data", msgspec.msgpack.encode(
        {"model": MODEL, "vectors": {"dim": 16, "dtype": "float32", "data": bytes(63)}}), MSGPACK_HEADERS),
    Bad("float64", InvalidReason.SCHEMA_MISMATCH, "float64", msgspec.msgpack.encode(
        {"model": MODEL, "vectors": {"dim": 2, "dtype": "float64", "data": bytes(16)}}), MSGPACK_HEADERS),
    Bad("other dimension", InvalidReason.DIMENSION_MISMATCH, "16", as_json(vectors()[:, :9])),
    Bad("uneven rows", InvalidReason.DIMENSION_MISMATCH, "vector 1", with_fields(vectors=[[1.0, 2.0], [1.0]])),
    Bad("another model", InvalidReason.MODEL_MISMATCH, "others@2", as_json(vectors(), model="others@2")),
    Bad("fewer items", InvalidReason.ITEM_COUNT_MISMATCH, "2 items for 3 vectors", with_fields(items=[{}, {}])),
    Bad("no items", InvalidReason.ITEM_COUNT_MISMATCH, "0 items for 3 vectors", with_fields(items=[])),
    Bad("zero vector", InvalidReason.ZERO_VECTOR, "1", as_json(ZEROS)),
    Bad("no key", InvalidReason.INVALID_KEY, "no key", as_json(vectors()), key=None),
    Bad("key not UTF-8", InvalidReason.INVALID_KEY, "not UTF-8", as_json(vectors()), key=b"\xff"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_VECTORS, ids=lambda bad: bad.name)
def test_bad_vectors(world: Topics, bad: Bad) -> None:
    """A bad record of vectors becomes one dead letter, none of its vectors is decided, its neighbours are."""
    detector = "numbers"  # one for all: what a bad record did to its state would show in the next
    topic = world.names.embeddings
    headers = [*TRACE, *bad.headers]
    good = [unique_name("v/") for _ in range(4)]

    def publish(name: str) -> None:
        world.publish(topic, as_json(vectors(1), [{"id": name}]), detector, (), PARTITION)

    publish(good[0])
    publish(good[1])
    key = detector.encode() if bad.key == b"cam-1" else bad.key
    future = world.publish(topic, bad.value, key, headers, PARTITION)
    publish(good[2])
    publish(good[3])
    place = future.get(30)
    wait_for(lambda: set(good) <= set(world.decided()), "the decisions about the good neighbours")
    check_dead_letter(world, place, Bad(bad.name, bad.reason, bad.says, bad.value, key=key), headers)
    assert place.offset not in {
        batch["embeddings"]["offset"] for batch, _ in world.decisions() if batch["embeddings"]["partition"] == PARTITION
    }


MANY = 8


def picture_text(index: int) -> bytes:
    """Return something that is no picture."""
    return f"no picture {index}".encode()


def test_many_bad_records_in_a_row_stop_the_worker(topics: Topics, start_worker: StartWorker) -> None:
    """Exit 1 with one clear line, nothing of that batch done; with the limit raised, each becomes its dead letter.

    An idle device takes what is there, so bad records may lie in several batches; those before the last one are done.
    """
    topic = topics.names.frames
    places = [topics.publish(topic, picture_text(index), "cam-1") for index in range(MANY)]
    topics.publish(topic, JPEG, "cam-1", [("ce_id", b"good")]).get(30)
    first = start_worker(topics.domain, ready=False, FARPOINT_DEAD_LETTERS__MAX_IN_A_ROW=str(MANY))
    assert first.wait(120) == 1
    assert "8 bad records in a row (unknown_image_format)" in first.last_line
    assert "FARPOINT_DEAD_LETTERS__MAX_IN_A_ROW" in first.last_line
    assert "Traceback" not in first.log
    before = topics.dead_letters(topic)
    assert len(before) < MANY, "the batch that passed the limit is not among them"
    assert max(topics.committed("embed", [topic]).values()) <= len(before)

    start_worker(topics.domain, FARPOINT_DEAD_LETTERS__MAX_IN_A_ROW=str(MANY + 1))
    wait_for(lambda: "good" in topics.decided(), "the picture behind them")
    letters = topics.dead_letters(topic)
    assert {(place.get(1).partition, place.get(1).offset) for place in places} == set(letters)
    assert all(len(found) == 1 for place, found in letters.items() if place not in before)


def test_many_bad_vectors_in_a_row_stop_the_worker(topics: Topics, start_worker: StartWorker) -> None:
    """The detect stage stops likewise, and a restart loses none of the records."""
    topic = topics.names.embeddings
    places = topics.publish_all(topic, [("d", b"no vectors", ())] * MANY)
    worker = start_worker(topics.domain, stages="detect", ready=False, FARPOINT_DEAD_LETTERS__MAX_IN_A_ROW="4")
    assert worker.wait(120) == 1
    assert "4 bad records in a row (malformed_payload)" in worker.last_line
    assert set(topics.committed("detect", [topic]).values()) <= {-1, 0}
    start_worker(topics.domain, stages="detect")
    wait_for(lambda: len(topics.dead_letters(topic)) == MANY, "all dead letters")
    assert {place.offset for place in places} == {offset for _, offset in topics.dead_letters(topic)}
