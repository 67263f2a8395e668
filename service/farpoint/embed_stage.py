"""The embed stage: pictures in, one EmbeddingBatch for each detector and device batch out."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farpoint.records import DeadLetter, IncomingRecord, OutgoingRecord, positions_after
from farpoint.stage import Flush, Stage
from farpoint.wire import Item, MediaRecord, embeddings_headers, read_media, write_embeddings
from farpoint_models.card import ModelCard
from farpoint_models.embedder import Embedder
from farpoint_models.errors import InvalidRecord
from farpoint_models.images import ImageBatch, decode_image, preprocess, stack, thumbnail_jpeg

SHARED_DETECTOR = "shared"
# Well under Kafka's customary limit of 1 MB a record, whatever the model's dimension.
MAX_BATCH_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A picture ready for the device, with its provenance."""

    media: MediaRecord
    thumbnail: bytes
    inputs: ImageBatch

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
    records: list[IncomingRecord]
    flush: Flush | None
    frames: list[DecodedFrame]
    letters: list[DeadLetter]
    outgoing: list[OutgoingRecord]


def decode_frame(record: IncomingRecord, card: ModelCard, max_pixels: int) -> DecodedFrame | DeadLetter:
    """Read and decode one record; what is wrong with it makes a dead letter, not an exception."""
    try:
        media = read_media(record.ref, record.key, record.value, record.headers)
        image = decode_image(media.data, max_pixels=max_pixels, min_side=min(card.input.width, card.input.height))
        return DecodedFrame(media, thumbnail_jpeg(image), preprocess(image, card))
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
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._decoded: asyncio.Queue[_Batch] = asyncio.Queue(maxsize=1)
        self._embedded: asyncio.Queue[_Batch] = asyncio.Queue(maxsize=2)

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
        """How long an incomplete batch waits."""
        return self.settings.embedder.max_wait_seconds

    async def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Be given partitions; this stage keeps nothing between batches."""

    async def run(self) -> None:
        """Run the three steps until cancelled."""
        async with asyncio.TaskGroup() as steps:
            steps.create_task(self._decode_batches())
            steps.create_task(self._embed_batches())
            steps.create_task(self._deliver_batches())

    async def _decode_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            records, flush = await self.take()
            batch = _Batch(records, flush, [], [], [])
            # A flush brings no records, and would count as decoded in no time.
            with self.working("decode"), self.metrics.decode_seconds.time() if records else nullcontext():
                results = await asyncio.gather(
                    *(loop.run_in_executor(self._decoders, self._decode, record) for record in records)
                )
            for result in results:
                if isinstance(result, DecodedFrame):
                    batch.frames.append(result)
                else:
                    batch.letters.append(result)
            await self._decoded.put(batch)

    def _decode(self, record: IncomingRecord) -> DecodedFrame | DeadLetter:
        return decode_frame(record, self.embedder.card, self.settings.media.max_pixels)

    async def _embed_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._decoded.get()
            if batch.frames:
                self.metrics.batch_frames.observe(len(batch.frames))
                with self.working("inference"), self.metrics.inference_seconds.time():
                    batch.outgoing = await loop.run_in_executor(self._device, self._embed, batch.frames)
            await self._embedded.put(batch)

    def _embed(self, frames: list[DecodedFrame]) -> list[OutgoingRecord]:
        vectors = self.embedder.embed(stack([frame.inputs for frame in frames]))
        per_source = self.settings.detector.scope == "source"
        return embedding_records(frames, vectors, self.embedder.model_id, self.names.embeddings, per_source=per_source)

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
