"""A child process ends with us, however we end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farpoint.child_process import ChildProcess
from farpoint.errors import FarpointError

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]


def test_lines_and_exit_code(tmp_path: Path) -> None:
    """Lines before the awaited one are dropped, those after it can be read, and the exit code is the command's."""
    code = "import sys; print('a'); print('ready b'); print('c'); print('oops', file=sys.stderr); sys.exit(3)"
    with ChildProcess([sys.executable, "-c", code], name="child", error_output=tmp_path / "err") as child:
        assert child.wait_for_line("ready", 10) == "ready b"
        assert list(child.lines()) == ["c"]
        assert child.wait(10) == child.poll() == child.stop() == 3
    assert (tmp_path / "err").read_text(encoding="utf-8") == "oops\n"


def test_child_that_ends_too_early() -> None:
    """Waiting for a line of a child that ends is an error that names its exit code."""
    with (
        ChildProcess([sys.executable, "-c", "raise SystemExit(4)"], name="the child") as child,
        pytest.raises(FarpointError, match="the child ended with exit code 4 before it said 'ready'"),
    ):
        child.wait_for_line("ready", 10)


def test_child_that_says_nothing() -> None:
    """Waiting for a line has an end."""
    with (
        ChildProcess([sys.executable, "-c", "import time; time.sleep(600)"], name="the child") as child,
        pytest.raises(FarpointError, match=r"the child did not say 'ready' within 0\.2 seconds"),
    ):
        child.wait_for_line("ready", 0.2)


def test_command_that_does_not_exist(tmp_path: Path) -> None:
    """A command that cannot be started ends with 127 and says so."""
    child = ChildProcess(["/no/such/command"], name="child", output=tmp_path / "out")
    child.start()
    assert child.wait(10) == 127
    assert "/no/such/command: No such file or directory" in (tmp_path / "out").read_text(encoding="utf-8")


def test_stop_terminates_and_removes_the_pid_file(tmp_path: Path) -> None:
    """Stopping sends SIGTERM; the pid file names the child while it runs, and only then."""
    child = ChildProcess(SLEEP, name="child", pid_file=tmp_path / "pid")
    child.start()
    child.wait_for_line("ready", 10)
    pid = int((tmp_path / "pid").read_text(encoding="ascii"))
    assert is_alive(pid)
    assert child.stop() == 128 + signal.SIGTERM
    assert not is_alive(pid)
    assert not (tmp_path / "pid").exists()


def test_stubborn_child_is_killed_after_the_grace() -> None:
    """A child that ignores SIGTERM is killed after the grace given to stop."""
    with ChildProcess(STUBBORN, name="child", grace_seconds=600) as child:
        child.wait_for_line("ready", 10)
        started = time.monotonic()
        assert child.stop(grace_seconds=0.3) == 128 + signal.SIGKILL
        assert 0.3 <= time.monotonic() - started < 5


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [SLEEP, STUBBORN], ids=["willing", "stubborn"])
def test_child_ends_with_its_parent(tmp_path: Path, signum: signal.Signals, command: list[str]) -> None:
    """However the parent is killed, the child is gone soon after, even one that ignores SIGTERM."""
    parent_code = f"""
from pathlib import Path
from farpoint.child_process import ChildProcess
import signal, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup a hangup would be ignored
child = ChildProcess({command!r}, name="child", pid_file=Path({str(tmp_path / "pid")!r}), grace_seconds=0.3)
child.start()
child.wait_for_line("ready", 10)
print("started", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        child = int((tmp_path / "pid").read_text(encoding="ascii"))
        assert is_alive(child)
        parent.send_signal(signum)
        try:
            parent.wait(10)
        finally:
            parent.kill()
        assert gone_within(child, 5)


def test_killed_guardian_leaves_no_child(tmp_path: Path) -> None:
    """When somebody kills the guardian itself, stopping still leaves no child."""
    child = ChildProcess(STUBBORN, name="child", pid_file=tmp_path / "pid")
    child.start()
    child.wait_for_line("ready", 10)
    pid = int((tmp_path / "pid").read_text(encoding="ascii"))
    assert child._guardian is not None
    child._guardian.kill()
    assert child.wait(10) == -signal.SIGKILL
    assert child.stop() == 128 + signal.SIGKILL
    assert gone_within(pid, 5)


def test_open_descriptor_lives_as_long_as_the_child(tmp_path: Path) -> None:
    """A descriptor to keep open is held by the guardian, not only by us: its pipe ends when the child does."""
    reader, writer = os.pipe()
    with ChildProcess(SLEEP, name="child", keep_open=[writer]) as child:
        os.close(writer)
        os.set_blocking(reader, False)
        child.wait_for_line("ready", 10)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_child_that_was_never_started() -> None:
    """Asking after a child that was not started is our mistake, and said so."""
    with pytest.raises(RuntimeError, match="has not been started"):
        ChildProcess(SLEEP, name="child").stop()


def is_alive(pid: int) -> bool:
    """Return whether there is such a process; a zombie that nobody has collected yet is as good as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):  # no /proc, or gone meanwhile
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return True


def gone_within(pid: int, seconds: float) -> bool:
    """Return whether the process ends in time."""
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
