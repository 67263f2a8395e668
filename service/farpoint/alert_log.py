"""The alerts topic as a reader sees it: each alert once, in order of time."""

import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from farpoint.errors import FarpointError
from farpoint.records import IncomingRecord
from farpoint.topic_reader import TopicReader
from farpoint.wire import OutlierAlert, picture_bytes

# An alert with its picture is about 5 kB: sorting more at once would take memory without end on a long log, and the
# partitions are read side by side, so what lies further apart than this is in order already.
_SORTED_AT_ONCE = 10_000
_IDS_REMEMBERED = 100_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StoredAlert:
    """An alert and the whole event it was read from, fields unknown to us included."""

    alert: OutlierAlert
    event: dict[str, Any]


def read_alerts(reader: TopicReader, *, last: int | None = None, follow: bool = False) -> Iterator[StoredAlert]:
    """Give the alerts of a topic, each once.

    Parameters
    ----------
    reader
        Of the alerts topic.
    last
        Begin with the newest so many; None: with the oldest there are.
    follow
        After those, give new ones as they come, for ever.
    """
    seen: dict[str, None] = {}
    if last is None:
        yield from _once(_in_order(_decoded(reader.to_end())), seen)
    else:
        # Any partition may hold them all.
        reader.seek_to_last(last)
        there = sorted(_once(_decoded(reader.to_end()), seen), key=_moment)
        yield from there[-last:]
    if follow:
        yield from _once(_decoded(reader.follow()), seen)


def _decoded(records: Iterable[IncomingRecord]) -> Iterator[StoredAlert]:
    for record in records:
        try:
            event = msgspec.json.decode(record.value or b"")
            yield StoredAlert(msgspec.convert(event, OutlierAlert), event)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            # Anybody may write to a topic; what is no alert must not hide those behind it.
            _log.warning(
                "not_an_alert",
                topic=record.ref.topic,
                partition=record.ref.partition,
                offset=record.ref.offset,
                error=ascii(str(error))[:200],
            )


def _once(alerts: Iterable[StoredAlert], seen: dict[str, None]) -> Iterator[StoredAlert]:
    for stored in alerts:
        if stored.alert.id in seen:
            continue
        seen[stored.alert.id] = None
        if len(seen) > _IDS_REMEMBERED:
            del seen[next(iter(seen))]  # the oldest: a dict keeps the order
        yield stored


def _in_order(alerts: Iterable[StoredAlert]) -> Iterator[StoredAlert]:
    waiting: list[tuple[float, int, StoredAlert]] = []
    for number, stored in enumerate(alerts):
        entry = (_moment(stored), number, stored)
        if len(waiting) < _SORTED_AT_ONCE:
            heapq.heappush(waiting, entry)
        else:
            yield heapq.heappushpop(waiting, entry)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _moment(stored: StoredAlert) -> float:
    try:
        return datetime.fromisoformat(stored.alert.time).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def save_picture(alert: OutlierAlert, folder: Path) -> Path | None:
    """Write an alert's picture into a folder; None where it has none.

    The name is made of its time and id, with whatever could lead out of the folder taken out.
    """
    try:
        picture = picture_bytes(alert.thumbnail)
    except ValueError:
        _log.warning("broken_picture", alert=ascii(alert.id))
        return None
    if not picture:
        return None
    path = folder / f"{_file_name(alert.time)}_{_file_name(alert.id)}.jpg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    except OSError as error:
        raise FarpointError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".")[:100] or "unnamed"
