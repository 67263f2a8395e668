"""Pictures through the real worker: bare ones, ones with all headers, many sources on many partitions."""

import base64
import io
import json
import uuid
from collections import Counter, defaultdict
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from tests.integration.worker_process import Headers, StartWorker, Topics, unique_name, wait_for
from tests.pictures import encode, jpeg, stranger

from farpoint.wire import EmbeddingBatchMsgpack

MODEL = "efficientnet-lite0@1"


@pytest.fixture(scope="module")
def world(shared_topics: Topics, start_shared_worker: StartWorker) -> Topics:
    """Run a worker with the default settings, one detector for all."""
    start_shared_worker(shared_topics.domain)
    return shared_topics


def is_decided(world: Topics, name: str) -> bool:
    """Return whether an item is decided."""
    return name in world.decided()


def test_a_bare_jpeg_is_enough(world: Topics) -> None:
    """No key, no headers: source `unknown`, id and time from the record, an assignment, no dead letter."""
    data = jpeg(np.random.default_rng(1))
    for topic in (world.names.images, world.names.frames):
        (at,) = world.publish_all(topic, [(None, data, ())])
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{topic}/{at.partition}/{at.offset}"))
        wait_for(partial(is_decided, world, name), "the decision about a bare JPEG")
        item = world.decided()[name]
        assert item["source"] == "unknown"
        assert item["media"]["topic"] == topic
        assert (item["media"]["partition"], item["media"]["offset"]) == (at.partition, at.offset)
        assert item["media"]["content_type"] is None
        assert item["time"].startswith("20")
        assert item["time"].endswith("Z")
        assert item["subject"] is None
        assert item["state"] == "warming_up"
        assert not world.dead_letters(topic)


def test_a_key_is_the_source(world: Topics) -> None:
    """A bare JPEG with a key has that as its source."""
    (at,) = world.publish_all(world.names.images, [("scanner-ä", jpeg(np.random.default_rng(2)), ())])
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{world.names.images}/{at.partition}/{at.offset}"))
    wait_for(lambda: name in world.decided(), "the decision")
    assert world.decided()[name]["source"] == "scanner-ä"


def test_the_embeddings_record_is_as_the_contract_says(world: Topics) -> None:
    """Msgpack with the contract's fields: one space, 1280 numbers each, small thumbnails, well under 1 MB."""
    rng = np.random.default_rng(3)
    ids = [f"wanted/{number}" for number in range(80)]
    world.publish_all(
        world.names.frames,
        [("cam-thumb", jpeg(rng), [("ce_id", name.encode()), ("content-type", b"image/jpeg")]) for name in ids],
    )
    wait_for(lambda: set(ids) <= set(world.decided()), "80 decisions")
    found = []
    for record in world.embeddings():
        headers = dict(record.headers)
        assert headers["content-type"] == b"application/msgpack"
        assert record.key == b"shared"
        assert len(record.value) < 600_000
        plain = msgspec.msgpack.decode(record.value)
        assert set(plain) == {"model", "vectors", "items"}
        assert plain["model"] == MODEL
        assert set(plain["vectors"]) == {"dim", "dtype", "data"}
        assert (plain["vectors"]["dim"], plain["vectors"]["dtype"]) == (1280, "float32")
        vectors = np.frombuffer(plain["vectors"]["data"], "<f4").reshape(-1, 1280)
        assert len(vectors) == len(plain["items"])
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0).all()
        for item in plain["items"]:
            thumbnail = Image.open(io.BytesIO(item["thumbnail"]))
            assert thumbnail.format == "JPEG"
            assert max(thumbnail.size) <= 160
            found.append(item["id"])
    assert set(ids) <= set(found)
    batches = [
        len(msgspec.msgpack.decode(record.value, type=EmbeddingBatchMsgpack).items or ())
        for record in world.embeddings()
    ]
    assert max(batches) > 1, "frames travel many to a record"


def test_three_sources_on_eight_partitions_stay_in_order(world: Topics) -> None:
    """Frames of each source are embedded and decided in the order in which they were published, images among them."""
    rng = np.random.default_rng(4)
    sources = ["order-a", "order-b", "order-c"]
    records: list[tuple[str | bytes | None, bytes | None, Headers]] = [
        (source, jpeg(rng), [("ce_id", f"{source}/{index}".encode())]) for index in range(40) for source in sources
    ]
    places = world.publish_all(world.names.frames, records)
    lone = [("lone", jpeg(rng), [("ce_id", f"lone/{index}".encode())]) for index in range(16)]
    world.publish_all(world.names.images, [(None, data, headers) for _, data, headers in lone])
    wanted = {f"{source}/{index}" for index in range(40) for source in sources} | {f"lone/{i}" for i in range(16)}
    wait_for(lambda: wanted <= set(world.decided()), "all decisions")
    assert len({place.partition for place in places}) > 1, "sources that share a partition prove nothing"

    order: dict[str, list[int]] = defaultdict(list)
    for _, item in world.decisions():
        if item["id"] in wanted:
            source, _, index = item["id"].rpartition("/")
            order[source].append(int(index))
    assert all(order[source] == list(range(40)) for source in sources)
    assert sorted(order["lone"]) == list(range(16))
    assert Counter(item["id"] for _, item in world.decisions()).most_common(1)[0][1] == 1


@pytest.fixture(scope="module")
def per_source(kafka: str, start_shared_worker: StartWorker) -> Any:
    """Run a worker with a detector for each source, soon warm."""
    made = Topics(kafka, unique_name("s"))
    start_shared_worker(made.domain, FARPOINT_DETECTOR__SCOPE="source", FARPOINT_DETECTOR__WARM_UP="48")
    yield made
    made.close()


def test_what_the_headers_say_travels_to_the_alert(per_source: Topics) -> None:
    """CloudEvents attributes, own ones among them, come out in assignment and alert, beside the picture."""
    rng = np.random.default_rng(5)

    def headers(index: int) -> Headers:
        return [
            ("content-type", b"image/jpeg"),
            ("ce_specversion", b"1.0"),
            ("ce_type", b"com.example.frame"),
            ("ce_id", f"frame-{index}".encode()),
            ("ce_source", b"hall/cam-7"),
            ("ce_time", b"2026-01-01T00:00:00.250+01:00"),
            ("ce_subject", "Halle Süd".encode()),
            ("ce_frameindex", str(index).encode()),
            ("ce_lens", b"wide"),
            ("x-trace", b"\xff ignored"),
        ]

    names = per_source.names
    pictures = [jpeg(rng) for _ in range(96)] + [encode(stranger(rng))]
    places = per_source.publish_all(
        names.frames, [("cam-7", data, headers(index)) for index, data in enumerate(pictures)]
    )
    wait_for(lambda: "frame-96" in per_source.decided(), "the decision about the last frame")
    item = per_source.decided()["frame-96"]
    assert item["source"] == "hall/cam-7"
    assert item["time"] == "2026-01-01T00:00:00.250+01:00"
    assert item["subject"] == "Halle Süd"
    assert item["media"]["content_type"] == "image/jpeg"
    assert item["state"] == "scored"
    assert item["is_outlier"]

    wait_for(lambda: "frame-96" in per_source.alerts(), "the alert")
    record = per_source.alerts()["frame-96"]
    alert = json.loads(record.value)
    assert record.key == b"hall/cam-7"
    assert alert["metadata"] == {"lens": "wide", "frameindex": 96}
    assert (alert["subject"], alert["time"]) == (item["subject"], item["time"])
    assert alert["detector"] == "hall/cam-7"
    assert alert["model"] == MODEL
    assert alert["media"]["offset"] == places[-1].offset
    kind, _, data = alert["thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    thumbnail = Image.open(io.BytesIO(base64.b64decode(data)))
    assert thumbnail.size == (160, 120)
    # The picture is that of the stranger, not of a neighbour in its batch.
    shown = np.asarray(thumbnail.resize((16, 12), Image.Resampling.BOX)).astype(int)
    meant = np.asarray(Image.open(io.BytesIO(pictures[-1])).resize((16, 12), Image.Resampling.BOX)).astype(int)
    assert np.abs(shown - meant).mean() < 12


def test_scope_source_gives_each_source_its_detector(per_source: Topics) -> None:
    """With FARPOINT_DETECTOR__SCOPE=source vectors of different sources are never decided by one detector."""
    rng = np.random.default_rng(6)
    sources = ["own-a", "own-b", "own-c"]
    wanted = {f"{source}#{index}" for index in range(5) for source in sources}
    per_source.publish_all(
        per_source.names.frames,
        [(source, jpeg(rng), [("ce_id", f"{source}#{index}".encode())]) for index in range(5) for source in sources],
    )
    wait_for(lambda: wanted <= set(per_source.decided()), "all decisions")
    for batch, item in per_source.decisions():
        assert item["source"] == batch["detector"]
    for record in per_source.embeddings():
        items = msgspec.msgpack.decode(record.value)["items"]
        assert {item["source"] for item in items} == {record.key.decode()}
