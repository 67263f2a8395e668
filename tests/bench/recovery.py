"""What recovery costs: checkpoints while all is well, and the time to the first decision after `kill -9`."""

import os
import signal
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from farpoint.fold import DetectorFold
from farpoint.settings import DetectorSettings
from farpoint.stage_app import SESSION_SECONDS
from farpoint.wire import RecordRef, embeddings_headers, read_embeddings
from tests.bench import vectors
from tests.bench.harness import bench, print_table
from tests.integration.worker_process import Topics, WorkerProcess

PAIRS = 5
NEVER = "3600"


def checkpoint_cost() -> list[list[object]]:
    """Return vectors per second with checkpoints at their default interval and without, in turn."""
    interval = DetectorSettings().checkpoint_seconds
    rows = []
    for number in range(PAIRS):
        rates = {}
        # Which comes first changes: a machine grows warm, or tired.
        for seconds in sorted((NEVER, str(interval)), reverse=bool(number % 2)):
            with bench("bench") as run:
                rates[seconds] = vectors.ours(run, FARPOINT_DETECTOR__CHECKPOINT_SECONDS=seconds)
        with_them, without = rates[str(interval)], rates[NEVER]
        rows.append([number + 1, f"{with_them:,.0f}", f"{without:,.0f}", f"{1 - with_them / without:+.1%}"])
    return rows


def checkpoint_work() -> list[object]:
    """Return what the fold's thread itself spends on a checkpoint of 100 clusters of 1,280 dimensions."""
    fold = None
    for offset, start in enumerate(range(0, len(block := vectors.mixture(64 * 100)), 64)):
        value = vectors.payload(block[start : start + 64])
        record = read_embeddings(RecordRef("t", 0, offset, 0), b"shared", value, embeddings_headers("shared"))
        fold = fold or DetectorFold.begin(record, DetectorSettings())
        fold.apply(record)
    assert fold is not None
    times = []
    for _ in range(20):
        began = time.perf_counter()
        size = len(fold.checkpoint().snapshot)
        times.append(time.perf_counter() - began)
    interval = DetectorSettings().checkpoint_seconds
    share = median(times) / interval
    return [fold.cluster_count, f"{size / 2**20:.2f} MiB", f"{median(times) * 1000:.1f} ms", f"{share:.2%} of the time"]


def time_to_first_decision() -> list[object]:
    """Kill a worker, start another at once, and return how long nothing was decided."""
    rng = np.random.default_rng(0)
    with bench("bench") as run, tempfile.TemporaryDirectory() as name:
        bootstrap = run.settings.kafka.bootstrap_servers
        with Topics(bootstrap, "bench") as topics:
            block = vectors.mixture(64 * 100)

            def publish(records: int) -> None:
                for _ in range(records):
                    rows = rng.integers(len(block), size=64)
                    topics.publish(topics.names.embeddings, vectors.payload(block[rows]), "shared",
                                   embeddings_headers("shared"))  # fmt: skip
                topics.flush()

            publish(300)
            with WorkerProcess(bootstrap, "bench", Path(name) / "first", "embed,detect", {}) as first:
                first.wait_until_ready()
                while len(topics.records(topics.names.assignments)) < 300:
                    time.sleep(0.1)
                time.sleep(2.0)  # a checkpoint is at hand
                publish(5)
                os.kill(first.pid, signal.SIGKILL)
                killed = time.perf_counter()
                before = len(topics.records(topics.names.assignments))
                publish(20)
                with WorkerProcess(bootstrap, "bench", Path(name) / "second", "embed,detect", {}):
                    while len(topics.records(topics.names.assignments)) <= before:
                        time.sleep(0.05)
                    passed = time.perf_counter() - killed
    return [f"{passed:.1f} s", f"{SESSION_SECONDS:.0f} s", f"{passed - SESSION_SECONDS:.1f} s"]


def main() -> None:
    """Measure and print."""
    print_table(
        "After kill -9, a worker with 100 clusters of 1,280 dimensions",
        [time_to_first_decision() for _ in range(3)],
        ["to the first decision", "of that Kafka's session timeout", "beyond it"],
    )
    print_table(
        "A checkpoint",
        [checkpoint_work()],
        ["clusters", "size", "takes the fold's thread", "at the default interval"],
    )
    print_table(
        "Checkpoints every 5 s against none, vectors as above",
        checkpoint_cost(),
        ["run", "with, vectors/s", "without, vectors/s", "cost"],
    )


if __name__ == "__main__":
    main()
