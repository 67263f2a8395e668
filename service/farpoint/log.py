"""Logging to stderr: readable on a terminal, one JSON object a line otherwise."""

import logging
import sys
from typing import Any

import structlog

from farpoint.settings import LogSettings

# Libraries whose ordinary chatter would drown ours; their warnings still show.
_QUIET = ("aiokafka", "faust", "mode", "kafka", "aiohttp.access", "jgo", "urllib3", "asyncio")


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
    if as_json:
        shared.append(structlog.processors.format_exc_info)
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # It warns at every first rebalance about a sensor state that nobody needs.
    logging.getLogger("faust.app.base").setLevel(logging.ERROR)
