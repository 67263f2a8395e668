"""A child process that never outlives us: stopped when we stop it, and stopped when we die, `kill -9` included."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from farpoint import child_guardian
from farpoint.errors import FarpointError

# Lines of the child's output that nobody has read yet; the oldest go first, so that the child never blocks on us.
_MAX_UNREAD_LINES = 10_000


class ChildProcess:
    """Runs a command under a guardian process (`child_guardian`) that ends it when we are gone.

    The child gets no standard input and a session of its own: Ctrl-C reaches us alone, and we stop it in order.

    Parameters
    ----------
    command
        Program and arguments.
    name
        What to call it in error messages.
    output
        File that its standard output and error are written to, replacing what was there. Without it the standard output
        is kept for `wait_for_line` and `lines`, and the standard error is ours.
    error_output
        File for the standard error alone; the standard output is kept as without `output`.
    grace_seconds
        How long it may take to end after SIGTERM before it is killed; `stop` may say otherwise.
    pid_file
        Where the guardian writes the child's process id, for as long as it runs.
    cwd, env
        Working folder and environment; ours by default.
    keep_open
        File descriptors that the guardian holds until the child has ended, as the lock on its folder.

    Examples
    --------
    >>> with ChildProcess(["echo", "kafka ready here:9092"], name="an echo") as child:
    ...     child.wait_for_line("kafka ready", timeout_seconds=10)
    'kafka ready here:9092'
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        name: str,
        output: Path | None = None,
        error_output: Path | None = None,
        grace_seconds: float = 10.0,
        pid_file: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._output = output
        self._error_output = error_output
        self._grace_seconds = grace_seconds
        self._pid_file = pid_file
        self._cwd = cwd
        self._env = env
        self._keep_open = keep_open
        self._guardian: subprocess.Popen[bytes] | None = None
        self._lines: deque[str] = deque(maxlen=_MAX_UNREAD_LINES)
        self._lines_changed = threading.Condition()
        self._output_ended = False

    def start(self) -> None:
        """Start the child; returns at once."""
        guardian = [sys.executable, "-I", "-S", str(Path(child_guardian.__file__).resolve())]
        pid_file = str(self._pid_file.resolve()) if self._pid_file else ""
        with contextlib.ExitStack() as files:
            stdout: int | IO[bytes] = subprocess.PIPE
            stderr: int | IO[bytes] | None = None
            if self._output:
                stdout, stderr = files.enter_context(self._output.open("wb")), subprocess.STDOUT
            elif self._error_output:
                stderr = files.enter_context(self._error_output.open("wb"))
            self._guardian = subprocess.Popen(
                [*guardian, str(self._grace_seconds), pid_file, *self._command],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd=self._cwd,
                env=self._env,
                pass_fds=self._keep_open,
                start_new_session=True,
            )
        if self._guardian.stdout is not None:
            threading.Thread(target=self._read_lines, args=(self._guardian.stdout,), daemon=True).start()

    def wait_for_line(self, start: str, timeout_seconds: float) -> str:
        """Return the first line of the child's output that begins with `start`; lines before it are dropped.

        Raises
        ------
        FarpointError
            The child ended, or the time passed, before it said so.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._lines_changed:
                self._lines_changed.wait_for(
                    lambda: self._lines or self._output_ended, timeout=deadline - time.monotonic()
                )
                line = self._lines.popleft() if self._lines else None
                ended = self._output_ended
            if line is not None and line.startswith(start):
                return line
            if line is None and ended:
                raise FarpointError(f"{self.name} ended with exit code {self.wait()} before it said {start!r}")
            if time.monotonic() >= deadline:
                raise FarpointError(f"{self.name} did not say {start!r} within {timeout_seconds:g} seconds")

    def lines(self) -> Iterator[str]:
        """Yield the lines of the child's output as they come, until it ends."""
        while True:
            with self._lines_changed:
                self._lines_changed.wait_for(lambda: self._lines or self._output_ended)
                if not self._lines:
                    return
                line = self._lines.popleft()
            yield line

    @property
    def is_started(self) -> bool:
        """Whether `start` has been called."""
        return self._guardian is not None

    def poll(self) -> int | None:
        """Return the exit code, 128 + n after signal n; None while it runs."""
        return self._started().poll()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait for the end; return the exit code as `poll` does."""
        return self._started().wait(timeout_seconds)

    def ask_to_stop(self, grace_seconds: float | None = None) -> None:
        """Have it stopped: SIGTERM now, SIGKILL after the grace; does not wait."""
        stdin = self._started().stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                if grace_seconds is not None:
                    stdin.write(str(grace_seconds).encode("ascii"))
                stdin.close()

    def stop(self, grace_seconds: float | None = None) -> int:
        """Stop it and wait until it is gone; return the exit code as `poll` does."""
        guardian = self._started()
        self.ask_to_stop(grace_seconds)
        code = guardian.wait()
        if code < 0:  # somebody killed the guardian itself: the child is in its session still
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(guardian.pid, signal.SIGKILL)
            code = 128 - code
        return code

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._guardian is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._guardian

    def _read_lines(self, stdout: IO[bytes]) -> None:
        with stdout:
            for raw in stdout:
                with self._lines_changed:
                    self._lines.append(raw.decode("utf-8", "replace").rstrip("\r\n"))
                    self._lines_changed.notify_all()
        with self._lines_changed:
            self._output_ended = True
            self._lines_changed.notify_all()
