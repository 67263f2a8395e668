"""The wire: whatever bytes come in, a checked value or an InvalidRecord comes out."""

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farpoint.wire import (
    DLQ_HEADERS,
    EMBEDDINGS_TYPE,
    JSON,
    MSGPACK,
    Item,
    MediaRef,
    NearCluster,
    OutlierAlert,
    RecordRef,
    alert_headers,
    data_url,
    dead_letter_headers,
    derived_id,
    embeddings_headers,
    picture_bytes,
    read_embeddings,
    read_media,
    rfc3339,
    write_embeddings,
    write_json,
)
from farpoint_models.errors import InvalidReason, InvalidRecord

REF = RecordRef("vision.frames.v1", 3, 1042, 1_767_225_600_000)
LOG = RecordRef("vision.embeddings.v1", 1, 7, 1_767_225_601_000)
VALID: dict[str, Any] = {"model": "m@1", "vectors": [[1.0, 2.0], [3.0, 4.0]]}

texts = st.text(st.characters(codec="utf-8"), max_size=40)
headers = st.lists(
    st.tuples(
        st.sampled_from(["content-type", "ce_id", "ce_time", "ce_source", "ce_subject", "ce_frameindex", "ce_", "x"])
        | texts,
        st.binary(max_size=60)
        | st.sampled_from(
            [b"image/jpeg", b"2026-01-01T00:00:00Z", b"7", JSON.encode(), MSGPACK.encode(), b"text/plain"]
        ),
    ),
    max_size=6,
)
refs = st.builds(
    RecordRef, st.just("vision.frames.v1"), st.integers(0, 9), st.integers(0, 2**62), st.integers(-1, 2**63 - 1)
)
keys = st.none() | st.binary(max_size=30)


def json_bytes(**changes: Any) -> bytes:
    """Write a valid EmbeddingBatch with some fields changed; a change to `...` leaves the field out."""
    return json.dumps({name: value for name, value in (VALID | changes).items() if value is not ...}).encode()


def msgpack_bytes(**changes: Any) -> bytes:
    """Write the same in msgpack; `data` and others of the packed vectors may be changed."""
    packed = {"dim": 2, "dtype": "float32", "data": np.arange(4, dtype="<f4").tobytes()}
    packed |= {name: changes.pop(name) for name in list(changes) if name in {"dim", "dtype", "data"}}
    return msgspec.msgpack.encode({"model": "m@1", "vectors": packed} | changes)


def reason_of(read: Any, *arguments: Any) -> InvalidReason:
    """Return why a record is refused; its message must be one harmless line."""
    with pytest.raises(InvalidRecord) as refused:
        read(*arguments)
    message = refused.value.message
    assert message
    assert message.isprintable()
    assert len(message) < 600
    return refused.value.reason


# --- media ----------------------------------------------------------------------------------------------------------


def test_a_bare_picture_is_valid() -> None:
    """Nothing but a value: source unknown, time the record's, id made from its place."""
    record = read_media(REF, None, b"\xff\xd8", [])
    assert (record.source, record.time, record.subject) == ("unknown", "2026-01-01T00:00:00.000Z", None)
    assert record.id == derived_id(REF) == derived_id(RecordRef(REF.topic, REF.partition, REF.offset, 0))
    assert record.data == b"\xff\xd8"


def test_headers_say_more_than_the_record() -> None:
    """CloudEvents headers win, further `ce_*` attributes travel as metadata, others are ignored."""
    record = read_media(
        REF,
        b"cam-1",
        b"x",
        [
            ("content-type", b"image/jpeg; q=1"),
            ("ce_specversion", b"1.0"),
            ("ce_type", b"camera.frame"),
            ("ce_id", b"i"),
            ("ce_source", "gate/ü".encode()),
            ("ce_time", b"2026-01-02T03:04:05.678+02:00"),
            ("ce_subject", b"s"),
            ("ce_frameindex", b"17"),
            ("ce_site", b"north"),
            ("traceparent", b"\xff"),
        ],
    )
    assert (record.id, record.source, record.subject) == ("i", "gate/ü", "s")
    assert record.time == "2026-01-02T03:04:05.678+02:00"
    assert record.metadata == {"site": "north", "frameindex": 17}
    assert record.media == MediaRef(REF.topic, 3, 1042, "image/jpeg; q=1", REF.timestamp)


def test_the_key_is_the_source() -> None:
    """Without a `ce_source` the key names the source."""
    assert read_media(REF, b"cam-1", b"x", []).source == "cam-1"


@pytest.mark.parametrize(
    ("key", "value", "header", "reason"),
    [
        (None, None, None, "empty_value"),
        (None, b"", None, "empty_value"),
        (b"\xff\xfe", b"x", None, "invalid_key"),
        (b"k" * 1025, b"x", None, "invalid_key"),
        (None, b"x", ("content-type", b"text/plain"), "unsupported_content_type"),
        (None, b"x", ("content-type", b"image/gif"), "unsupported_content_type"),
        (None, b"x", ("content-type", b"\xff"), "invalid_header"),
        (None, b"x", ("ce_time", b"yesterday"), "invalid_header"),
        (None, b"x", ("ce_time", b""), "invalid_header"),
        (None, b"x", ("ce_time", b"2026-01-01"), "invalid_header"),
        (None, b"x", ("ce_time", b"2026-01-01T00:00:00"), "invalid_header"),
        (None, b"x", ("ce_time", b"2026-02-30T00:00:00Z"), "invalid_header"),
        (None, b"x", ("ce_time", b"20260101T000000+0000"), "invalid_header"),
        (None, b"x", ("ce_time", b"2026-W01-1T00:00:00Z"), "invalid_header"),
        (None, b"x", ("ce_time", b"2026-01-01T00:00:00." + b"0" * 5000 + b"Z"), "invalid_header"),
        (None, b"x", ("ce_id", b"\xff"), "invalid_header"),
        (None, b"x", ("ce_id", b"i" * 1025), "invalid_header"),
        (None, b"x", ("ce_source", b"s" * 1025), "invalid_header"),
        (None, b"x", ("ce_subject", b"s" * 4097), "invalid_header"),
        (None, b"x", ("ce_frameindex", b"-1"), "invalid_header"),
        (None, b"x", ("ce_frameindex", "٣".encode()), "invalid_header"),
        (None, b"x", ("ce_frameindex", b"9" * 19), "invalid_header"),
        (None, b"x", ("ce_site", b"\xff"), "invalid_header"),
        (None, b"x", ("ce_site", b"s" * 5000), "invalid_header"),
        (None, b"x", ("ce_" + "s" * 1025, b""), "invalid_header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes themselves would be ids of 100 kB
)
def test_bad_media_has_a_precise_reason(
    key: bytes | None, value: bytes | None, header: tuple[str, bytes] | None, reason: str
) -> None:
    """Each thing that can be wrong with a media record has its own reason."""
    assert reason_of(read_media, REF, key, value, [header] if header else []) == reason


def test_too_many_attributes_are_refused() -> None:
    """Attributes travel with every decision, so their number and their bytes together are bounded."""
    many = [(f"ce_a{index}", b"x") for index in range(64)]
    assert reason_of(read_media, REF, None, b"x", many) == "invalid_header"
    assert len(read_media(REF, None, b"x", many[:63]).metadata) == 63
    long = [(f"ce_a{index}", b"x" * 3000) for index in range(3)]
    assert reason_of(read_media, REF, None, b"x", long) == "invalid_header"


def test_hostile_text_in_a_message_is_escaped() -> None:
    """A message is read in terminals: no control character gets into it."""
    assert reason_of(read_media, REF, None, b"x", [("ce_time", b"\x1b[2J\n")]) == "invalid_header"
    assert reason_of(read_media, REF, None, b"x", [("content-type", "\u202eabc".encode())])
    assert reason_of(read_media, REF, b"\x1b[2J\xff", b"x", [])


@given(refs, keys, st.none() | st.binary(max_size=30), headers)
def test_any_media_record_is_read_or_refused(
    ref: RecordRef, key: bytes | None, value: bytes | None, fields: list[tuple[str, bytes]]
) -> None:
    """Nothing but InvalidRecord, and what the embed stage makes of a good one is never refused downstream."""
    try:
        media = read_media(ref, key, value, fields)
    except InvalidRecord:
        return
    item = Item(media.id, media.source, media.time, media.subject, media.media, metadata=media.metadata)
    written = write_embeddings("m@1", np.ones((1, 2), np.float32), [item])
    record = read_embeddings(LOG, b"shared", written, embeddings_headers("shared"))
    assert record.items == [item]
    assert record.from_media


# --- embeddings -----------------------------------------------------------------------------------------------------


def test_json_by_hand() -> None:
    """The least a person can write: id, source and time come from the record."""
    record = read_embeddings(LOG, b"netflows", json_bytes(), [])
    assert record.vectors.dtype == np.float32
    assert record.vectors.tolist() == [[1, 2], [3, 4]]
    assert (record.detector, record.model, record.from_media) == ("netflows", "m@1", False)
    assert [item.id for item in record.items] == [derived_id(LOG, 0), derived_id(LOG, 1)]
    assert {(item.source, item.time) for item in record.items} == {("netflows", "2026-01-01T00:00:01.000Z")}


def test_json_and_msgpack_say_the_same() -> None:
    """Items with every field come out the same in both formats."""
    item = {
        "id": "a",
        "source": "cam-1",
        "time": "2026-01-01T00:00:00.000Z",
        "subject": None,
        "media": {"topic": "vision.frames.v1", "partition": 3, "offset": 1042, "content_type": "image/jpeg"},
        "region": [0, 1, 2.5, 3],
        "metadata": {"any": "flat", "map": 1, "of": None, "values": True},
    }
    by_hand = read_embeddings(
        LOG,
        b"d",
        json_bytes(vectors=[[1, 2]], items=[item | {"thumbnail": base64.b64encode(b"jpeg").decode()}]),
        [("content-type", b"application/json; charset=utf-8")],
    )
    data = np.array([[1, 2]], "<f4").tobytes()
    packed = read_embeddings(
        LOG, b"d", msgpack_bytes(data=data, items=[item | {"thumbnail": b"jpeg"}]), [("content-type", MSGPACK.encode())]
    )
    assert by_hand.items == packed.items
    assert packed.items[0].thumbnail == b"jpeg"
    assert (by_hand.vectors == packed.vectors).all()


def test_half_precision_is_read() -> None:
    """float16 vectors become float32."""
    value = msgpack_bytes(dtype="float16", data=np.array([0.5, 1.5], "<f2").tobytes())
    record = read_embeddings(LOG, b"d", value, [("content-type", MSGPACK.encode())])
    assert (record.vectors.dtype, record.vectors.tolist()) == (np.dtype(np.float32), [[0.5, 1.5]])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty_value"),
        (b"not json", "malformed_payload"),
        (b"\xff\xfe", "malformed_payload"),
        (json_bytes()[:-1], "malformed_payload"),
        (b'{"model": "\\ud800", "vectors": [[1]]}', "malformed_payload"),
        (b"[" * 100_000, "schema_mismatch"),
        (b'{"model": "m@1", "vectors": ' + b"[" * 100_000, "schema_mismatch"),
        (b"[]", "schema_mismatch"),
        (json_bytes(model=...), "schema_mismatch"),
        (json_bytes(vectors=...), "schema_mismatch"),
        (json_bytes(model=""), "schema_mismatch"),
        (json_bytes(extra=1), "schema_mismatch"),
        (json_bytes(vectors=[]), "schema_mismatch"),
        (json_bytes(vectors=[[]]), "schema_mismatch"),
        (json_bytes(vectors=[["1"]]), "schema_mismatch"),
        (json_bytes(vectors=[[1]] * 8193), "schema_mismatch"),
        (json_bytes(items=[{"unknown": 1}, {}]), "schema_mismatch"),
        (json_bytes(items=[{"id": ""}, {}]), "schema_mismatch"),
        (json_bytes(items=[{"time": "yesterday"}, {}]), "schema_mismatch"),
        (json_bytes(items=[{"thumbnail": "no base64!"}, {}]), "schema_mismatch"),
        (json_bytes(items=[{"metadata": {"deep": {}}}, {}]), "schema_mismatch"),
        (json_bytes(items=[{"region": [0, 1, 2]}, {}]), "schema_mismatch"),
        (json_bytes(items=[{"subject": "s" * 4097}, {}]), "schema_mismatch"),
        (json_bytes(items=[{}]), "item_count_mismatch"),
        (json_bytes(items=[]), "item_count_mismatch"),
        (json_bytes(vectors=[[1, 2], [3]]), "dimension_mismatch"),
        (json_bytes(vectors=[[1, float("nan")]]), "non_finite_vector"),
        (json_bytes(vectors=[[1, float("-inf")]]), "non_finite_vector"),
        (b'{"model": "m@1", "vectors": [[1e999]]}', "non_finite_vector"),
        (json_bytes(vectors=[[1e39]]), "non_finite_vector"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes themselves would be ids of 100 kB
)
def test_bad_json_has_a_precise_reason(value: bytes, reason: str) -> None:
    """Each thing that can be wrong with a hand-written batch has its own reason."""
    assert reason_of(read_embeddings, LOG, b"d", value, []) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xc1", "malformed_payload"),
        (msgpack_bytes()[:-1], "malformed_payload"),
        (msgpack_bytes(model=b"m"), "schema_mismatch"),
        (msgpack_bytes(vectors=[[1.0]]), "schema_mismatch"),
        (msgpack_bytes(dtype="float64"), "schema_mismatch"),
        (msgpack_bytes(dim=0), "schema_mismatch"),
        (msgpack_bytes(dim=2**60), "schema_mismatch"),
        (msgpack_bytes(data=b""), "schema_mismatch"),
        (msgpack_bytes(data=b"123"), "schema_mismatch"),
        (msgpack_bytes(dim=1, data=bytes(4 * 8193)), "schema_mismatch"),
        (msgpack_bytes(data=np.array([1, np.nan], "<f4").tobytes()), "non_finite_vector"),
        (msgpack_bytes(dtype="float16", data=np.array([1, np.inf], "<f2").tobytes()), "non_finite_vector"),
        (msgpack_bytes(items=[{"metadata": {"a": float("nan")}}, {}]), "schema_mismatch"),
        (msgpack_bytes(items=[{"region": [0.0, 0.0, float("inf"), 1.0]}, {}]), "schema_mismatch"),
        (msgpack_bytes(items=[{"thumbnail": bytes(600_000)}, {}]), "schema_mismatch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes themselves would be ids of 100 kB
)
def test_bad_msgpack_has_a_precise_reason(value: bytes, reason: str) -> None:
    """Each thing that can be wrong with a packed batch has its own reason."""
    assert reason_of(read_embeddings, LOG, b"d", value, [("content-type", MSGPACK.encode())]) == reason


@pytest.mark.parametrize(
    ("key", "fields", "reason"),
    [
        (None, [], "invalid_key"),
        (b"", [], "invalid_key"),
        (b"\xff", [], "invalid_key"),
        (b"d", [("content-type", b"text/csv")], "unsupported_content_type"),
        (b"d", [("content-type", b"")], "unsupported_content_type"),
        (b"d", [("content-type", b"\xff")], "invalid_header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes themselves would be ids of 100 kB
)
def test_bad_key_or_content_type_has_a_precise_reason(
    key: bytes | None, fields: list[tuple[str, bytes]], reason: str
) -> None:
    """The key names the detector, so it must be there; the content type must be one of the two."""
    assert reason_of(read_embeddings, LOG, key, json_bytes(), fields) == reason


def _mutated(value: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, len(value) - 1)
    return st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4).map(
        lambda changes: bytes(dict(changes).get(index, byte) for index, byte in enumerate(value))
    )


_WHOLE = [{"id": "a", "time": "2026-01-01T00:00:00Z", "region": [0, 0, 1, 1], "metadata": {"a": 1.5}}, {}]


@given(
    refs,
    keys,
    st.binary(max_size=60) | _mutated(json_bytes(items=_WHOLE)) | _mutated(msgpack_bytes(items=_WHOLE)),
    st.sampled_from([JSON.encode(), MSGPACK.encode()]),
    headers,
)
def test_any_embeddings_record_is_read_or_refused(
    ref: RecordRef, key: bytes | None, value: bytes, content_type: bytes, fields: list[tuple[str, bytes]]
) -> None:
    """Nothing but InvalidRecord, and what is read is finite, complete and can be written again."""
    try:
        record = read_embeddings(ref, key, value, [("content-type", content_type), *fields])
    except InvalidRecord:
        return
    assert np.isfinite(record.vectors).all()
    assert len(record.items) == len(record.vectors)
    assert all(item.id and item.source and item.time for item in record.items)
    for item in record.items:
        json.loads(msgspec.json.encode(item), parse_constant=pytest.fail)


# --- what goes out --------------------------------------------------------------------------------------------------


def an_alert(**changes: Any) -> OutlierAlert:
    """Make an alert."""
    fields: dict[str, Any] = {
        "id": "a",
        "detector": "shared",
        "source": "cam-1",
        "time": "2026-01-01T00:00:00.000Z",
        "detected_at": "2026-01-01T00:00:01.000Z",
        "subject": None,
        "media": MediaRef("vision.frames.v1", 3, 1042, "image/jpeg"),
        "region": None,
        "outlier_score": 0.97,
        "p_value": 0.0002,
        "threshold": 0.95,
        "nearest_clusters": [NearCluster(17, 0.61, 4021)],
        "thumbnail": data_url(b"jpeg"),
        "model": "m@1",
        "metadata": {},
    }
    return OutlierAlert(**fields | changes)


def test_an_alert_is_a_cloud_event() -> None:
    """Its headers are the contract's, its body has all fields, its picture comes back as it was."""
    alert = an_alert(source="tür")
    fields = dict(alert_headers(alert))
    assert fields["ce_type"] == b"farpoint.outlier.v1"
    assert fields["content-type"] == b"application/json"
    assert (fields["ce_id"], fields["ce_source"], fields["ce_time"]) == (b"a", "tür".encode(), alert.time.encode())
    body = json.loads(write_json(alert))
    assert body["nearest_clusters"] == [{"cluster_id": 17, "distance": 0.61, "size": 4021}]
    assert picture_bytes(body["thumbnail"]) == b"jpeg"
    assert msgspec.json.decode(write_json(alert), type=OutlierAlert) == alert


def test_a_dead_letter_keeps_the_original_headers() -> None:
    """The original headers come first and unchanged; a letter that failed again carries one set of ours."""
    error = InvalidRecord(InvalidReason.CORRUPT_IMAGE, "cut short")
    once = dead_letter_headers(REF, [("a", b"1"), ("a", b"2")], error, "2026-01-01T00:00:00.000Z")
    assert once[:2] == [("a", b"1"), ("a", b"2")]
    assert tuple(name for name, _ in once[2:]) == DLQ_HEADERS
    again = dead_letter_headers(LOG, once, error, "2026-01-01T00:00:00.000Z")
    assert [name for name, _ in again].count("dlq.topic") == 1
    assert dict(again)["dlq.topic"] == b"vision.embeddings.v1"
    assert dict(again)["dlq.reason"] == b"corrupt_image"


def test_ids_differ_by_place_and_index() -> None:
    """No two records or vectors share an id."""
    places = [RecordRef("t", partition, offset, 0) for partition in range(3) for offset in range(3)]
    ids = [derived_id(ref, *index) for ref in places for index in ((), (0,), (1,))]
    assert len(set(ids)) == len(ids)


def test_farpoints_own_batches_are_marked() -> None:
    """The embed stage's header tells its batches from others'."""
    assert dict(embeddings_headers("shared"))["ce_type"] == EMBEDDINGS_TYPE.encode()


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_timestamp_can_be_written(milliseconds: int) -> None:
    """Whoever publishes sets the timestamp; every one becomes a time that reads back."""
    written = rfc3339(milliseconds)
    record = read_media(RecordRef("t", 0, 0, milliseconds), None, b"x", [("ce_time", written.encode())])
    assert record.time == written
