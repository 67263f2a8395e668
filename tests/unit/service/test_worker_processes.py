"""Several workers of one command: ready together, stopped together, and none dies unnoticed."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from farpoint import worker_processes
from farpoint.child_process import ChildProcess
from farpoint.errors import FarpointError
from farpoint.settings import Settings
from farpoint.worker_processes import worker_commands

SUPERVISOR = """
import sys
from farpoint.log import configure_logging
from farpoint.settings import LogSettings
from farpoint.worker_processes import run_processes
configure_logging(LogSettings())
scripts = sys.argv[1:]
sys.exit(run_processes([[sys.executable, "-c", script] for script in scripts], [{}] * len(scripts)))
"""
# Says that it is ready, and ends with a code of its own on SIGTERM, as a worker does with 0.
GOOD = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({code})); {first}; time.sleep(120)"
READY = "print('worker ready', flush=True)"


def good(code: int = 0, first: str = READY) -> str:
    """Return a worker that goes on until it is stopped."""
    return GOOD.format(code=code, first=first)


def supervisor(folder: Path, *scripts: str) -> ChildProcess:
    """Return a supervisor of workers that are small scripts."""
    return ChildProcess(
        [sys.executable, "-c", textwrap.dedent(SUPERVISOR), *scripts],
        name="the supervisor",
        error_output=folder / "stderr",
        pid_file=folder / "pid",
        env=os.environ,
    )


def send(folder: Path, name: signal.Signals) -> None:
    """Send a signal to the supervisor itself."""
    os.kill(int((folder / "pid").read_text(encoding="ascii")), name)


@pytest.mark.parametrize(("name", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_ready_once_and_stopped_together(tmp_path: Path, name: signal.Signals, code: int) -> None:
    """One line when the last is ready; a signal ends them all and is told apart as with one worker."""
    with supervisor(tmp_path, good(), good(first=f"time.sleep(0.5); {READY}")) as process:
        process.wait_for_line("worker ready", 60)
        send(tmp_path, name)
        assert process.wait(60) == code
        assert not list(process.lines()), "it said so once"


def test_not_ready_before_the_last(tmp_path: Path) -> None:
    """While one of them is not ready, nothing is said."""
    with supervisor(tmp_path, good(first="print('one', flush=True)"), good()) as process:
        process.wait_for_line("one", 60)
        with pytest.raises(FarpointError, match="did not say"):
            process.wait_for_line("worker ready", 1)


@pytest.mark.parametrize(("code", "shown"), [(3, 3), (0, 1)])
def test_one_that_dies_ends_all(tmp_path: Path, code: int, shown: int) -> None:
    """A worker that ends unasked ends the whole with its exit code; without one, with 1."""
    left = tmp_path / "left"
    other = good(first=f"import atexit, pathlib; atexit.register(pathlib.Path({str(left)!r}).touch); {READY}")
    with supervisor(tmp_path, other, f"import time; time.sleep(1.5); raise SystemExit({code})") as process:
        assert process.wait(60) == shown
    assert left.exists(), "the other was stopped in order"
    assert "ended unasked" in (tmp_path / "stderr").read_text(encoding="utf-8")


def test_one_that_stops_badly_is_not_forgotten(tmp_path: Path) -> None:
    """When a worker fails while it is being stopped, the whole failed."""
    with supervisor(tmp_path, good(), good(code=7)) as process:
        process.wait_for_line("worker ready", 60)
        send(tmp_path, signal.SIGTERM)
        assert process.wait(60) == 7


def test_ports_threads_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker has a port of its own, its share of the cores and, where there are several, one GPU."""
    monkeypatch.setattr(worker_processes, "usable_cores", lambda: 8)
    monkeypatch.setattr(worker_processes, "cuda_device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    commands, environments = worker_commands(Settings(http={"port": 9000}), 3, ["--stages", "embed"])
    assert [environment["FARPOINT_HTTP__PORT"] for environment in environments] == ["9000", "9001", "9002"]
    assert {environment["FARPOINT_EMBEDDER__THREADS"] for environment in environments} == {"2"}
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["0", "1", "0"]
    assert commands[0][-3:] == ["worker", "--stages", "embed"]
    _, environments = worker_commands(Settings(embedder={"device": "cpu", "threads": 5}), 2, [])
    assert "CUDA_VISIBLE_DEVICES" not in environments[0]
    assert environments[0]["FARPOINT_EMBEDDER__THREADS"] == "5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    _, environments = worker_commands(Settings(), 2, [])
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["3", "5"]


def test_too_many_for_the_ports() -> None:
    """Ports end at 65535, and the error names the setting."""
    with pytest.raises(FarpointError, match="FARPOINT_HTTP__PORT"):
        worker_commands(Settings(http={"port": 65535}), 2, [])
