"""Several workers of one command: a process for each core or GPU, started, watched and stopped together.

One Python process hands the CPU one record after another; where that, and not the device, is the limit, more processes
are the way, and Kafka shares the partitions among them. Nothing else is shared: each is a `farpoint worker` of its own.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import structlog

from farpoint.child_process import ChildProcess
from farpoint.cores import usable_cores
from farpoint.errors import FarpointError
from farpoint.settings import Settings
from farpoint_models.cuda import cuda_device_count

# A worker finishes its batch within 30 s and leaves two groups within 30 s each.
GRACE_SECONDS = 100.0
_LOOK_SECONDS = 0.05

_log = structlog.get_logger(__name__)


def run_processes(commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]) -> int:
    """Run workers until SIGTERM or SIGINT, or until one of them ends by itself.

    Prints `worker ready` once all are. When one ends unasked the others are stopped: a supervisor restarts the whole,
    and nobody is left wondering why a third of the partitions moves slowly.

    Parameters
    ----------
    commands, environments
        One of each for a worker.

    Returns
    -------
    int
        0 after SIGTERM, 130 after SIGINT, when all ended well; else the exit code of the first that did not.
    """
    asked: list[signal.Signals] = []

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(signal.Signals(number))

    before = {name: signal.signal(name, ask) for name in (signal.SIGTERM, signal.SIGINT)}
    children = [
        ChildProcess(command, name=f"worker {number}", grace_seconds=GRACE_SECONDS, env=environment)
        for number, (command, environment) in enumerate(zip(commands, environments, strict=True), start=1)
    ]
    try:
        ready = _Ready(len(children))
        for child in children:
            child.start()
            threading.Thread(target=ready.watch, args=(child,), daemon=True).start()
        while not asked and all(child.poll() is None for child in children):
            time.sleep(_LOOK_SECONDS)
        ended = [(child, code) for child in children if (code := child.poll()) is not None]
        if ended and not asked:
            for child, code in ended:
                _log.error("a worker ended unasked: stopping the others", worker=child.name, exit_code=code)
            return _stop(children) or 1
        _log.info("stopping all workers", signal=asked[0].name, workers=len(children))
        return _stop(children) or (130 if asked[0] == signal.SIGINT else 0)
    finally:
        for child in children:
            if child.is_started and child.poll() is None:
                child.stop()
        for name, handler in before.items():
            signal.signal(name, handler)


class _Ready:
    """Says `worker ready` when the last of the workers has said it."""

    def __init__(self, missing: int) -> None:
        self._missing = missing
        self._lock = threading.Lock()

    def watch(self, child: ChildProcess) -> None:
        for line in child.lines():
            if not line.startswith("worker ready"):
                print(line, flush=True)  # noqa: T201 -- what a worker says on standard output is for ours
                continue
            with self._lock:
                self._missing -= 1
                if self._missing == 0:
                    print("worker ready", flush=True)  # noqa: T201 -- the line that supervisors and scripts wait for


def _stop(children: Sequence[ChildProcess]) -> int:
    first = next((code for child in children if (code := child.poll())), 0)
    for child in children:
        if child.poll() is None:
            child.ask_to_stop()
    codes = [child.wait() for child in children]
    return first or next((code for code in codes if code), 0)


def worker_commands(
    settings: Settings, count: int, arguments: Sequence[str]
) -> tuple[list[list[str]], list[dict[str, str]]]:
    """Return command and environment of each worker.

    Each has an HTTP port of its own, PORT, PORT + 1 and so on, its share of the cores as threads unless a setting says
    otherwise, and where there are several GPUs one of them.

    Parameters
    ----------
    settings
        All of them.
    count
        How many workers.
    arguments
        Of `farpoint worker`.

    Raises
    ------
    FarpointError
        There are not so many ports.
    """
    port = settings.http.port
    if port and port + count - 1 > 65535:
        raise FarpointError(f"no {count} ports from FARPOINT_HTTP__PORT={port} on: choose a lower one")
    threads = settings.embedder.threads or max(1, usable_cores() // count)
    gpus = _gpus(settings)
    command = [sys.executable, "-m", "farpoint.cli", "worker", *arguments]
    environments = []
    for number in range(count):
        environment = dict(os.environ) | {
            "FARPOINT_HTTP__PORT": str(port + number if port else 0),
            "FARPOINT_EMBEDDER__THREADS": str(threads),
        }
        if len(gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        environments.append(environment)
    return [command] * count, environments


def _gpus(settings: Settings) -> list[str]:
    if settings.embedder.device == "cpu":
        return []
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in listed.split(",") if name]
    return [str(number) for number in range(cuda_device_count())]
