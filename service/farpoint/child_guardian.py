"""The process between a `ChildProcess` and us: it starts the child, and ends it when we are gone, however we went.

Run as a script (`python -I -S child_guardian.py GRACE PID_FILE COMMAND...`), so it uses the standard library alone. Its
standard input is a pipe whose other end only our process holds: the kernel closes that end when our process ends,
`kill -9` included, on every Unix. What is written there before the end is the grace in seconds, in place of GRACE.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run the command until it ends or our standard input does; return its exit code, 128 + n after signal n."""
    grace, pid_file, *command = arguments
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_guardian)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    if pid_file:
        with open(f"{pid_file}.draft", "w", encoding="ascii") as file:  # noqa: PTH123 -- pathlib is slow to import
            file.write(f"{child.pid}\n")
        os.replace(f"{pid_file}.draft", pid_file)  # noqa: PTH105 -- nobody ever reads half a number
    # A signal to us is meant for the child: end it the same way as when our parent goes.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: child.terminate())
    threading.Thread(target=_end_child_after_parent, args=(child, float(grace)), daemon=True).start()
    code = child.wait()
    if pid_file:
        with contextlib.suppress(OSError):
            os.unlink(pid_file)  # noqa: PTH108
    return code if code >= 0 else 128 - code


def _end_child_after_parent(child: "subprocess.Popen[bytes]", grace: float) -> None:
    said = b""
    # os.read, not sys.stdin: a thread inside a buffered reader would hold its lock when the interpreter ends.
    while chunk := os.read(0, 64):
        said += chunk
    with contextlib.suppress(ValueError):
        grace = float(said)
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()


def _end_with_guardian() -> None:
    """Linux only, a second belt: the kernel also ends the child when somebody kills the guardian itself."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(exit_code)  # the thread still waits on standard input
