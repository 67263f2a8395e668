"""What processes hold: memory, threads, file handles, measured once a second."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import psutil

EVERY_SECONDS = 1.0
KINDS = ("resident memory, MiB", "threads", "file handles")


class Watch:
    """Measures some processes in a thread of its own.

    Parameters
    ----------
    processes
        Process ids by name.

    Attributes
    ----------
    seconds
        When it was measured, since the start.
    values
        For each (name, kind), as many measurements.
    """

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(EVERY_SECONDS):
            now = time.monotonic() - began
            measured: dict[tuple[str, str], float] = {}
            for name, process in self._processes.items():
                with process.oneshot():
                    numbers = (process.memory_info().rss / 2**20, process.num_threads(), process.num_fds())
                measured |= {(name, kind): number for kind, number in zip(KINDS, numbers, strict=True)}
            self.seconds.append(now)
            for at, number in measured.items():
                self.values[at].append(number)
