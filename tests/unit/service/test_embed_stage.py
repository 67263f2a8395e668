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

from farpoint import embed_stage
from farpoint.embed_stage import DecodedFrame, EmbedStage, decode_frame, embedding_records
from farpoint.errors import FarpointError
from farpoint.records import DeadLetter, IncomingRecord, OutgoingRecord
from farpoint.wire import EmbeddingBatchMsgpack, EmbeddingRecord, Item, read_embeddings
from farpoint_models.canary import CanaryError
from farpoint_models.embedder import DeviceError, DummyEmbedder, Embedder, Embeddings
from farpoint_models.images import ImageBatch

RNG = np.random.default_rng(1)
JPEG = jpeg(RNG)


def frame(offset: int, value: bytes = JPEG, source: str = "cam", partition: int = 0) -> IncomingRecord:
    """Return a frame as it comes from Kafka."""
    headers = [("ce_id", f"{source}/{offset}".encode())]
    return record(NAMES.frames, offset, value, source.encode(), headers, partition)


@asynccontextmanager
async def running(
    embedder: Embedder | None = None, /, **settings: Any
) -> AsyncIterator[tuple[EmbedStage, NotedDelivery]]:
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


class GatedEmbedder(DummyEmbedder):
    """An embedder that works on a batch until it is let go; notes how large its batches were."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed when let."""
        self.sizes.append(len(batch))
        assert self.gate.acquire(timeout=30)
        return super().embed(batch)


async def test_batches_grow_with_what_there_is_to_do() -> None:
    """An idle device gets a lone frame at once, however long it could wait; what comes meanwhile goes together."""
    embedder = GatedEmbedder()
    async with running(embedder, embedder={"max_wait_seconds": 10.0, "max_batch": 8}) as (stage, delivery):
        await stage.put(frame(0))
        await asyncio.wait_for(until(lambda: embedder.sizes == [1]), 5)
        for offset in range(1, 6):
            await stage.put(frame(offset))
            await asyncio.sleep(0.05)
        assert embedder.sizes == [1], "it gathers while the device is busy"
        embedder.gate.release()
        await asyncio.wait_for(until(lambda: embedder.sizes == [1, 5]), 5)
        for offset in range(6, 22):
            await stage.put(frame(offset))
        for _ in range(3):
            embedder.gate.release()
        await asyncio.wait_for(until(lambda: embedder.sizes == [1, 5, 8, 8]), 5)
        embedder.gate.release()
        await asyncio.wait_for(stage.flush(), 30)
        assert ids(delivery.to(NAMES.embeddings)) == [f"cam/{offset}" for offset in range(22)]


async def test_a_busy_device_is_not_waited_for_longer_than_the_bound() -> None:
    """Past the longest wait an incomplete batch is decoded while the device is still at another."""
    embedder = GatedEmbedder()
    async with running(embedder, embedder={"max_wait_seconds": 0.05}) as (stage, _):
        await stage.put(frame(0))
        await until(lambda: embedder.sizes == [1])
        await stage.put(frame(1))
        await asyncio.wait_for(until(lambda: stage._decoded.qsize() == 1), 5)
        embedder.gate.release()
        embedder.gate.release()


async def test_behind_a_full_batch_the_next_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow last picture of a full batch keeps one thread, not all: the next batch is decoded meanwhile, in order."""
    slow, rest = threading.Event(), threading.Event()
    decode = embed_stage.decode_frame

    def one_is_slow(record: IncomingRecord, *others: Any) -> DecodedFrame | DeadLetter:
        if record.ref.offset == 3:
            assert slow.wait(30)
        if record.ref.offset == 7:
            rest.set()
        return decode(record, *others)

    monkeypatch.setattr(embed_stage, "decode_frame", one_is_slow)
    async with running(embedder={"max_batch": 4}) as (stage, delivery):
        for offset in range(8):
            await stage.put(frame(offset))
        assert await asyncio.to_thread(rest.wait, 30), "the second batch waited for the first"
        slow.set()
        await asyncio.wait_for(stage.flush(), 30)
        assert ids(delivery.to(NAMES.embeddings)) == [f"cam/{offset}" for offset in range(8)]


async def test_gaps_of_bad_pictures_close() -> None:
    """Vectors belong to their frames when bad pictures lie between, batch after batch in the same memory."""
    pictures = [encode(stranger(RNG)) for _ in range(40)]
    async with running(embedder={"max_batch": 7}) as (stage, delivery):
        for offset, picture in enumerate(pictures):
            await stage.put(frame(offset, b"text" if offset % 3 == 1 else picture))
        await asyncio.wait_for(stage.flush(), 30)
        found = {
            item.id: vector
            for outgoing in delivery.to(NAMES.embeddings)
            for read in [as_read(outgoing)]
            for vector, item in zip(read.vectors, read.items, strict=True)
        }
        assert len(found) == 27
        for offset, picture in enumerate(pictures):
            if offset % 3 != 1:
                alone = decode_frame(frame(offset, picture), stage.embedder.card, 10**8)
                assert not isinstance(alone, DeadLetter)
                assert np.array_equal(stage.embedder.embed(alone.inputs[np.newaxis])[0], found[f"cam/{offset}"])


async def test_memory_of_batches_is_used_again() -> None:
    """However many batches pass, the device sees the memory of a few."""
    seen: set[int] = set()

    class Watching(DummyEmbedder):
        def embed(self, batch: ImageBatch) -> Embeddings:
            seen.add(batch.ctypes.data)
            return super().embed(batch)

    async with running(Watching(), embedder={"max_batch": 4}) as (stage, _):
        for offset in range(80):
            await stage.put(frame(offset))
        await asyncio.wait_for(stage.flush(), 30)
    assert 1 <= len(seen) <= 4


async def test_a_vector_that_is_no_number_is_a_dead_letter() -> None:
    """A picture whose embedding overflows becomes one dead letter; its neighbours go on."""

    class Overflowing(DummyEmbedder):
        def embed(self, batch: ImageBatch) -> Embeddings:
            vectors = super().embed(batch)
            vectors[batch.reshape(len(batch), -1).max(axis=1) == 255] = np.inf
            return vectors

    white = encode(scene(RNG).point(lambda _: 255), "PNG")
    async with running(Overflowing()) as (stage, delivery):
        for offset, value in enumerate([JPEG, white, JPEG]):
            await stage.put(frame(offset, value))
        await asyncio.wait_for(stage.flush(), 30)
        (letter,) = delivery.to(f"{NAMES.frames}.dlq")
        assert (dict(letter.headers)["dlq.offset"], dict(letter.headers)["dlq.reason"]) == (b"1", b"non_finite_vector")
        assert ids(delivery.to(NAMES.embeddings)) == ["cam/0", "cam/2"]
        assert stage.done == {(NAMES.frames, 0): 3}


class DyingEmbedder(DummyEmbedder):
    """An embedder whose GPU is lost at the second batch, as ONNX Runtime tells it."""

    calls = 0

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed once."""
        self.calls += 1
        if self.calls == 2:
            raise DeviceError("CUDAExecutionProvider failed: CUDA failure 719: unspecified launch failure")
        return super().embed(batch)


async def test_a_lost_device_ends_the_stage_with_one_line() -> None:
    """The loss of a GPU is one clear line, no dead letter; what was not delivered is not done."""
    chosen, delivery, metrics, clock = parts(embedder={"max_batch": 2})
    stage = EmbedStage(DyingEmbedder(), 2, chosen, delivery, metrics, clock)
    for offset in range(4):
        await stage.put(frame(offset))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(stage.run(), 30)
    assert caught.group_contains(FarpointError, match="CUDA failure 719.*Kafka redelivers what was not done")
    assert stage.done in ({}, {(NAMES.frames, 0): 1}, {(NAMES.frames, 0): 2})
    assert len(ids(delivery.to(NAMES.embeddings))) == stage.done.get((NAMES.frames, 0), 0)
    assert not delivery.to(f"{NAMES.frames}.dlq")


async def test_the_canary_is_tried_while_it_runs() -> None:
    """Every so often the canary is embedded and its likeness shown; when it no longer matches, the stage ends."""
    answers = iter([0.99998, 0.9999])

    class Drifting(DummyEmbedder):
        def check_canary(self) -> float:
            for answer in answers:
                return answer
            raise CanaryError("the model computes something else", 0.4)

    chosen, delivery, metrics, clock = parts()
    stage = EmbedStage(Drifting(), 2, chosen, delivery, metrics, clock)
    stage.canary_seconds = 0.3
    task = asyncio.create_task(stage.run())
    value = metrics.registry.get_sample_value
    await until(lambda: value("farpoint_canary_similarity_ratio") == 0.99998)
    await until(lambda: value("farpoint_canary_similarity_ratio") == 0.9999)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(task, 30)
    assert caught.group_contains(FarpointError, match="something else; the worker ends")
    assert value("farpoint_canary_similarity_ratio") == 0.4
