"""The embed stage against the bare device: `make bench-embed` on the CPU, `make bench-gpu` on a GPU.

Bare means what anybody could write with the same libraries: decoding in a pool of threads, ONNX Runtime in a loop. The
bound of both together is the lesser of the two on a GPU, where they share nothing; on a CPU they share the cores, so it
is the harmonic sum: a frame costs the time of its decoding and that of its inference.
"""

import asyncio
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from statistics import median, quantiles
from typing import Any

import cv2
import msgspec
import numpy as np
import onnxruntime
import psutil

from farpoint.demo.clips import load_clip, vary_jpeg
from farpoint.embed_stage import EmbedStage
from farpoint.embedders import embedder_threads, open_embedder
from farpoint.errors import FarpointError
from farpoint.metrics import Metrics
from farpoint.records import IncomingRecord, OutgoingRecord
from farpoint.settings import Settings
from farpoint.topics import TopicNames
from farpoint.wire import EmbeddingBatchMsgpack, RecordRef
from farpoint_models.card import load_model_file
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import decode_image, limit_cv2_threads, preprocess, thumbnail_jpeg
from farpoint_models.instructions import int8_instructions
from tests.bench.harness import Bench, bench, machine, print_table

SIZES = ((320, 240), (640, 480), (1920, 1080))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOADS = (0.25, 0.5, 0.9)
SECONDS = 2.5
ROUNDS = 3
DIFFERENT = 64
SOURCES = 8


def jpegs(width: int, height: int, count: int = DIFFERENT) -> list[bytes]:
    """Return different JPEGs of real video."""
    rng = np.random.default_rng(0)
    clips = [frame for name in ("bikes", "bigbuckbunny") for frame in load_clip(name)]
    return [vary_jpeg(cv2.resize(frame, (width, height)), rng) for frame in islice(cycle(clips), count)]


def paced(step: Callable[[], int], seconds: float = SECONDS) -> float:
    """Return how much a step does a second: it returns how much it did."""
    step()
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        done += step()
    return done / took


class Rig:
    """An embedder on a device, and what is measured of it without Kafka."""

    def __init__(self, device: str, **embedder: Any) -> None:
        self.settings = Settings(embedder={"device": device, **embedder})
        self.device = device
        self.embedder: OnnxEmbedder = open_embedder(self.settings.embedder)
        self.threads = embedder_threads(self.settings.embedder)
        self.card = self.embedder.card
        self.pool = ThreadPoolExecutor(self.threads)

    def decode_rate(self, pictures: Sequence[bytes], *, thumbnails: bool = False) -> float:
        """Pictures a second that are decoded and resized, on all cores."""
        side = min(self.card.input.width, self.card.input.height)

        def one(data: bytes) -> None:
            image = decode_image(data, min_side=side)
            preprocess(image, self.card)
            if thumbnails:
                thumbnail_jpeg(image)

        def step() -> int:
            list(self.pool.map(one, pictures))
            return len(pictures)

        return paced(step)

    def bare_session(self) -> tuple[Any, str]:
        """Open ONNX Runtime as its examples do."""
        model = load_model_file(self.settings.embedder.model, self.embedder.file)
        wanted = ["CUDAExecutionProvider"] if self.device != "cpu" else []
        session = onnxruntime.InferenceSession(model, providers=[*wanted, "CPUExecutionProvider"])
        return session, session.get_inputs()[0].name

    def inference_rate(self, session: tuple[Any, str], batch: int, seconds: float = SECONDS) -> float:
        """Pictures a second of bare ONNX Runtime."""
        pictures = self._noise(batch)

        def step() -> int:
            session[0].run(None, {session[1]: pictures})
            return batch

        return paced(step, seconds)

    def embedder_rate(self, batch: int, seconds: float = SECONDS) -> float:
        """Pictures a second of our embedder alone."""
        pictures = self._noise(batch)

        def step() -> int:
            self.embedder.embed(pictures)
            return batch

        return paced(step, seconds)

    def _noise(self, batch: int) -> Any:
        shape = (self.card.input.height, self.card.input.width, 3)
        picture = np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)
        if self.card.input.layout == "NCHW":
            picture = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
        return picture.astype(self.card.input.dtype)

    def bound(self, decode: float, inference: float) -> float:
        """Pictures a second of both together, if nothing were lost."""
        return min(decode, inference) if self.device != "cpu" else 1 / (1 / decode + 1 / inference)

    def stage_rate(self, pictures: Sequence[bytes], seconds: float = SECONDS, max_batch: int | None = None) -> float:
        """Frames a second of the stage as the worker runs it, fed and emptied in this process."""
        return asyncio.run(self._stage_rate(pictures, seconds, max_batch))

    async def _stage_rate(self, pictures: Sequence[bytes], seconds: float, max_batch: int | None) -> float:
        settings = self.settings
        if max_batch:
            settings = settings.model_copy(
                update={"embedder": settings.embedder.model_copy(update={"max_batch": max_batch})}
            )
        names = TopicNames(settings.topics.domain)
        sink = Sink()
        stage = EmbedStage(self.embedder, self.threads, settings, sink, Metrics(names, ["embed"]))
        running = asyncio.create_task(stage.run())

        async def feed() -> None:
            for offset, data in enumerate(cycle(pictures)):
                ref = RecordRef(names.frames, offset % SOURCES, offset, 0)
                await stage.put(IncomingRecord(ref, b"cam-%d" % (offset % SOURCES), data, ()))

        feeding = asyncio.create_task(feed())
        value = stage.metrics.registry.get_sample_value

        def done() -> float:
            return value("farpoint_frames_embedded_total", {"topic": names.frames}) or 0.0

        await asyncio.sleep(min(1.0, seconds / 2))
        first, began = done(), time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (done() - first) / (time.perf_counter() - began)
        for task in (feeding, running):
            task.cancel()
        await asyncio.gather(feeding, running, return_exceptions=True)
        return rate


class Sink:
    """Takes what a stage sends, and drops it."""

    async def send(self, records: Sequence[OutgoingRecord]) -> None:
        """Drop."""

    async def send_as_owner(self, records: Sequence[OutgoingRecord]) -> bool:
        """Drop."""
        await self.send(records)
        return True


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Note the GPU's utilisation, percent, while the context lasts; nothing where `nvidia-smi` is not."""
    noted: list[float] = []
    stop = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

    def look() -> None:
        while not stop.wait(0.2):
            try:
                said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return
            noted.append(float(said.split()[0]))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield noted
    finally:
        stop.set()
        thread.join()


def stage_table(rig: Rig) -> dict[tuple[int, int], float]:
    """Measure decode, inference, their bound and the stage, in turn, for each size of picture."""
    rows, rates = [], {}
    session = rig.bare_session()
    batch = rig.settings.embedder.max_batch
    for size in SIZES:
        pictures = jpegs(*size)
        measured = []
        with utilisation() as noted:
            for _ in range(ROUNDS):
                decode = rig.decode_rate(pictures)
                bare = rig.inference_rate(session, batch)
                # In smaller pieces a CPU is faster, and so is ONNX Runtime without spinning threads: the bound is that
                # of the best way to run it, ours among them.
                best = max(bare, rig.inference_rate(session, 4), rig.embedder_rate(batch))
                noted.clear()
                measured.append((decode, bare, best, rig.bound(decode, best), rig.stage_rate(pictures)))
        decode, bare, best, bound, stage = (median(column) for column in zip(*measured, strict=True))
        rates[size] = stage
        with_thumbnails = rig.bound(rig.decode_rate(pictures, thumbnails=True), best)
        rows.append(
            [
                f"{size[0]}x{size[1]}, {sum(map(len, pictures)) / len(pictures) / 1000:.0f} kB",
                f"{decode:.0f}", f"{bare:.0f}", f"{best:.0f}", f"{bound:.0f}", f"{stage:.0f}",
                f"{median(each[4] / each[3] for each in measured):.0%}",
                f"{stage / with_thumbnails:.0%}",
                f"{median(noted):.0f} %" if noted else "-",
            ]
        )  # fmt: skip
    print_table(
        f"Stage without Kafka, batches of {batch}, {rig.embedder.file.file} on {rig.embedder.provider.name}",
        rows,
        [
            "picture", "decode only", f"inference only, bare, {batch}", "inference only, best", "bound of both",
            "stage", "stage / bound", "stage / bound with thumbnails", "GPU busy",
        ],
    )  # fmt: skip
    return rates


def batch_table(rig: Rig) -> None:
    """Measure batch sizes."""
    session = rig.bare_session()
    pictures = jpegs(640, 480)
    rows = [
        [
            batch,
            f"{rig.inference_rate(session, batch, 1.0):.0f}",
            f"{rig.embedder_rate(batch, 1.0):.0f}",
            f"{rig.stage_rate(pictures, 1.5, batch):.0f}",
        ]
        for batch in BATCHES
    ]
    print_table(
        "Batch sizes, pictures a second",
        rows,
        ["batch", "bare ONNX Runtime", "our embedder alone", "stage, 640x480, MAX_BATCH so large"],
    )


def precision_table(device: str) -> None:
    """Measure the precisions, and what the processor is made for."""
    rows = []
    for precision in ("fp32", "fp16", "int8"):
        try:
            rig = Rig(device, precision=precision)
        except FarpointError as error:  # a GPU has no kernels for some
            rows.append([precision, str(error)[:100], "-", "-"])
            continue
        rows.append([precision, *(f"{rig.embedder_rate(batch, 1.5):.0f}" for batch in (1, 4, 32))])
    instructions = f"int8 instructions: {int8_instructions() or 'none known'}"
    print_table(f"Precisions, our embedder alone ({instructions})", rows, ["precision", "1", "4", "32"])


def providers_table(rig: Rig) -> None:
    """Measure the other execution providers that the installed ONNX Runtime has."""
    others = [
        name
        for name in onnxruntime.get_available_providers()
        if name in {"OpenVINOExecutionProvider", "XnnpackExecutionProvider", "DnnlExecutionProvider"}
    ]
    rows = []
    for precision in ("fp32", "int8"):
        model = load_model_file(rig.settings.embedder.model, rig.card.files[precision])
        for name in [*others, "CPUExecutionProvider"]:
            wanted = list(dict.fromkeys([name, "CPUExecutionProvider"]))
            session = onnxruntime.InferenceSession(model, providers=wanted)
            rate = [rig.inference_rate((session, session.get_inputs()[0].name), batch, 1.5) for batch in (1, 4, 32)]
            rows.append([precision, session.get_providers()[0], *(f"{each:.0f}" for each in rate)])
    print_table("Execution providers, bare", rows, ["precision", "provider", "1", "4", "32"])


def _stage_in_process(arguments: tuple[str, int, int]) -> float:
    device, threads, index = arguments
    limit_cv2_threads()
    if hasattr(os, "sched_setaffinity") and device == "cpu":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})
    return Rig(device, threads=threads).stage_rate(jpegs(640, 480), 4.0)


def gil_table(rig: Rig) -> None:
    """Compare one process of many threads with as many processes of one thread: the lock would show as a difference."""
    pictures = jpegs(640, 480)
    one = rig.stage_rate(pictures, 4.0)
    count = rig.threads if rig.device == "cpu" else min(4, rig.threads)
    threads = 1 if rig.device == "cpu" else max(1, rig.threads // count)
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        several = sum(pool.map(_stage_in_process, [(rig.device, threads, index) for index in range(count)]))
    print_table(
        "Is Python's lock the limit? Stage without Kafka, 640x480",
        [[f"1 of {rig.threads} threads", f"{one:.0f}"], [f"{count} of {threads}", f"{several:.0f}"]],
        ["processes", "frames/s"],
    )


def memory_table(rig: Rig, frames: int) -> None:
    """Embed frames of mixed sizes, and note the memory of the process on the way."""
    rng = np.random.default_rng(0)
    sizes = [(int(rng.integers(160, 1600)), int(rng.integers(120, 1200))) for _ in range(48)]
    pictures = [jpegs(width, height, 1)[0] for width, height in sizes]
    process = psutil.Process()
    marks = [process.memory_info().rss / 2**20]
    counts = [0]

    async def run() -> None:
        names = TopicNames("bench")
        stage = EmbedStage(rig.embedder, rig.threads, rig.settings, Sink(), Metrics(names, ["embed"]))
        running = asyncio.create_task(stage.run())
        for offset, data in enumerate(islice(cycle(pictures), frames)):
            await stage.put(IncomingRecord(RecordRef(names.frames, 0, offset, 0), b"cam", data, ()))
            if offset + 1 in (frames // 10, frames // 4, frames // 2, frames):
                await stage.flush()
                marks.append(process.memory_info().rss / 2**20)
                counts.append(offset + 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    print_table(
        "Memory over frames of mixed sizes, MiB",
        [[f"{mark:.0f}" for mark in marks]],
        [f"{count:,} frames" for count in counts],
    )


def kafka_tables(rig: Rig, without: float, frames: int) -> None:
    """Measure the worker with a real broker on the same cores: throughput, latency at loads, a lone frame at idle."""
    pictures = jpegs(640, 480)
    rows = []
    rate = 0.0
    for processes in (1, 2):
        with bench("bench") as run:
            publish(run, pictures, frames)
            arguments = ["--processes", str(processes)] if processes > 1 else []
            with run.worker("embed", arguments, FARPOINT_EMBEDDER__DEVICE=rig.device):
                run.wait_for_records(run.names.embeddings, 1)
                found = embedded_rate(run, frames)
            rate = rate or found
            rows.append([processes, f"{found:.0f}", f"{without:.0f}", f"{found / without:.0%}"])
    size = sum(map(len, pictures)) / len(pictures) / 1000
    print_table(
        f"Stage with Kafka, 640x480 of {size:.0f} kB, broker on the same cores",
        rows,
        ["worker processes", "frames/s", "stage without Kafka", "ratio"],
    )
    with bench("bench") as run, run.worker("embed", FARPOINT_EMBEDDER__DEVICE=rig.device):
        publish(run, pictures, 200)
        embedded_rate(run, 200)
        bare = median(_bare_seconds(rig, data) for data in pictures for _ in range(3)) * 1000
        lone = quantiles(list(lone_frames(run, pictures, 150)), n=100)
        limit = 3 * bare + 20
        rows = [
            [
                "idle, a lone frame",
                "-",
                f"{lone[49]:.0f} ms",
                f"{lone[98]:.0f} ms",
                f"3 x {bare:.1f} + 20 = {limit:.0f} ms",
            ]
        ]
        for load in LOADS:
            cuts = quantiles(list(loaded_frames(run, pictures, rate * load, 10.0)), n=100)
            rows.append([f"{load:.0%}", f"{rate * load:.0f}", f"{cuts[49]:.0f} ms", f"{cuts[98]:.0f} ms", "-"])
        rows.append(["memory of the worker", "-", f"{run.worker_rss():.0f} MiB", "-", "-"])
    print_table("Published to embedded and readable", rows, ["load", "frames/s", "p50", "p99", "bar for p99"])


def _bare_seconds(rig: Rig, data: bytes) -> float:
    side = min(rig.card.input.width, rig.card.input.height)
    began = time.perf_counter()
    rig.embedder.embed(preprocess(decode_image(data, min_side=side), rig.card)[np.newaxis])
    return time.perf_counter() - began


def publish(run: Bench, pictures: Sequence[bytes], count: int) -> None:
    """Publish `count` frames of several sources."""
    producer = run.producer()
    for number, data in enumerate(islice(cycle(pictures), count)):
        producer.send(run.names.frames, key=b"cam-%d" % (number % SOURCES), value=data)
        if number % 500 == 0:
            producer.flush()
    producer.flush()
    producer.close()


def embedded_rate(run: Bench, count: int) -> float:
    """Wait until `count` frames are embedded; return frames a second between the first tenth and the last."""
    reader = run.reader(run.names.embeddings)
    found: list[tuple[float, int]] = []
    deadline = time.monotonic() + 300
    while sum(items for _, items in found) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the worker got no further")
        for records in reader.poll(timeout_ms=500).values():
            found += [(record.timestamp / 1000, len(_items(record.value))) for record in records]
    reader.close()
    found.sort()
    skip = len(found) // 10
    took = found[-1][0] - found[skip][0]
    return sum(items for _, items in found[skip + 1 :]) / took if took else 0.0


def _items(value: bytes) -> Sequence[Any]:
    return msgspec.msgpack.decode(value, type=EmbeddingBatchMsgpack).items or ()


def lone_frames(run: Bench, pictures: Sequence[bytes], count: int) -> Iterator[float]:
    """Publish one frame after another, each when the one before is embedded; yield milliseconds."""
    reader = at_end(run)
    producer = run.quick_producer()
    for number in range(count):
        time.sleep(0.02 + 0.0007 * (number % 31))  # not in step with anything
        began = time.perf_counter()
        producer.send(run.names.frames, key=b"lone", value=pictures[number % len(pictures)])
        while not any(_items(r.value) for records in reader.poll(timeout_ms=1000).values() for r in records):
            pass
        yield (time.perf_counter() - began) * 1000
    producer.close()
    reader.close()


def loaded_frames(run: Bench, pictures: Sequence[bytes], per_second: float, seconds: float) -> Iterator[float]:
    """Publish at a fixed pace; yield milliseconds from a frame's timestamp to its vector being readable."""
    reader = at_end(run)
    producer = run.quick_producer()
    total = int(per_second * seconds)
    stop = threading.Event()

    def send() -> None:
        began = time.perf_counter()
        for sent in range(total):
            if stop.wait(max(0.0, began + sent / per_second - time.perf_counter())):
                return
            producer.send(run.names.frames, key=b"cam-%d" % (sent % SOURCES), value=pictures[sent % len(pictures)])

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    seen = 0
    deadline = time.monotonic() + seconds + 60
    while seen < total and time.monotonic() < deadline:
        for records in reader.poll(timeout_ms=5).values():
            now = time.time()
            for record in records:
                for item in _items(record.value):
                    seen += 1
                    if item.media and item.media.timestamp:
                        yield (now - item.media.timestamp / 1000) * 1000
    stop.set()
    sending.join()
    producer.close()
    reader.close()


def at_end(run: Bench) -> Any:
    """Read the embeddings from now on."""
    reader = run.reader(run.names.embeddings)
    reader.seek_to_end()
    for part in reader.assignment():
        reader.position(part)
    return reader


def main(device: str, arguments: Sequence[str]) -> None:
    """Measure and print."""
    limit_cv2_threads()
    print(machine(), flush=True)
    rig = Rig(device)
    print(f"{rig.embedder.model_id}, {rig.embedder.provider.note}; {rig.embedder.provider.placement}", flush=True)
    quick = "--quick" in arguments
    if quick:
        globals().update(SIZES=SIZES[1:2], BATCHES=(1, 4, 32), ROUNDS=1, SECONDS=1.0, LOADS=(0.5,))
    rates = stage_table(rig)
    batch_table(rig)
    precision_table(device)
    gil_table(rig)
    if device == "cpu":
        providers_table(rig)
    memory_table(rig, int(next(itertools.chain((a[9:] for a in arguments if a.startswith("--frames=")), ["4000"]))))
    kafka_tables(rig, rates[640, 480], (1000 if quick else 3000) if device == "cpu" else 20_000)


if __name__ == "__main__":
    main("cpu", sys.argv[1:])
