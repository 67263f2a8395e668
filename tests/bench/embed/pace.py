"""Pace: how much is done a second, and what it costs."""

import time
from collections.abc import Callable


def paced(step: Callable[[], int], seconds: float) -> float:
    """Return how much a step does a second: it returns how much it did."""
    return measured(step, seconds)[0]


def measured(step: Callable[[], int], seconds: float) -> tuple[float, float]:
    """Return how much a step does a second, and the milliseconds of this process that one costs."""
    step()
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - began) < seconds:
        done += step()
    return done / took, (time.process_time() - cpu) / done * 1000
