"""`farpoint worker`: what its exit code and its last line say about how the worker ended."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence

import pytest

from farpoint import cli, worker
from farpoint.errors import FarpointError
from farpoint.settings import Settings

Run = Callable[[list[str]], int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in this process and return its exit code."""
    before = signal.getsignal(signal.SIGTERM)

    def run_command(arguments: list[str]) -> int:
        monkeypatch.setattr("sys.argv", ["farpoint", "worker", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    yield run_command
    signal.signal(signal.SIGTERM, before)


class FakeWorker:
    """Stands in for `run_worker`: ends as it is told, and notes which stages it was given."""

    def __init__(self, ending: signal.Signals | Exception) -> None:
        self.ending = ending
        self.stages: tuple[str, ...] = ()
        self.rebuild = False

    async def __call__(self, settings: Settings, stages: Sequence[str], *, rebuild: bool) -> signal.Signals:
        """End."""
        del settings
        self.stages = tuple(stages)
        self.rebuild = rebuild
        if isinstance(self.ending, Exception):
            raise self.ending
        return self.ending


def fake(monkeypatch: pytest.MonkeyPatch, ending: signal.Signals | Exception) -> FakeWorker:
    """Put a fake worker in the place of the real one."""
    made = FakeWorker(ending)
    monkeypatch.setattr(worker, "run_worker", made)
    return made


@pytest.mark.parametrize(("asked_by", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_asked_to_stop(run: Run, monkeypatch: pytest.MonkeyPatch, asked_by: signal.Signals, code: int) -> None:
    """SIGTERM is an order that was carried out; Ctrl-C is told apart."""
    fake(monkeypatch, asked_by)
    assert run([]) == code


def test_asked_to_stop_before_it_has_begun(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM while libraries are still loading is carried out too: there is nothing to finish."""

    async def told_while_starting(*arguments: object, **options: object) -> signal.Signals:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(worker, "run_worker", told_while_starting)
    assert run([]) == 0


@pytest.mark.parametrize(
    ("arguments", "stages"),
    [
        ([], ("embed", "detect")),
        (["--stages", "detect"], ("detect",)),
        (["--stages", " detect , embed,detect"], ("detect", "embed")),
    ],
)
def test_stages(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], stages: tuple[str, ...]) -> None:
    """Both by default, else those named, each once."""
    made = fake(monkeypatch, signal.SIGTERM)
    assert run(arguments) == 0
    assert made.stages == stages


def test_rebuild_state(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The flag reaches the worker; without the stage that has state it is bad usage."""
    made = fake(monkeypatch, signal.SIGTERM)
    assert run(["--rebuild-state"]) == 0
    assert made.rebuild
    assert run(["--rebuild-state", "--stages", "embed"]) == 2
    assert "is for the stage `detect`" in capsys.readouterr().err


@pytest.mark.parametrize("stages", ["nonsense", "embed,nonsense", "", " , "])
def test_unknown_stages(run: Run, capsys: pytest.CaptureFixture[str], stages: str) -> None:
    """Bad usage ends with 2 and says what there is to choose from."""
    assert run(["--stages", stages]) == 2
    assert "choose from embed, detect" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        FarpointError("port taken"),
        ExceptionGroup("tasks", [FarpointError("port taken")]),
        ExceptionGroup("tasks", [ExceptionGroup("stage", [FarpointError("port taken")])]),
    ],
    ids=["bare", "of a task", "of a task's task"],
)
def test_what_a_person_can_mend(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Exit 1 with one clear line, however deep in the task groups it arose."""
    fake(monkeypatch, error)
    assert run([]) == 1
    said = capsys.readouterr().err
    assert said.rstrip().endswith("farpoint: port taken")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "error",
    [
        ExceptionGroup("tasks", [ValueError("a bug")]),
        ExceptionGroup("tasks", [FarpointError("port taken"), ValueError("a bug")]),
    ],
    ids=["alone", "beside an expected one"],
)
def test_what_nobody_expected(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Exit 1 with the stack trace: nothing is swallowed."""
    fake(monkeypatch, error)
    assert run([]) == 1
    said = capsys.readouterr().err
    assert "a bug" in said
    assert "ValueError" in said
