"""Tables: the worker with a real broker, its throughput and its latency."""

import time
from statistics import median, quantiles

import numpy as np

from farpoint_models.images import decode_image, preprocess
from tests.bench.embed.frames import embedded_rate, loaded_frames, lone_frames, publish
from tests.bench.embed.pictures import jpegs
from tests.bench.embed.plan import FRAME, Plan
from tests.bench.embed.rig import Rig
from tests.bench.harness import bench, print_table


def kafka_tables(rig: Rig, without: tuple[float, float], plan: Plan) -> None:
    """Measure the worker with a real broker on the same cores: throughput, latency at loads, a lone frame at idle."""
    frames = plan.kafka_frames
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
        for load in plan.loads:
            cuts = quantiles(list(loaded_frames(run, pictures, rate * load, 10.0)), n=100)
            rows.append([f"{load:.0%}", f"{rate * load:.0f}", f"{cuts[49]:.0f} ms", f"{cuts[98]:.0f} ms", "-"])
        rows.append(["memory of the worker", "-", f"{run.worker_rss():.0f} MiB", "-", "-"])
    print_table("Published to embedded and readable", rows, ["load", "frames/s", "p50", "p99", "bar for p99"])


def _bare_seconds(rig: Rig, data: bytes) -> float:
    side = min(rig.card.input.width, rig.card.input.height)
    began = time.perf_counter()
    rig.embedder.embed(preprocess(decode_image(data, min_side=side), rig.card)[np.newaxis])
    return time.perf_counter() - began
