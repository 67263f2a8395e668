"""Workers, and the supervisor that starts each again when it has ended."""

import itertools
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.worker_process import WorkerProcess

STOP_SECONDS = 60.0


class Fleet:
    """Some workers of one deployment.

    `ended` lists the exit code and last line of each that ended without being asked to: an unexpected error ends the
    process, and a supervisor restarts it.
    """

    def __init__(self, bootstrap: str, domain: str, folder: Path, stages: str = "embed,detect") -> None:
        self._bootstrap = bootstrap
        self._domain = domain
        self._folder = folder
        self._stages = stages
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        self._paused: dict[WorkerProcess, float] = {}
        self._leaving: list[WorkerProcess] = []
        self.workers: list[WorkerProcess] = []
        self.ended: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.resume(everybody=True)
        self._stack.close()

    def start(self) -> WorkerProcess:
        """Start one more; does not wait until it is ready."""
        folder = self._folder / f"worker-{next(self._numbers)}"
        worker = WorkerProcess(self._bootstrap, self._domain, folder, self._stages, {})
        self._stack.enter_context(worker)
        self.workers.append(worker)
        return worker

    def supervise(self) -> None:
        """Wake up whose pause is over; start anew whoever ended."""
        self.resume()
        for worker in list(self.workers):
            if not worker.running:
                self.ended.append(f"exit {worker.wait()}: {worker.last_line}")
                self.workers.remove(worker)
                self.start()

    def kill(self, worker: WorkerProcess) -> None:
        """Kill one and start another in its place, as a supervisor does."""
        self._paused.pop(worker, None)
        worker.kill()
        self.workers.remove(worker)
        self.start()

    def stop(self, worker: WorkerProcess) -> None:
        """Ask one to stop, in order; does not wait."""
        if worker in self._paused:
            worker.send(signal.SIGCONT)
            del self._paused[worker]
        self.workers.remove(worker)
        self._leaving.append(worker)
        worker.terminate()

    def pause(self, worker: WorkerProcess, seconds: float) -> None:
        """Stop one's clock for a while."""
        worker.send(signal.SIGSTOP)
        self._paused[worker] = time.monotonic() + seconds

    def resume(self, everybody: bool = False) -> None:
        """Let those go on whose pause is over."""
        for worker, until in list(self._paused.items()):
            if everybody or time.monotonic() >= until:
                del self._paused[worker]
                if worker.running:
                    worker.send(signal.SIGCONT)

    def stop_all(self) -> list[int]:
        """Stop all that are left, in order; return the exit codes of all that were ever asked to stop.

        Of those that had said something: Python itself takes a moment to start, and until then a signal is its end.
        """
        self.resume(everybody=True)
        for worker in list(self.workers):
            self.stop(worker)
        codes = [(worker.wait(STOP_SECONDS), worker.log) for worker in self._leaving]
        return [code for code, log in codes if log]
