"""`farpoint demo` as a newcomer runs it, and every way to end it: nothing it started is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

DEMO_SECONDS = 280.0
GONE_SECONDS = 45.0

pytestmark = pytest.mark.timeout(600)


class RunningDemo:
    """A `farpoint demo --json` without a terminal, in a folder of its own.

    Everything it starts inherits a temporary folder of its own, and is known by that.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.output = folder / "output"
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        self._errors = (folder / "stderr").open("w+b")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "farpoint.cli", "demo", "--json", "--output", str(self.output), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=clean | {"TMPDIR": str(self.scratch)},
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        """What it has said on stderr so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Give what it prints, object by object, until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def left(self) -> list[str]:
        """Return the command lines of all processes that it started and that run now, itself included."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.scratch).encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        return [command for command in found if command]

    def close(self) -> None:
        """End it, whatever the test has left."""
        self.process.kill()
        self.process.wait()
        wait_for(lambda: not self.left(), "everything gone")
        self._errors.close()


StartDemo = Callable[..., RunningDemo]


@pytest.fixture
def start_demo(tmp_path: Path, kafka: str) -> Iterator[StartDemo]:
    """Start a demo with these options; Kafka's jars are there by then."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> RunningDemo:
            demo = RunningDemo(tmp_path, *options)
            stack.callback(demo.close)
            return demo

        yield start


def wait_for(condition: Callable[[], object], what: str, timeout: float = GONE_SECONDS) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain for {what}"
        time.sleep(0.2)


def is_jpeg(path: Path) -> bool:
    """Return whether a file is a whole JPEG."""
    with Image.open(path) as image:
        image.load()
        return image.format == "JPEG"


def test_the_whole_product(start_demo: StartDemo) -> None:
    """All planted strangers are found, hardly anything else; pictures and contact sheet are there; nothing is left."""
    demo = start_demo()
    printed = list(demo.lines())
    assert demo.process.wait(60) == 0, demo.said
    *alerts, summary = printed
    frames = summary["published"]
    assert frames == summary["embedded"] == summary["assigned"] > 2000
    assert summary["planted_found"] == summary["planted"] == 8
    assert summary["other_alerts"] <= 0.01 * frames
    assert summary["detectors"] == 3
    assert summary["clusters"] >= 3
    assert summary["frames_per_second"] > 0
    assert summary["seconds_to_first_alert"] > 0
    assert len(alerts) == summary["planted_found"] + summary["other_alerts"]
    for alert in alerts:
        assert 0 < alert["outlier_score"] <= 1
        assert is_jpeg(Path(alert["picture"]))
        assert Path(alert["picture"]).is_relative_to(demo.output)
    assert is_jpeg(Path(summary["contact_sheet"]))
    assert Path(summary["contact_sheet"]).parent == Path(summary["folder"])
    assert "frames decided" in demo.said, "without a terminal it says now and then how far it is"
    assert "Traceback" not in demo.said
    assert demo.left() == []
    assert list(demo.scratch.glob("farpoint-*")) == [], "no data is left in the temporary folder"


def test_ctrl_c_in_the_middle(start_demo: StartDemo) -> None:
    """Ctrl-C ends it with 130, without a stack trace and with nothing left."""
    demo = start_demo()
    wait_for(lambda: "frames decided" in demo.said, "the first frames", timeout=DEMO_SECONDS)
    assert len(demo.left()) >= 3
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(90) == 130
    assert "Traceback" not in demo.said
    assert demo.left() == []
    assert list(demo.scratch.glob("farpoint-demo-*")) == []


def test_kill_9_in_the_middle(start_demo: StartDemo) -> None:
    """Killed without a chance to clean up, Kafka and the worker end by themselves within seconds."""
    demo = start_demo()
    wait_for(lambda: "starting the worker" in demo.said, "Kafka", timeout=DEMO_SECONDS)
    wait_for(lambda: any("java" in command for command in demo.left()), "Java")
    wait_for(lambda: any(" worker" in command for command in demo.left()), "the worker")
    demo.process.kill()
    demo.process.wait()
    wait_for(lambda: not demo.left(), "Kafka and worker gone")


def test_keep(start_demo: StartDemo) -> None:
    """With --keep Kafka and worker stay up after the summary, and say where, until Ctrl-C."""
    demo = start_demo("--keep")
    lines = demo.lines()
    summary = next(line for line in lines if "planted" in line)
    assert summary["assigned"] == summary["published"]
    assert demo.process.poll() is None
    assert any("java" in command for command in demo.left())
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(90) == 130
    assert demo.left() == []
