"""Tables: the worker with a real broker, its throughput and its latency."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles

import numpy as np

from farpoint_models.images import decode_image, preprocess
from tests.bench.embed.frames import embedded_rate, loaded_frames, lone_frames
from tests.bench.embed.plan import FRAME, Plan
from tests.bench.embed.processes import stage_in_processes
from tests.bench.embed.rig import Rig
from tests.bench.harness import bench, print_table
from tests.bench.pictures import jpegs


def kafka_tables(rig: Rig, plan: Plan) -> None:
    """Measure the worker with a real broker: throughput, latency at loads, a lone frame at idle."""
    pictures = jpegs(*FRAME)
    size = sum(map(len, pictures)) / len(pictures) / 1000
    rows: list[list[object]] = []
    rate = 0.0
    for processes in (1, 2):
        found, costs = _worker_rate(rig, pictures, plan.kafka_frames, processes)
        rate = rate or found
        rows.append(_row(f"{processes}, cores shared with the broker", found, costs, rig.stage_cost(pictures, 3.0)))
    cores = sorted(os.sched_getaffinity(0))
    if rig.device == "cpu" and len(cores) > 1:
        found, costs = _worker_rate(rig, pictures, plan.kafka_frames, 1, own=cores[:1], others=cores[1:])
        rows.append(_row("1, on a core without the broker", found, costs, stage_in_processes("cpu", 1, 1)[0]))
    print_table(
        f"Stage with Kafka, {FRAME[0]}x{FRAME[1]} of {size:.0f} kB",
        rows,
        [
            "worker processes", "frames/s", "stage without Kafka", "ratio", "ms a frame, worker", "broker",
            "stage without Kafka",
        ],
    )  # fmt: skip
    with bench("bench") as run, run.worker("embed", FARPOINT_EMBEDDER__DEVICE=rig.device):
        run.publish(pictures, 200, evenly=True)
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
        # What gets through while somebody publishes and reads on the same cores.
        began = time.perf_counter()
        rate = len(list(loaded_frames(run, pictures, rate, 8.0))) / (time.perf_counter() - began)
        for load in plan.loads:
            cuts = quantiles(list(loaded_frames(run, pictures, rate * load, 10.0)), n=100)
            rows.append([f"{load:.0%}", f"{rate * load:.0f}", f"{cuts[49]:.0f} ms", f"{cuts[98]:.0f} ms", "-"])
        rows.append(["memory of the worker", "-", f"{run.worker_rss():.0f} MiB", "-", "-"])
    print_table(
        f"Published to embedded and readable; {rate:.0f} frames/s get through",
        rows,
        ["load", "frames/s", "p50", "p99", "bar for p99"],
    )


def _worker_rate(
    rig: Rig,
    pictures: Sequence[bytes],
    frames: int,
    processes: int,
    *,
    own: Sequence[int] = (),
    others: Sequence[int] = (),
) -> tuple[float, list[float]]:
    """Return frames a second through a worker, and the milliseconds of one that worker and broker take."""
    arguments = ["--processes", str(processes)] if processes > 1 else []
    with _on_cores(others), bench("bench") as run:
        run.publish(pictures, frames, evenly=True)
        with ExitStack() as stack:
            with _on_cores(own):
                stack.enter_context(run.worker("embed", arguments, FARPOINT_EMBEDDER__DEVICE=rig.device))
            before = run.processor_seconds()
            found = embedded_rate(run, frames)
            after = run.processor_seconds()
    return found, [(late - early) / frames * 1000 for late, early in zip(after, before, strict=True)]


@contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Have what starts inside the context run on these cores only; on all where there are none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _row(shown: str, found: float, costs: Sequence[float], alone: tuple[float, float, float]) -> list[object]:
    return [
        shown,
        f"{found:.0f}",
        f"{alone[0]:.0f}",
        f"{found / alone[0]:.0%}",
        *(f"{c:.2f}" for c in costs),
        f"{alone[1]:.2f}",
    ]


def _bare_seconds(rig: Rig, data: bytes) -> float:
    side = min(rig.card.input.width, rig.card.input.height)
    began = time.perf_counter()
    rig.embedder.embed(preprocess(decode_image(data, min_side=side), rig.card)[np.newaxis])
    return time.perf_counter() - began
