"""The embed stage against the bare device: `make bench-embed` on the CPU, `make bench-gpu` on a GPU.

Bare means what anybody could write with the same libraries: decoding in a pool of threads, ONNX Runtime in a loop. The
bound of both together is the lesser of the two on a GPU, where they share nothing; on a CPU they share the cores, so it
is the harmonic sum: a frame costs the time of its decoding and that of its inference.

Rates are the best of several short rounds in turn: what else runs on the machine makes any of them worse, none better.
Beside them stand the milliseconds of processor time that a frame costs, which other programs change far less, and how
much of the cores was idle meanwhile: a stage that wastes neither is bound by the device.
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

SIZES = ((320, 240), (800, 600), (1920, 1080))
FRAME = (800, 600)
"""The picture of about 50 kB that goes through Kafka."""
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOADS = (0.25, 0.5, 0.9)
SECONDS = 0.7
ROUNDS = 5
DECODED = 32
DIFFERENT = 64
SOURCES = 8


def jpegs(width: int, height: int, count: int = DIFFERENT) -> list[bytes]:
    """Return different JPEGs of real video."""
    rng = np.random.default_rng(0)
    clips = [frame for name in ("bikes", "bigbuckbunny") for frame in load_clip(name)]
    return [vary_jpeg(cv2.resize(frame, (width, height)), rng) for frame in islice(cycle(clips), count)]


def paced(step: Callable[[], int], seconds: float | None = None) -> float:
    """Return how much a step does a second: it returns how much it did."""
    return measured(step, seconds)[0]


def measured(step: Callable[[], int], seconds: float | None = None) -> tuple[float, float]:
    """Return how much a step does a second, and the milliseconds of this process that one costs."""
    step()
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - began) < (seconds or SECONDS):
        done += step()
    return done / took, (time.process_time() - cpu) / done * 1000


class Rig:
    """An embedder on a device, and what is measured of it without Kafka."""

    def __init__(self, device: str, **embedder: Any) -> None:
        self.settings = Settings(embedder={"device": device, **embedder})
        self.device = device
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

        return measured(step)

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

        return paced(step, seconds)

    def embedder_rate(self, batch: int, seconds: float | None = None) -> float:
        """Pictures a second of our embedder alone."""
        return self.embedder_cost(batch, seconds)[0]

    def embedder_cost(self, batch: int, seconds: float | None = None) -> tuple[float, float]:
        """Pictures a second of our embedder alone, and the milliseconds of one."""
        pictures = self._noise(batch)

        def step() -> int:
            self.embedder.embed(pictures)
            return batch

        return measured(step, seconds)

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
        return asyncio.run(self._stage_cost(pictures, seconds or SECONDS, max_batch))

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

        await _change(done)
        await asyncio.sleep(0.3)
        # From one delivered batch to another: half a batch more or less would show in a short round.
        await _change(done)
        first, began, cpu, cores = done(), time.perf_counter(), time.process_time(), psutil.cpu_times()
        while time.perf_counter() - began < seconds:
            await _change(done)
        took, frames = time.perf_counter() - began, done() - first
        cost = (time.process_time() - cpu) / frames * 1000
        idle = (psutil.cpu_times().idle - cores.idle) / took / (psutil.cpu_count() or 1)
        for task in (feeding, running):
            task.cancel()
        await asyncio.gather(feeding, running, return_exceptions=True)
        return frames / took, cost, idle


async def _change(done: Callable[[], float]) -> None:
    before = done()
    while done() == before:  # noqa: ASYNC110 -- a counter, and the stage knows nothing of benchmarks
        await asyncio.sleep(0.001)


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


def stage_table(rig: Rig) -> dict[tuple[int, int], tuple[float, float]]:
    """Measure decode, inference, their bound and the stage, in turn, for each size of picture."""
    rates, costs, found = [], [], {}
    session = rig.bare_session()
    batch = rig.settings.embedder.max_batch
    for size in SIZES:
        pictures = jpegs(*size)
        shown = f"{size[0]}x{size[1]}, {sum(map(len, pictures)) / len(pictures) / 1000:.0f} kB"
        decodes, thumbs, bares, infers, stages = [], [], [], [], []
        with utilisation() as noted:
            for _ in range(ROUNDS):
                decodes.append(rig.decode_rate(pictures))
                thumbs.append(rig.decode_rate(pictures, thumbnails=True))
                bares.append(rig.inference_rate(session, batch))
                # In smaller pieces a CPU is faster, and so is ONNX Runtime without spinning threads: the bound is that
                # of the best way to run it, ours among them.
                infers.append(max(rig.embedder_cost(batch), rig.embedder_cost(4)))
                noted.clear()
                stages.append(rig.stage_cost(pictures))
        decode, infer, stage = max(decodes)[0], max(max(infers)[0], *bares), max(stages)[0]
        bound = rig.bound(decode, infer)
        gpu = f"{median(noted):.0f} %" if noted else "-"
        rates.append(
            [
                shown, f"{decode:.0f}", f"{max(bares):.0f}", f"{infer:.0f}", f"{bound:.0f}", f"{stage:.0f}",
                f"{stage / bound:.0%}", gpu,
            ]
        )  # fmt: skip
        cost = [median(each[1] for each in part) for part in (decodes, infers, thumbs, stages)]
        idle = min(each[2] for each in stages)
        costs.append(
            [
                shown, f"{cost[0]:.2f}", f"{cost[2] - cost[0]:.2f}", f"{cost[1]:.2f}", f"{cost[3]:.2f}",
                f"{(cost[0] + cost[1]) / cost[3]:.0%}", f"{(cost[2] + cost[1]) / cost[3]:.0%}", f"{idle:.0%}",
            ]
        )  # fmt: skip
        found[size] = (stage, cost[3])
    print_table(
        f"Stage without Kafka, batches of {batch}, {rig.embedder.file.file} on {rig.embedder.provider.name}, a second",
        rates,
        [
            "picture", "decode only", f"bare inference, {batch}", "inference, best", "bound of both", "stage",
            "stage / bound", "GPU busy",
        ],
    )  # fmt: skip
    print_table(
        "The same in milliseconds of processor time a frame",
        costs,
        [
            "picture", "decode", "thumbnail", "inference", "stage", "(decode + inference) / stage", "with thumbnail",
            "cores idle",
        ],
    )  # fmt: skip
    return found


def batch_table(rig: Rig) -> None:
    """Measure batch sizes."""
    session = rig.bare_session()
    pictures = jpegs(*FRAME)
    rows = [
        [
            batch,
            f"{rig.inference_rate(session, batch, 0.6):.0f}",
            f"{rig.embedder_rate(batch, 0.6):.0f}",
            f"{rig.stage_rate(pictures, 0.8, batch):.0f}",
        ]
        for batch in BATCHES
    ]
    print_table(
        "Batch sizes, pictures a second",
        rows,
        ["batch", "bare ONNX Runtime", "our embedder alone", "stage, MAX_BATCH so large"],
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
        rows.append([precision, *(f"{rig.embedder_rate(batch, 1.0):.0f}" for batch in (1, 4, 32))])
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
            rate = [rig.inference_rate((session, session.get_inputs()[0].name), batch, 1.0) for batch in (1, 4, 32)]
            rows.append([precision, session.get_providers()[0], *(f"{each:.0f}" for each in rate)])
    print_table("Execution providers, bare", rows, ["precision", "provider", "1", "4", "32"])


def _stage_in_process(arguments: tuple[str, int, int]) -> tuple[float, float, float]:
    device, threads, index = arguments
    limit_cv2_threads()
    if hasattr(os, "sched_setaffinity") and device == "cpu":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})
    return Rig(device, threads=threads).stage_cost(jpegs(*FRAME), 4.0)


def gil_table(rig: Rig) -> None:
    """Compare one process of many threads with as many processes of one thread: the lock would show as a difference."""
    pictures = jpegs(*FRAME)
    one = rig.stage_cost(pictures, 3.0)
    count = rig.threads if rig.device == "cpu" else min(4, rig.threads)
    threads = 1 if rig.device == "cpu" else max(1, rig.threads // count)
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        each = pool.map(_stage_in_process, [(rig.device, threads, index) for index in range(count)])
    print_table(
        "Is Python's lock the limit? Stage without Kafka",
        [
            [f"1 of {rig.threads} threads", f"{one[0]:.0f}", f"{one[1]:.2f}", f"{one[2]:.0%}"],
            [
                f"{count} of {threads}",
                f"{sum(part[0] for part in each):.0f}",
                f"{median(part[1] for part in each):.2f}",
                f"{median(part[2] for part in each):.0%}",
            ],
        ],
        ["processes", "frames/s", "ms of processor time a frame", "cores idle"],
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


def kafka_tables(rig: Rig, without: tuple[float, float], frames: int) -> None:
    """Measure the worker with a real broker on the same cores: throughput, latency at loads, a lone frame at idle."""
    pictures = jpegs(*FRAME)
    rows: list[list[object]] = []
    rate = 0.0
    for processes in (1, 2):
        with bench("bench") as run:
            publish(run, pictures, frames)
            arguments = ["--processes", str(processes)] if processes > 1 else []
            with run.worker("embed", arguments, FARPOINT_EMBEDDER__DEVICE=rig.device):
                before = run.processor_seconds()
                found = embedded_rate(run, frames)
                worker, broker = (
                    (after - first) / frames * 1000
                    for after, first in zip(run.processor_seconds(), before, strict=True)
                )
            rate = rate or found
            alone = rig.stage_rate(pictures, 3.0)
            rows.append(
                [
                    processes, f"{found:.0f}", f"{alone:.0f}", f"{found / alone:.0%}", f"{worker:.2f}", f"{broker:.2f}",
                    f"{without[1]:.2f}", f"{without[1] / worker:.0%}", f"{without[1] / (worker + broker):.0%}",
                ]
            )  # fmt: skip
    size = sum(map(len, pictures)) / len(pictures) / 1000
    print_table(
        f"Stage with Kafka, {FRAME[0]}x{FRAME[1]} of {size:.0f} kB, broker on the same cores",
        rows,
        [
            "worker processes", "frames/s", "stage without Kafka", "ratio", "ms a frame, worker", "broker",
            "stage without Kafka", "ratio without the broker", "with it",
        ],
    )  # fmt: skip
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
        globals().update(SIZES=SIZES[1:2], BATCHES=(1, 4, 32), ROUNDS=1, SECONDS=0.5, LOADS=(0.5,))
    rates = stage_table(rig)
    batch_table(rig)
    precision_table(device)
    gil_table(rig)
    if device == "cpu":
        providers_table(rig)
    memory_table(rig, int(next(itertools.chain((a[9:] for a in arguments if a.startswith("--frames=")), ["2000"]))))
    kafka_tables(rig, rates[FRAME], (1000 if quick else 3000) if device == "cpu" else 20_000)


if __name__ == "__main__":
    main("cpu", sys.argv[1:])
