"""The embed stage without a broker: a small embedder, and a delivery that only writes down."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.pictures import encode, jpeg, scene, stranger
from tests.unit.service.stage_kit import MOMENT, NAMES, NotedDelivery, parts, record, until

from farpoint.embed_stage import EmbedStage, decode_frame, embedding_records
from farpoint.errors import FarpointError
from farpoint.records import DeadLetter, IncomingRecord, OutgoingRecord
from farpoint.wire import EmbeddingBatchMsgpack, EmbeddingRecord, Item, read_embeddings
from farpoint_models.embedder import DummyEmbedder, Embedder, Embeddings
from farpoint_models.images import ImageBatch

RNG = np.random.default_rng(1)
JPEG = jpeg(RNG)


def frame(offset: int, value: bytes = JPEG, source: str = "cam", partition: int = 0) -> IncomingRecord:
    """Return a frame as it comes from Kafka."""
    headers = [("ce_id", f"{source}/{offset}".encode())]
    return record(NAMES.frames, offset, value, source.encode(), headers, partition)


@asynccontextmanager
async def running(embedder: Embedder | None = None, **settings: Any) -> AsyncIterator[tuple[EmbedStage, NotedDelivery]]:
    """Run a stage for as long as the context lasts."""
    chosen, delivery, metrics, clock = parts(**settings)
    stage = EmbedStage(embedder or DummyEmbedder(), 2, chosen, delivery, metrics, clock)
    delivery.stage = stage
    task = asyncio.create_task(stage.run())
    try:
        yield stage, delivery
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def as_read(outgoing: OutgoingRecord) -> EmbeddingRecord:
    """Read back what the stage wrote, as the detect stage will."""
    incoming = record(outgoing.topic, 0, outgoing.value, outgoing.key, outgoing.headers)
    return read_embeddings(incoming.ref, incoming.key, incoming.value, incoming.headers)


def ids(records: list[OutgoingRecord]) -> list[str | None]:
    """Return the ids of all vectors in these records."""
    return [item.id for outgoing in records for item in as_read(outgoing).items]


async def test_pictures_become_vectors() -> None:
    """Each picture's vector is its own, and its provenance travels beside it."""
    pictures = [encode(stranger(RNG)) for _ in range(5)]
    async with running() as (stage, delivery):
        for offset, picture in enumerate(pictures):
            await stage.put(frame(offset, picture))
        await asyncio.wait_for(stage.flush(), 30)
        (outgoing,) = delivery.to(NAMES.embeddings)
        read = as_read(outgoing)
        assert (outgoing.key, read.detector, read.model, read.from_media) == (
            b"shared", "shared", stage.embedder.model_id, True,
        )  # fmt: skip
        for offset, (picture, vector, item) in enumerate(zip(pictures, read.vectors, read.items, strict=True)):
            alone = decode_frame(frame(offset, picture), stage.embedder.card, 10**8)
            assert not isinstance(alone, DeadLetter)
            assert np.array_equal(stage.embedder.embed(alone.inputs[np.newaxis])[0], vector)
            assert (item.id, item.source) == (f"cam/{offset}", "cam")
            assert item.media is not None
            assert (item.media.topic, item.media.offset, item.media.timestamp) == (
                NAMES.frames, offset, MOMENT + offset,
            )  # fmt: skip
            assert item.thumbnail == alone.thumbnail
        assert stage.done == stage.delivered == {(NAMES.frames, 0): 5}


async def test_order_is_kept_over_batches() -> None:
    """Frames leave in the order in which they came, however slow one of them is to decode."""
    big = encode(scene(RNG).resize((2400, 1800)))
    async with running() as (stage, delivery):
        for offset in range(100):
            await stage.put(frame(offset, big if offset % 10 == 0 else JPEG, source=f"cam-{offset % 3}"))
        await asyncio.wait_for(stage.flush(), 60)
        assert ids(delivery.to(NAMES.embeddings)) == [f"cam-{offset % 3}/{offset}" for offset in range(100)]


async def test_each_source_has_its_records_where_asked() -> None:
    """With scope `source` a batch becomes one record for each source, its key; none mixes two."""
    async with running(detector={"scope": "source"}) as (stage, delivery):
        for offset in range(12):
            await stage.put(frame(offset, source=f"cam-{offset % 3}"))
        await asyncio.wait_for(stage.flush(), 30)
        for outgoing in delivery.to(NAMES.embeddings):
            assert {item.source for item in as_read(outgoing).items} == {(outgoing.key or b"").decode()}
        assert sorted(str(name) for name in ids(delivery.sent)) == sorted(f"cam-{n % 3}/{n}" for n in range(12))


async def test_bad_pictures_cost_themselves_alone() -> None:
    """A batch of good and bad: a dead letter each for the bad, vectors of the others in order, all of it done."""
    values = [JPEG, b"", JPEG, b"text", JPEG[:900], JPEG]
    async with running() as (stage, delivery):
        for offset, value in enumerate(values):
            await stage.put(frame(offset, value))
        await asyncio.wait_for(stage.flush(), 30)
        letters = delivery.to(f"{NAMES.frames}.dlq")
        assert [(dict(letter.headers)["dlq.offset"], dict(letter.headers)["dlq.reason"]) for letter in letters] == [
            (b"1", b"empty_value"),
            (b"3", b"unknown_image_format"),
            (b"4", b"corrupt_image"),
        ]
        assert [letter.value for letter in letters] == [values[1], values[3], values[4]]
        assert ids(delivery.to(NAMES.embeddings)) == ["cam/0", "cam/2", "cam/5"]
        assert stage.done == {(NAMES.frames, 0): 6}


async def test_a_batch_of_bad_pictures_alone_is_done_too() -> None:
    """Where nothing is left to embed nothing is sent, and the batch is done."""
    async with running() as (stage, delivery):
        await stage.put(frame(0, b"text"))
        await asyncio.wait_for(stage.flush(), 30)
        assert not delivery.to(NAMES.embeddings)
        assert stage.done == {(NAMES.frames, 0): 1}


async def test_nothing_is_done_before_it_is_delivered() -> None:
    """Neither vectors nor dead letters of a batch are done while they are on their way."""
    async with running() as (stage, delivery):
        await stage.put(frame(0))
        await stage.put(frame(1, b"text"))
        await asyncio.wait_for(stage.flush(), 30)
        assert len(delivery.sent) == 2
        assert delivery.done_before == [{}, {}]
        assert stage.done == {(NAMES.frames, 0): 2}


async def test_many_bad_pictures_end_the_stage() -> None:
    """Over the limit the stage fails, nothing of that batch delivered or done."""
    chosen, delivery, metrics, clock = parts(dead_letters={"max_in_a_row": 3})
    stage = EmbedStage(DummyEmbedder(), 2, chosen, delivery, metrics, clock)
    for offset in range(3):
        await stage.put(frame(offset, b"text"))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(stage.run(), 30)
    assert caught.group_contains(FarpointError, match="3 bad records in a row")
    assert not delivery.sent
    assert not stage.done


class BrokenEmbedder(DummyEmbedder):
    """An embedder whose device fails."""

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Fail."""
        del batch
        raise RuntimeError("the device is gone")


async def test_a_failing_device_ends_the_stage() -> None:
    """What is not the record's fault makes no dead letter: the stage fails, nothing is done."""
    chosen, delivery, metrics, clock = parts()
    stage = EmbedStage(BrokenEmbedder(), 2, chosen, delivery, metrics, clock)
    await stage.put(frame(0))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(stage.run(), 30)
    assert caught.group_contains(RuntimeError, match="the device is gone")
    assert not delivery.sent
    assert not stage.done


@pytest.mark.parametrize("dimension", [8, 1280, 4096])
def test_records_stay_well_under_a_megabyte(dimension: int) -> None:
    """Many frames with thumbnails are cut into records of at most 512 kB or so, none lost, in order."""
    embedder = DummyEmbedder()
    one = decode_frame(frame(0, encode(stranger(RNG).resize((160, 120)))), embedder.card, 10**8)
    assert not isinstance(one, DeadLetter)
    frames = [one] * 300
    vectors = np.arange(300 * dimension, dtype=np.float32).reshape(300, dimension)
    records = embedding_records(frames, vectors, "m@1", NAMES.embeddings, per_source=False)
    assert all(len(outgoing.value or b"") <= 512 * 1024 for outgoing in records)
    read = [as_read(outgoing) for outgoing in records]
    assert np.array_equal(np.concatenate([part.vectors for part in read]), vectors)
    assert sum(len(outgoing.value or b"") for outgoing in records) / len(records) > 200_000, "few records, not many"
    batch = msgspec.msgpack.decode(records[0].value or b"", type=EmbeddingBatchMsgpack)
    assert batch.items is not None
    assert isinstance(batch.items[0], Item)


async def test_metrics_count_batches() -> None:
    """Frames, batches and records received are counted, by topic where they have one."""
    async with running() as (stage, _):
        for offset in range(3):
            await stage.put(frame(offset))
        await asyncio.wait_for(stage.flush(), 30)
        value = stage.metrics.registry.get_sample_value
        assert value("farpoint_records_received_total", {"topic": NAMES.frames}) == 3
        assert value("farpoint_frames_embedded_total", {"topic": NAMES.frames}) == 3
        assert value("farpoint_batch_frames_sum") == 3
        assert (value("farpoint_decode_seconds_count") or 0) >= 1
        assert value("farpoint_inference_seconds_count") == value("farpoint_batch_frames_count")
        assert value("farpoint_record_processed_timestamp_seconds") == stage.clock()


async def test_memory_does_not_grow_with_what_waits() -> None:
    """While the device is busy the stage takes in a few batches, then makes whoever feeds it wait."""
    release = threading.Event()

    class Waiting(DummyEmbedder):
        def embed(self, batch: ImageBatch) -> Embeddings:
            release.wait(30)
            return super().embed(batch)

    async with running(Waiting()) as (stage, _):
        taken = 0

        async def feed() -> None:
            nonlocal taken
            for offset in range(2000):
                await stage.put(frame(offset))
                taken += 1

        feeding = asyncio.create_task(feed())
        batch = stage.max_records
        await until(lambda: taken >= 4 * batch)
        await asyncio.sleep(0.2)
        assert taken <= 6 * batch
        feeding.cancel()
        release.set()
