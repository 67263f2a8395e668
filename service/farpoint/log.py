"""Logging to stderr: readable on a terminal, one JSON object a line otherwise.

Either way nothing that is logged acts on a terminal: JSON is written in ASCII, and text for people is made printable.
"""

import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

from farpoint.console import printable
from farpoint.settings import LogSettings

# Libraries whose ordinary chatter would drown ours; their warnings still show.
_QUIET = ("aiokafka", "faust", "mode", "kafka", "aiohttp.access", "jgo", "urllib3", "asyncio", "farpoint.faust_app")
_REPEATED_SECONDS = 30.0
# Faust's, at every first rebalance, about something that nobody needs.
_NEVER = ("Missing sensor state",)


class Repeats(logging.Filter):
    """Lets a library's warning through once in 30 seconds, the next time with how often it came meanwhile.

    While the broker is away its clients say so seventy times a second.

    Parameters
    ----------
    clock
        Seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is to be shown."""
        if not record.name.startswith(_QUIET):
            return True
        text = str(record.msg)
        if any(never in text for never in _NEVER):
            return False
        # The line of code that says it: whatever the particulars, and no more of them than the libraries have.
        what = (record.name, record.lineno)
        now = self._clock()
        last, more = self._said.get(what, (-math.inf, 0))
        if now - last < _REPEATED_SECONDS:
            self._said[what] = (last, more + 1)
            return False
        self._said[what] = (now, 0)
        if more:
            record.msg = f"{text} ({more} more of these)"
        return True


def configure_logging(settings: LogSettings) -> None:
    """Send our log and the libraries' to stderr, in one format."""
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    level = getattr(logging, settings.level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shared.append(structlog.processors.format_exc_info if as_json else _make_printable)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _make_printable(logger: Any, method: str, event: Any) -> Any:
    # Sources, subjects and ids come from whoever may write to a topic.
    del logger, method
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}
