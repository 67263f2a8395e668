"""Vectors through the real worker, written by hand or by programs, with no picture anywhere."""

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tests.integration.worker_process import Headers, StartWorker, Topics, unique_name, wait_for
from tests.vectors import MODEL, MSGPACK_HEADERS, as_json, as_msgpack, clustered, outlier

SCHEMAS = Path(__file__).parents[2] / "deploy/schemas"
RECORDS = 16
PER_RECORD = 25


@pytest.fixture(scope="module")
def world(shared_topics: Topics, start_shared_worker: StartWorker) -> Topics:
    """Run a worker of the detect stage alone."""
    start_shared_worker(shared_topics.domain, stages="detect")
    return shared_topics


@pytest.fixture
def key() -> str:
    """Return a detector of the test's own."""
    return unique_name("d")


def derived(place: Any, index: int) -> str:
    """Name a vector without an item by the contract's rule."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{place.topic}/{place.partition}/{place.offset}/{index}"))


def validate(record: Any, schema: str) -> Any:
    """Check a record against its published schema and return it decoded."""
    value = json.loads(record.value)
    jsonschema.validate(value, json.loads((SCHEMAS / f"{schema}.schema.json").read_text(encoding="utf-8")))
    return value


def batches_of(world: Topics, key: str) -> list[Any]:
    """Return the assignment records of a detector."""
    return [record for record in world.records(world.names.assignments) if record.key == key.encode()]


def test_json_by_hand_needs_no_header_and_no_items(world: Topics, key: str) -> None:
    """Ids come from the record's place, the source is the key, the time the record's."""
    (place,) = world.publish_all(
        world.names.embeddings, [(key, b'{"model": "hand@1", "vectors": [[1, 0.5], [0, 2]]}', ())]
    )
    wait_for(lambda: batches_of(world, key), "the decisions")
    (record,) = batches_of(world, key)
    batch = validate(record, "assignment-batch")
    assert (record.partition, dict(record.headers)["content-type"]) == (place.partition, b"application/json")
    assert (batch["detector"], batch["model"]) == (key, "hand@1")
    assert batch["embeddings"] == {"topic": place.topic, "partition": place.partition, "offset": place.offset}
    assert [item["id"] for item in batch["items"]] == [derived(place, 0), derived(place, 1)]
    for item in batch["items"]:
        assert item["source"] == key
        assert item["state"] == "warming_up"
        assert item["is_outlier"] is False
        nothing = ("cluster_id", "distance", "outlier_score", "p_value", "media", "subject")
        assert all(item[name] is None for name in nothing)


def test_items_come_back_as_they_were(world: Topics, key: str) -> None:
    """What an item says of itself is in its decision, in JSON as in msgpack, some fields or all."""
    media = {"topic": "elsewhere", "partition": 3, "offset": 1042, "content_type": "image/jpeg"}
    items: list[dict[str, Any]] = [
        {"id": f"{key}/full", "source": "s-1", "time": "2026-01-01T00:00:00Z", "subject": "a cow", "media": media},
        {"subject": None, "media": None, "region": None, "thumbnail": None, "metadata": {}},
    ]
    vectors = clustered(np.random.default_rng(1), 2)
    places = world.publish_all(
        world.names.embeddings,
        [(key, as_json(vectors, items), ()), (key, as_msgpack(vectors, items), MSGPACK_HEADERS)],
    )
    wait_for(lambda: len(batches_of(world, key)) == 2, "both batches")
    for record, place in zip(batches_of(world, key), places, strict=True):
        full, bare = validate(record, "assignment-batch")["items"]
        assert {name: full[name] for name in ("id", "source", "time", "subject")} == {
            name: items[0][name] for name in ("id", "source", "time", "subject")
        }
        assert full["media"] | {"timestamp": None} == media | {"timestamp": None}
        assert (bare["id"], bare["source"]) == (derived(place, 1), key)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_msgpack_without_items(world: Topics, key: str, dtype: str) -> None:
    """Packed numbers of both widths are taken, one decision each."""
    vectors = clustered(np.random.default_rng(2), 7)
    (place,) = world.publish_all(world.names.embeddings, [(key, as_msgpack(vectors, dtype=dtype), MSGPACK_HEADERS)])
    wait_for(lambda: batches_of(world, key), "the decisions")
    batch = validate(batches_of(world, key)[0], "assignment-batch")
    assert [item["id"] for item in batch["items"]] == [derived(place, index) for index in range(7)]


def test_encodings_are_the_same_vectors(world: Topics) -> None:
    """JSON and msgpack of the same numbers mean the same: two detectors warm up alike and see like distances."""
    rng = np.random.default_rng(3)
    chunks = [clustered(rng, 100) for _ in range(4)]
    by_json, by_msgpack = unique_name("j"), unique_name("p")
    plain = [chunk.astype(np.float16).astype(np.float32) for chunk in chunks]  # both can write these exactly
    world.publish_all(world.names.embeddings, [(by_json, as_json(chunk), ()) for chunk in plain])
    world.publish_all(
        world.names.embeddings, [(by_msgpack, as_msgpack(chunk, dtype="float16"), MSGPACK_HEADERS) for chunk in plain]
    )
    wait_for(lambda: len(world.decisions(by_json)) == len(world.decisions(by_msgpack)) == 400, "800 decisions")
    states = [[item["state"] for _, item in world.decisions(name)] for name in (by_json, by_msgpack)]
    assert states[0] == states[1]
    scored = [
        [item["distance"] for _, item in world.decisions(name) if item["state"] == "scored"]
        for name in (by_json, by_msgpack)
    ]
    assert len(scored[0]) == len(scored[1]) >= 100
    # Not equal bit for bit: the seed comes from the detector's id, so the clusters differ.
    assert np.median(scored[0]) == pytest.approx(np.median(scored[1]), rel=0.3)


def publish_stream(world: Topics, key: str, last: list[bytes], headers: Headers = ()) -> list[Any]:
    """Publish 400 clustered vectors, many to a record, and then `last`."""
    rng = np.random.default_rng(4)
    stream = [as_json(clustered(rng, PER_RECORD)) for _ in range(RECORDS)]
    return world.publish_all(world.names.embeddings, [(key, value, headers) for value in [*stream, *last]])


def test_a_record_of_many_vectors_makes_one_record_of_decisions(world: Topics, key: str) -> None:
    """Same key, same partition, same order, first warming up, then scored within the bounds."""
    places = publish_stream(world, key, [])
    wait_for(lambda: len(batches_of(world, key)) >= RECORDS, "all batches")
    records = batches_of(world, key)
    assert len(records) == RECORDS
    batches = [validate(record, "assignment-batch") for record in records]
    assert [batch["embeddings"]["offset"] for batch in batches] == [place.offset for place in places]
    assert {record.partition for record in records} == {places[0].partition}
    assert {len(batch["items"]) for batch in batches} == {PER_RECORD}
    states = [item["state"] for batch in batches for item in batch["items"]]
    warm = states.index("scored")
    assert 0 < warm <= 256 + PER_RECORD
    assert set(states[warm:]) == {"scored"}
    for batch in batches:
        for item in batch["items"]:
            if item["state"] == "scored":
                assert isinstance(item["cluster_id"], int)
                assert item["distance"] >= 0
                assert 0 <= item["outlier_score"] <= 1
                assert 0 <= item["p_value"] <= 1
    flagged = sum(item["is_outlier"] for batch in batches for item in batch["items"])
    assert flagged <= 4, "normal vectors are not outliers"


def test_births_of_clusters_are_events(world: Topics, key: str) -> None:
    """The end of the warm-up announces the clusters, with the ids that decisions then name."""
    places = publish_stream(world, key, [])
    wait_for(lambda: len(world.decisions(key)) == RECORDS * PER_RECORD, "all decisions")
    used = {item["cluster_id"] for _, item in world.decisions(key)} - {None}
    wait_for(lambda: used <= {event["cluster_id"] for event in events_of(world, key)}, "the births")
    events = events_of(world, key)
    assert {event["type"] for event in events} <= {"birth", "death", "merge", "split"}
    assert all(event["detector"] == key for event in events)
    assert len({event["id"] for event in events}) == len(events)
    known = {derived(place, index) for place in places for index in range(PER_RECORD)}
    assert all(set(event["exemplars"]) <= known for event in events)


def events_of(world: Topics, key: str) -> list[Any]:
    """Return the cluster events of a detector, each checked against its schema."""
    return [
        validate(record, "cluster-event")
        for record in world.records(world.names.cluster_events)
        if record.key == key.encode()
    ]


def test_a_blatant_outlier_becomes_an_alert(world: Topics, key: str) -> None:
    """One alert with all the contract's fields and headers, and the item's own words in it."""
    thumbnail = b"\xff\xd8 not really a picture \xff\xd9"
    name = f"{key}/odd"
    item: dict[str, Any] = {
        "id": name,
        "source": "sensor-ß",
        "time": "2026-02-03T04:05:06.700Z",
        "subject": "flow 17",
        "region": [1.0, 2.0, 3.5, 4.0],
        "thumbnail": base64.b64encode(thumbnail).decode(),
        "metadata": {"port": 443, "host": "a", "rate": 0.5, "flag": True, "none": None},
    }
    publish_stream(world, key, [as_json(outlier(), [item])])
    wait_for(lambda: item["id"] in world.alerts(), "the alert")
    record = world.alerts()[f"{key}/odd"]
    alert = validate(record, "outlier-alert")
    assert set(alert) == {
        "id", "detector", "source", "time", "detected_at", "subject", "media", "region", "outlier_score", "p_value",
        "threshold", "nearest_clusters", "thumbnail", "model", "metadata",
    }  # fmt: skip
    assert record.key == "sensor-ß".encode()
    headers = dict(record.headers)
    assert headers["ce_id"] == item["id"].encode()
    assert headers["ce_type"] == b"farpoint.outlier.v1"
    assert headers["ce_time"] == b"2026-02-03T04:05:06.700Z"
    assert headers["ce_source"] == "sensor-ß".encode()
    assert headers["content-type"] == b"application/json"
    for name in ("id", "source", "time", "subject", "region", "metadata"):
        assert alert[name] == item[name]
    assert alert["detector"] == key
    assert alert["model"] == MODEL
    assert alert["media"] is None
    assert alert["thumbnail"] == "data:image/jpeg;base64," + base64.b64encode(thumbnail).decode()
    assert alert["outlier_score"] >= alert["threshold"] > 0
    near = alert["nearest_clusters"]
    assert 1 <= len(near) <= 3
    assert [cluster["distance"] for cluster in near] == sorted(cluster["distance"] for cluster in near)
    assert all(cluster["size"] > 0 for cluster in near)

    decision = world.decided(key)[item["id"]]
    assert decision["is_outlier"] is True
    assert decision["outlier_score"] == alert["outlier_score"]
    assert decision["p_value"] == alert["p_value"] <= 0.01
    assert (decision["cluster_id"], decision["distance"]) == (near[0]["cluster_id"], near[0]["distance"])


def test_detectors_are_independent(world: Topics) -> None:
    """What one detector holds for normal is an outlier to another, and each numbers its clusters for itself."""
    left, right = unique_name("l"), unique_name("r")
    rng = np.random.default_rng(5)
    mirrored = [as_json(clustered(rng, PER_RECORD)[:, ::-1]) for _ in range(RECORDS)]
    probe = [as_json(outlier(), [{"id": unique_name("probe")}])]
    world.publish_all(world.names.embeddings, [(right, value, ()) for value in mirrored])
    publish_stream(world, left, probe)
    world.publish_all(world.names.embeddings, [(right, probe[0], ())])
    both = RECORDS * PER_RECORD + 1
    wait_for(lambda: len(world.decisions(left)) == len(world.decisions(right)) == both, "all decisions")
    assert world.decisions(left)[-1][1]["is_outlier"] is True
    assert world.decisions(right)[-1][1]["is_outlier"] is False
    assert {event["cluster_id"] for event in events_of(world, left)} & {
        event["cluster_id"] for event in events_of(world, right)
    }
