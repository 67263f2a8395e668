"""Table: one process of many threads against many of one."""

import multiprocessing
import os
from statistics import median

from farpoint.malloc import bound_malloc
from farpoint_models.images import limit_cv2_threads
from tests.bench.embed.plan import FRAME
from tests.bench.embed.rig import Rig
from tests.bench.harness import print_table
from tests.bench.pictures import jpegs


def stage_in_processes(device: str, count: int, threads: int) -> list[tuple[float, float, float]]:
    """Measure the stage (see `Rig.stage_cost`) in so many processes at once; on a CPU each has a core of its own."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        return pool.map(_stage_in_process, [(device, threads, index) for index in range(count)])


def _stage_in_process(arguments: tuple[str, int, int]) -> tuple[float, float, float]:
    device, threads, index = arguments
    bound_malloc()
    limit_cv2_threads()
    if device == "cpu":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})
    return Rig(device, 4.0, threads=threads).stage_cost(jpegs(*FRAME))


def gil_table(rig: Rig) -> None:
    """Compare one process of many threads with as many processes of one thread: the lock would show as a difference."""
    pictures = jpegs(*FRAME)
    one = rig.stage_cost(pictures, 3.0)
    count = rig.threads if rig.device == "cpu" else min(4, rig.threads)
    threads = 1 if rig.device == "cpu" else max(1, rig.threads // count)
    each = stage_in_processes(rig.device, count, threads)
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
