"""The log: stderr only, JSON lines where no person looks."""

import json
import logging
from typing import Literal

import pytest
import structlog

from farpoint.log import Repeats, configure_logging
from farpoint.settings import LogSettings


@pytest.fixture(autouse=True)
def _restored_logging() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and the libraries' lines are JSON objects on stderr; stdout is left to results."""
    configure_logging(LogSettings())
    structlog.get_logger("farpoint.x").info("batch_done", frames=3)
    logging.getLogger("aiohttp.server").warning("slow %s", "client")
    captured = capsys.readouterr()
    assert captured.out == ""
    ours, theirs = (json.loads(line) for line in captured.err.splitlines())
    assert (ours["event"], ours["frames"], ours["level"], ours["logger"]) == ("batch_done", 3, "info", "farpoint.x")
    assert theirs["event"] == "slow client"


def test_an_exception_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A stack trace does not break the lines up."""
    configure_logging(LogSettings(format="json"))
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("farpoint.x").exception("failed")
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]


def test_the_level_holds_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Less severe lines are not shown, and libraries' chatter is quiet even where ours shows."""
    configure_logging(LogSettings(level="info"))
    structlog.get_logger("farpoint.x").debug("detail")
    logging.getLogger("kafka.conn").info("connected")
    assert capsys.readouterr().err == ""


def test_console_lines_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Readable lines can be asked for without a terminal, and then have no colours."""
    configure_logging(LogSettings(format="console"))
    structlog.get_logger("farpoint.x").info("batch_done", frames=3)
    err = capsys.readouterr().err
    assert "batch_done" in err
    assert "frames=3" in err
    assert "\x1b" not in err


def line(name: str, text: str, *args: object) -> logging.LogRecord:
    """Return a warning as a library makes it."""
    return logging.LogRecord(name, logging.WARNING, "client.py", 17, text, args, None)


def test_what_a_library_repeats_is_said_now_and_then() -> None:
    """The same warning comes once in 30 seconds, whatever its particulars, then with the number left out between."""
    now = 1000.0
    repeats = Repeats(lambda: now)
    shown = [repeats.filter(line("aiokafka.client", "no node %s", number)) for number in range(100)]
    assert shown == [True] + [False] * 99
    assert repeats.filter(line("aiokafka.conn", "no node %s", 1))
    now += 31
    again = line("aiokafka.client", "no node %s", 7)
    assert repeats.filter(again)
    assert again.getMessage() == "no node 7 (99 more of these)"


def test_what_we_say_is_always_shown() -> None:
    """No line of our own is left out: each dead letter has one."""
    repeats = Repeats(lambda: 0.0)
    assert all(repeats.filter(line("farpoint.stage", "dead letter")) for _ in range(5))


@pytest.mark.parametrize("form", ["console", "json"])
def test_hostile_text_does_not_act_on_a_terminal(
    capsys: pytest.CaptureFixture[str], form: Literal["console", "json"]
) -> None:
    """Whatever is logged, in an event or a field, by us or a library: no escape codes, line breaks or overrides."""
    hostile = "a\x1b[2Jb\r\nfarpoint: all is well\u202egpj"
    configure_logging(LogSettings(format=form))
    structlog.get_logger("farpoint.x").warning("dead letter", source=hostile, detectors=[hostile], by={"id": hostile})
    logging.getLogger("aiokafka").warning("topic %s", hostile)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 2
    assert all(character.isprintable() or character == "\n" for character in err)
