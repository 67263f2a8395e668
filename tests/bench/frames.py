"""Frames: the worker end to end against the same work in a bare loop without Kafka or Faust; latency; memory."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles

import msgspec
import numpy as np

from farpoint.cores import usable_cores
from farpoint.settings import Settings
from farpoint.wire import Assignment, AssignmentBatch
from farpoint_models.detector import OutlierDetector
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import decode_image, limit_cv2_threads, preprocess, stack
from tests.bench.harness import Bench, bench, print_table, rate_after
from tests.bench.pictures import SOURCES, jpegs

FRAMES = 2000
WAITING = 20_000


def bare_loop(pictures: list[bytes]) -> float:
    """Return frames per second of decode + int8 embed + score, all cores, nothing else."""
    settings = Settings()
    limit_cv2_threads()
    embedder = OnnxEmbedder(settings.embedder.model, device="cpu", threads=usable_cores())
    embedder.warm_up()
    detector = OutlierDetector()
    size = settings.embedder.max_batch
    card = embedder.card
    side = min(card.input.width, card.input.height)
    with ThreadPoolExecutor(2) as pool:
        began = time.perf_counter()
        for start in range(0, len(pictures), size):
            inputs = pool.map(
                lambda data: preprocess(decode_image(data, min_side=side), card), pictures[start : start + size]
            )
            vectors = embedder.embed(stack(list(inputs)))
            detector.learn_many(vectors, detector.score_many(vectors))
        return len(pictures) / (time.perf_counter() - began)


def decided(run: Bench, count: int) -> tuple[float, float]:
    """Wait until `count` frames are decided; return frames per second once it ran, and the largest memory, MiB."""
    looks = [(found, run.worker_rss()) for found in run.counts(run.names.assignments, count, _items)]
    # The first batches are of a worker that is still filling its queues.
    return rate_after(0.1, looks[-1][0]), max(rss for _, rss in looks)


def _items(value: bytes) -> Sequence[Assignment]:
    return msgspec.json.decode(value, type=AssignmentBatch).items


def throughput(pictures: list[bytes]) -> list[list[object]]:
    """Measure the bare loop and the worker in turn, three times."""
    rows = []
    for number in range(3):
        bare = bare_loop(pictures)
        with bench("bench") as run:
            run.publish(pictures, FRAMES)
            with run.worker():
                rate, _ = decided(run, FRAMES)
        rows.append([number + 1, f"{bare:.0f}", f"{rate:.0f}", f"{rate / bare:.0%}"])
    return rows


def latency(pictures: list[bytes], per_second: float) -> list[object]:
    """Publish at a fixed pace; return the p50 and p99 from the frame's timestamp to the decision being readable."""
    seconds = 30.0
    with bench("bench") as run, run.worker():
        run.publish(pictures, 300)
        decided(run, 300)
        reader = run.reader_at_end(run.names.assignments)
        producer = run.producer()
        delays: list[float] = []
        began = time.perf_counter()
        sent, total = 0, int(seconds * per_second)
        while len(delays) < total:
            while sent < total and time.perf_counter() - began >= sent / per_second:
                producer.send(
                    run.names.frames, key=f"cam-{sent % SOURCES}".encode(), value=pictures[sent % len(pictures)]
                )
                sent += 1
            for records in reader.poll(timeout_ms=5).values():
                now = time.time()
                for record in records:
                    delays += [
                        now - item.media.timestamp / 1000
                        for item in _items(record.value)
                        if item.media and item.media.timestamp
                    ]
        producer.close()
        reader.close()
    cuts = quantiles(delays, n=100)
    return [f"{per_second:.0f}", f"{cuts[49] * 1000:.0f} ms", f"{cuts[98] * 1000:.0f} ms"]


def memory(pictures: list[bytes]) -> list[object]:
    """Let a worker start with many frames waiting; return its memory early and at its largest."""
    with bench("bench") as run:
        run.publish(pictures, WAITING)
        with run.worker():
            decided(run, 2000)
            early = run.worker_rss()
            _, largest = decided(run, 8000)
    return [f"{WAITING:,}", f"{early:.0f} MiB", f"{largest:.0f} MiB"]


def main() -> None:
    """Measure and print."""
    pictures = jpegs(640, 480, FRAMES)
    size = sum(map(len, pictures)) / len(pictures) / 1000
    rows = throughput(pictures)
    print_table(
        f"Frames, 640x480 JPEG of {size:.0f} kB, CPU, int8",
        rows,
        ["run", "bare loop, frames/s", "worker with Kafka, frames/s", "ratio"],
    )
    half = float(np.median([float(str(row[2])) for row in rows])) / 2
    print_table("Latency at half load", [latency(pictures, half)], ["frames/s", "p50", "p99"])
    print_table("Worker memory", [memory(pictures)], ["frames waiting", "after 2,000 frames", "largest in 8,000"])


if __name__ == "__main__":
    main()
