"""Rig: what every table measures on."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
import onnxruntime
import psutil

from farpoint.embed_stage import EmbedStage
from farpoint.embedders import embedder_threads, open_embedder
from farpoint.metrics import Metrics
from farpoint.records import IncomingRecord, OutgoingRecord
from farpoint.settings import Settings
from farpoint.topics import TopicNames
from farpoint.wire import RecordRef
from farpoint_models.card import load_model_file
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import decode_image, preprocess, thumbnail_jpeg
from tests.bench.embed.pace import measured, paced
from tests.bench.pictures import SOURCES

DECODED = 32
"""Pictures decoded in one step."""


class Rig:
    """An embedder on a device, and what is measured of it without Kafka: `seconds` long where nothing else is said."""

    def __init__(self, device: str, seconds: float, **embedder: Any) -> None:
        self.settings = Settings(embedder={"device": device, **embedder})
        self.device = device
        self.seconds = seconds
        self.embedder: OnnxEmbedder = open_embedder(self.settings.embedder)
        self.threads = embedder_threads(self.settings.embedder)
        self.card = self.embedder.card
        self.pool = ThreadPoolExecutor(self.threads)

    def decode_rate(self, pictures: Sequence[bytes], *, thumbnails: bool = False) -> tuple[float, float]:
        """Pictures a second that are decoded and resized, on all cores; and the milliseconds of one."""
        side = min(self.card.input.width, self.card.input.height)

        def one(data: bytes) -> None:
            image = decode_image(data, min_side=side)
            preprocess(image, self.card)
            if thumbnails:
                thumbnail_jpeg(image)

        def step() -> int:
            list(self.pool.map(one, pictures[:DECODED]))
            return len(pictures[:DECODED])

        return measured(step, self.seconds)

    def bare_session(self) -> tuple[Any, str]:
        """Open ONNX Runtime as its examples do."""
        model = load_model_file(self.settings.embedder.model, self.embedder.file)
        wanted = ["CUDAExecutionProvider"] if self.device != "cpu" else []
        session = onnxruntime.InferenceSession(model, providers=[*wanted, "CPUExecutionProvider"])
        return session, session.get_inputs()[0].name

    def inference_rate(self, session: tuple[Any, str], batch: int, seconds: float | None = None) -> float:
        """Pictures a second of bare ONNX Runtime."""
        pictures = self._noise(batch)

        def step() -> int:
            session[0].run(None, {session[1]: pictures})
            return batch

        return paced(step, seconds or self.seconds)

    def embedder_rate(self, batch: int, seconds: float | None = None) -> float:
        """Pictures a second of our embedder alone."""
        return self.embedder_cost(batch, seconds)[0]

    def embedder_cost(self, batch: int, seconds: float | None = None) -> tuple[float, float]:
        """Pictures a second of our embedder alone, and the milliseconds of one."""
        pictures = self._noise(batch)

        def step() -> int:
            self.embedder.embed(pictures)
            return batch

        return measured(step, seconds or self.seconds)

    def _noise(self, batch: int) -> Any:
        shape = (self.card.input.height, self.card.input.width, 3)
        picture = np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)
        if self.card.input.layout == "NCHW":
            picture = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
        return picture.astype(self.card.input.dtype)

    def bound(self, decode: float, inference: float) -> float:
        """Pictures a second of both together, if nothing were lost."""
        return min(decode, inference) if self.device != "cpu" else 1 / (1 / decode + 1 / inference)

    def stage_rate(
        self, pictures: Sequence[bytes], seconds: float | None = None, max_batch: int | None = None
    ) -> float:
        """Frames a second of the stage as the worker runs it, fed and emptied in this process."""
        return self.stage_cost(pictures, seconds, max_batch)[0]

    def stage_cost(
        self, pictures: Sequence[bytes], seconds: float | None = None, max_batch: int | None = None
    ) -> tuple[float, float, float]:
        """Frames a second of the stage, the milliseconds of one, and the share of the cores that was idle."""
        return asyncio.run(self._stage_cost(pictures, seconds or self.seconds, max_batch))

    async def _stage_cost(
        self, pictures: Sequence[bytes], seconds: float, max_batch: int | None
    ) -> tuple[float, float, float]:
        settings = self.settings
        if max_batch:
            settings = settings.model_copy(
                update={"embedder": settings.embedder.model_copy(update={"max_batch": max_batch})}
            )
        names = TopicNames(settings.topics.domain)
        sink = Sink()
        metrics = Metrics(names, ["embed"])
        stage = EmbedStage(self.embedder, self.threads, settings, sink, metrics)
        running = asyncio.create_task(stage.run())

        async def feed() -> None:
            for offset, data in enumerate(cycle(pictures)):
                ref = RecordRef(names.frames, offset % SOURCES, offset, 0)
                await stage.put(IncomingRecord(ref, b"cam-%d" % (offset % SOURCES), data, ()))

        feeding = asyncio.create_task(feed())

        def done() -> float:
            return metrics.registry.get_sample_value("farpoint_frames_embedded_total", {"topic": names.frames}) or 0.0

        await sink.next_batch()
        await asyncio.sleep(0.3)
        # From one delivered batch to another: half a batch more or less would show in a short round.
        await sink.next_batch()
        first, began, cpu, cores = done(), time.perf_counter(), time.process_time(), psutil.cpu_times()
        while time.perf_counter() - began < seconds:
            await sink.next_batch()
        took, frames = time.perf_counter() - began, done() - first
        cost = (time.process_time() - cpu) / frames * 1000
        idle = (psutil.cpu_times().idle - cores.idle) / took / (psutil.cpu_count() or 1)
        for task in (feeding, running):
            task.cancel()
        await asyncio.gather(feeding, running, return_exceptions=True)
        return frames / took, cost, idle


class Sink:
    """Takes what a stage sends, and drops it."""

    def __init__(self) -> None:
        self._taken = asyncio.Event()

    async def next_batch(self) -> None:
        """Wait until a batch comes."""
        self._taken.clear()
        await self._taken.wait()

    async def send(self, records: Sequence[OutgoingRecord]) -> None:
        """Drop."""
        if records:  # a batch has dead letters as well, mostly none
            self._taken.set()

    async def send_as_owner(self, records: Sequence[OutgoingRecord]) -> bool:
        """Drop."""
        await self.send(records)
        return True
