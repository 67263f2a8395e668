"""The embed stage: pictures in, one EmbeddingBatch for each detector and device batch out."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from farpoint.errors import FarpointError
from farpoint.records import DeadLetter, IncomingRecord, OutgoingRecord, positions_after
from farpoint.stage import Flush, Stage
from farpoint.wire import Item, MediaRecord, embeddings_headers, read_media, write_embeddings
from farpoint_models.batches import picture_shape
from farpoint_models.canary import CanaryError
from farpoint_models.card import ModelCard
from farpoint_models.embedder import DeviceError, Embedder
from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.images import ImageBatch, decode_image, preprocess, thumbnail_jpeg

SHARED_DETECTOR = "shared"
# Well under Kafka's customary limit of 1 MB a record, whatever the model's dimension.
MAX_BATCH_BYTES = 512 * 1024
# Two are being filled while another waits for the device and a fourth is on it.
_BUFFERS = 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A picture ready for the device, with its provenance."""

    record: IncomingRecord
    media: MediaRecord
    thumbnail: bytes
    inputs: ImageBatch
    """Memory of the batch: another picture's as soon as the batch has been embedded."""

    @property
    def item(self) -> Item:
        """What travels beside its vector."""
        media = self.media
        return Item(
            id=media.id,
            source=media.source,
            time=media.time,
            subject=media.subject,
            media=media.media,
            thumbnail=self.thumbnail,
            metadata=media.metadata,
        )


@dataclass(slots=True)
class _Batch:
    """A device batch on its way through the steps."""

    records: list[IncomingRecord]
    flush: Flush | None
    inputs: ImageBatch
    results: list[DecodedFrame | DeadLetter | None]
    frames: list[DecodedFrame] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    outgoing: list[OutgoingRecord] = field(default_factory=list)

    def sort_out(self) -> None:
        """Put the good frames together, and their pictures, and the bad ones apart."""
        for row, result in enumerate(self.results):
            if isinstance(result, DecodedFrame):
                if row > len(self.frames):  # close the gap that a bad picture left
                    self.inputs[len(self.frames)] = self.inputs[row]
                self.frames.append(result)
            elif result is not None:
                self.letters.append(result)


def decode_frame(
    record: IncomingRecord, card: ModelCard, max_pixels: int, row: ImageBatch | None = None
) -> DecodedFrame | DeadLetter:
    """Read and decode one record into a row of a batch; what is wrong with it makes a dead letter, not an exception."""
    try:
        media = read_media(record.ref, record.key, record.value, record.headers)
        image = decode_image(media.data, max_pixels=max_pixels, min_side=min(card.input.width, card.input.height))
        return DecodedFrame(record, media, thumbnail_jpeg(image), preprocess(image, card, row))
    except InvalidRecord as error:
        return DeadLetter(record, error)


def embedding_records(
    frames: Sequence[DecodedFrame], vectors: NDArray[np.float32], model: str, topic: str, *, per_source: bool
) -> list[OutgoingRecord]:
    """Return one record for each detector among `frames`, more where one would grow too large.

    Parameters
    ----------
    frames
        N frames.
    vectors
        Their embeddings, (N, D) float32.
    model
        The vector space's name.
    topic
        Of the embeddings.
    per_source
        Whether each source has a detector of its own.
    """
    rows_of: dict[str, list[int]] = {}
    for row, frame in enumerate(frames):
        rows_of.setdefault(frame.media.source if per_source else SHARED_DETECTOR, []).append(row)
    thumbnail_bytes = [len(frame.thumbnail) for frame in frames]
    return [
        OutgoingRecord(
            topic,
            detector.encode(),
            write_embeddings(model, vectors[rows], [frames[row].item for row in rows]),
            embeddings_headers(detector),
        )
        for detector, all_rows in rows_of.items()
        for rows in _cut(all_rows, thumbnail_bytes, vectors.shape[1] * vectors.itemsize)
    ]


def _cut(rows: list[int], thumbnail_bytes: list[int], vector_bytes: int) -> list[list[int]]:
    cuts: list[list[int]] = [[]]
    size = 0
    for row in rows:
        more = vector_bytes + thumbnail_bytes[row] + 1024  # ids, source, metadata
        if cuts[-1] and size + more > MAX_BATCH_BYTES:
            cuts.append([])
            size = 0
        cuts[-1].append(row)
        size += more
    return cuts


class EmbedStage(Stage):
    """Decode in a thread pool, embed in a thread of its own, deliver: three steps, a batch in each.

    Pictures are decoded straight into the batch that goes to the device, and these batches are used again and again:
    memory does not grow with what comes in. While the device is idle a batch is whatever is there. Under load, when
    batches are full, two are decoded at a time, so that no thread waits for the last picture of another.

    Parameters
    ----------
    embedder
        Warm.
    decode_threads
        How many pictures are decoded at a time.
    others
        See `Stage`.
    """

    name = "embed"

    def __init__(self, embedder: Embedder, decode_threads: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.embedder = embedder
        self.canary_seconds = self.settings.embedder.canary_seconds
        self._decode_threads = decode_threads
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._buffers: asyncio.Queue[ImageBatch] = asyncio.Queue()
        for _ in range(_BUFFERS):
            self._buffers.put_nowait(_empty_batch(embedder.card, self.max_records))
        self._decoding: asyncio.Queue[tuple[_Batch, asyncio.Future[list[tuple[float, float]]]]] = asyncio.Queue(1)
        self._decoded: asyncio.Queue[_Batch] = asyncio.Queue(maxsize=1)
        self._embedded: asyncio.Queue[_Batch] = asyncio.Queue(maxsize=2)
        self.hungry.set()

    @property
    def topics(self) -> tuple[str, ...]:  # type: ignore[override]
        """What it reads."""
        return self.names.media

    @property
    def max_records(self) -> int:  # type: ignore[override]
        """Most frames in a device batch."""
        return self.settings.embedder.max_batch

    @property
    def max_wait_seconds(self) -> float:  # type: ignore[override]
        """How long an incomplete batch waits while the device has another."""
        return self.settings.embedder.max_wait_seconds

    async def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Be given partitions; this stage keeps nothing between batches."""

    async def run(self) -> None:
        """Run the steps, and the canary now and then, until cancelled."""
        async with asyncio.TaskGroup() as steps:
            steps.create_task(self._decode_batches())
            steps.create_task(self._finish_decoding())
            steps.create_task(self._embed_batches())
            steps.create_task(self._deliver_batches())
            steps.create_task(self._try_canary_now_and_then())

    async def _decode_batches(self) -> None:
        while True:
            inputs = await self._buffers.get()
            records, flush = await self.take()
            batch = _Batch(records, flush, inputs, [None] * len(records))
            await self._decoding.put((batch, self._start_decoding(batch)))
            if len(records) < self.max_records:
                await self._decoding.join()
            # Behind a full batch there is more: threads that find no picture left in it begin the next at once.

    def _start_decoding(self, batch: _Batch) -> asyncio.Future[list[tuple[float, float]]]:
        loop = asyncio.get_running_loop()
        # One call a thread, not one a picture: each takes the next picture that nobody has.
        turns = iter(range(len(batch.records)))
        return asyncio.gather(
            *(
                loop.run_in_executor(self._decoders, self._decode_some, turns, batch)
                for _ in range(min(self._decode_threads, len(batch.records)))
            )
        )

    def _decode_some(self, turns: Iterator[int], batch: _Batch) -> tuple[float, float]:
        began = time.perf_counter()
        card, max_pixels = self.embedder.card, self.settings.media.max_pixels
        for row in turns:
            batch.results[row] = decode_frame(batch.records[row], card, max_pixels, batch.inputs[row])
        return began, time.perf_counter()

    async def _finish_decoding(self) -> None:
        while True:
            batch, decoding = await self._decoding.get()
            with self.working("decode"):
                times = await decoding
            if times:  # a flush brings no records, and would count as decoded in no time
                self.metrics.decode_seconds.observe(max(ended for _, ended in times) - min(began for began, _ in times))
            batch.sort_out()
            self.hungry.clear()
            await self._decoded.put(batch)
            self._decoding.task_done()

    async def _embed_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._decoded.empty():
                self.hungry.set()
            batch = await self._decoded.get()
            if batch.frames:
                self.metrics.batch_frames.observe(len(batch.frames))
                with self.working("inference"), self.metrics.inference_seconds.time():
                    await loop.run_in_executor(self._device, self._embed, batch)
            self._buffers.put_nowait(batch.inputs)
            await self._embedded.put(batch)

    def _embed(self, batch: _Batch) -> None:
        try:
            vectors = self.embedder.embed(batch.inputs[: len(batch.frames)])
        except DeviceError as error:
            raise FarpointError(f"{error}; the worker ends, and Kafka redelivers what was not done") from error
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        if not finite.all():  # 16-bit floats overflow on pictures that nobody has seen yet
            reason = InvalidReason.NON_FINITE_VECTOR
            invalid = InvalidRecord(
                reason, f"{self.embedder.model_id} gives numbers that are not finite for this picture"
            )
            batch.letters += [
                DeadLetter(frame.record, invalid) for frame, good in zip(batch.frames, finite, strict=True) if not good
            ]
            batch.frames = [frame for frame, good in zip(batch.frames, finite, strict=True) if good]
            vectors = vectors[finite]
        per_source = self.settings.detector.scope == "source"
        batch.outgoing = embedding_records(
            batch.frames, vectors, self.embedder.model_id, self.names.embeddings, per_source=per_source
        )

    async def _try_canary_now_and_then(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.canary_seconds)
            began = time.perf_counter()
            try:
                with self.working("canary"):
                    cosine = await loop.run_in_executor(self._device, self.embedder.check_canary)
            except (CanaryError, DeviceError) as error:
                self.metrics.canary_similarity.set(error.cosine if isinstance(error, CanaryError) else 0.0)
                raise FarpointError(f"{error}; the worker ends, and its start tries the device again") from error
            self.metrics.canary_similarity.set(cosine)
            _log.debug("canary", cosine=round(cosine, 6), seconds=round(time.perf_counter() - began, 4))

    async def _deliver_batches(self) -> None:
        while True:
            batch = await self._embedded.get()
            await self.send_dead_letters(batch.records, batch.letters)
            await self.delivery.send(batch.outgoing)
            for frame in batch.frames:
                self.metrics.frames_embedded.labels(frame.media.ref.topic).inc()
            positions = positions_after(batch.records)
            self.mark_delivered(positions)
            self.done |= positions
            if batch.flush:
                batch.flush.done.set()


def _empty_batch(card: ModelCard, size: int) -> ImageBatch:
    return cast("ImageBatch", np.zeros((size, *picture_shape(card)), card.input.dtype))
