"""`make soak`: full load for some minutes, then a report of what grew."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.bench.harness import machine, print_table
from tests.chaos.brokers import Brokers
from tests.integration.worker_process import Topics, WorkerProcess
from tests.soak.load import Load
from tests.soak.slope import fit_slope
from tests.soak.watch import KINDS, Watch

WARM_UP_SHARE = 0.4
"""Not looked at: models, buffers and Java's heap fill at first."""
SETTLE_SECONDS = 120.0
JUDGED = "worker"
"""The broker is reported; what it does with its heap and its log files is not ours to judge."""


def soak(minutes: float, folder: Path) -> list[str]:
    """Run, print the tables, and return what was not as it must be."""
    problems = []
    with Brokers(folder / "kafka", 1) as cluster, Topics(cluster.bootstrap, "soak") as topics:
        with WorkerProcess(cluster.bootstrap, "soak", folder / "worker", "embed,detect", {}) as worker:
            worker.wait_until_ready()
            load = Load(topics)
            with load, Watch({"worker": worker.pid, "broker": cluster.pid(0)}) as watch:
                began = time.monotonic()
                while (passed := time.monotonic() - began) < 60 * minutes and worker.running:
                    published = ", ".join(f"{count} {stage}" for stage, count in load.published.items())
                    print(f"{passed / 60:5.1f} of {minutes:.0f} min; records published: {published}", flush=True)
                    time.sleep(min(15.0, max(0.0, 60 * minutes - passed)))
                load.stop()
            began = time.monotonic()
            while any(load.waiting(stage) for stage in load.published) and worker.running:
                if time.monotonic() - began > SETTLE_SECONDS:
                    problems.append(f"lag did not return to zero within {SETTLE_SECONDS:.0f} s")
                    break
                time.sleep(0.5)
            settled = time.monotonic() - began
            if not worker.running or worker.stop():
                problems.append(f"the worker ended with {worker.wait()}: {worker.last_line}")
        total = sum(topics.ends(topics.names.inputs).values())
    from_ = next(index for index, second in enumerate(watch.seconds) if second > 60 * minutes * WARM_UP_SHARE)
    rows = []
    for (name, kind), values in watch.values.items():
        slope = fit_slope(watch.seconds[from_:], values[from_:])
        rows.append(
            [name, kind, f"{slope.level:.1f}", f"{slope.per_hour:+.2f}", f"{slope.low:+.2f} to {slope.high:+.2f}"]
        )
        if name == JUDGED and not slope.is_flat:
            problems.append(f"{kind} of the {name} grow by {slope.per_hour:.2f} an hour, at least {slope.low:.2f}")
    print(f"\n{machine()}")
    title = f"Soak, {minutes:.0f} minutes, {total:,} records, lag back at zero after {settled:.0f} s"
    print_table(title, rows, ["process", "what", "mean", "growth an hour", "interval of 95 %"])
    # A line has one slope; this shows whether what grows goes on growing.
    tenths = np.array_split(watch.values[JUDGED, KINDS[0]], 10)
    print_table(
        f"Resident memory of the {JUDGED} in each tenth of the time, MiB",
        [[f"{tenth.mean():.1f}" for tenth in tenths]],
        [str(number) for number in range(1, 11)],
    )
    return problems


def main() -> int:
    """Run, and return 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (MINUTES=)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farpoint-soak-") as scratch:
        problems = soak(chosen.minutes, Path(scratch))
    for problem in problems:
        print(f"NOT AS IT MUST BE: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
