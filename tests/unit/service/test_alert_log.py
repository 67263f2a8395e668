"""The alerts topic as a reader sees it, tried on records that never were in Kafka."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from farpoint import alert_log
from farpoint.alert_log import read_alerts, save_picture
from farpoint.records import IncomingRecord
from farpoint.topic_reader import TopicReader
from farpoint.wire import OutlierAlert, RecordRef, data_url


def an_alert(name: str, minute: int, **changes: Any) -> dict[str, Any]:
    """Make an alert's event."""
    return {
        "id": name,
        "detector": "shared",
        "source": "cam-1",
        "time": f"2026-01-01T00:{minute:02d}:00.000Z",
        "detected_at": "2026-01-01T01:00:00.000Z",
        "subject": None,
        "media": None,
        "region": None,
        "outlier_score": 0.97,
        "p_value": 0.0002,
        "threshold": 0.95,
        "nearest_clusters": [],
        "thumbnail": data_url(b"\xff\xd8picture"),
        "model": "m@1",
        "metadata": {},
    } | changes


class FakeReader:
    """Gives records as if read from a topic of one partition."""

    def __init__(self, stored: list[bytes | None], coming: list[bytes | None] | None = None) -> None:
        self._stored, self._coming, self._from = stored, coming or [], 0

    def seek_to_last(self, count: int) -> None:
        """Stand before the last `count`."""
        self._from = max(0, len(self._stored) - count)

    def to_end(self) -> Iterator[IncomingRecord]:
        """Give what is stored."""
        yield from (_record(value) for value in self._stored[self._from :])

    def follow(self) -> Iterator[IncomingRecord]:
        """Give what comes."""
        yield from (_record(value) for value in self._coming)


def _record(value: bytes | None) -> IncomingRecord:
    return IncomingRecord(RecordRef("alerts", 0, 0, 0), None, value, [])


def names(reader: FakeReader, **options: Any) -> list[str]:
    """Read the alerts and return their ids."""
    return [stored.alert.id for stored in read_alerts(cast("TopicReader", reader), **options)]


def encoded(*events: dict[str, Any]) -> list[bytes | None]:
    """Write events as records hold them."""
    return [json.dumps(event).encode() for event in events]


def test_alerts_come_in_order_of_time_and_once() -> None:
    """Partitions are mixed by time, and an alert that was sent twice shows once."""
    stored = encoded(an_alert("c", 3), an_alert("a", 1), an_alert("c", 3), an_alert("b", 2))
    assert names(FakeReader(stored)) == ["a", "b", "c"]


def test_the_newest_are_the_last() -> None:
    """The newest two are shown oldest first."""
    assert names(FakeReader(encoded(*(an_alert(f"{n}", n) for n in range(5)))), last=2) == ["3", "4"]


def test_following_goes_on_behind_the_newest() -> None:
    """New ones come as they come; one that was shown already is not shown again."""
    reader = FakeReader(encoded(an_alert("a", 1)), encoded(an_alert("a", 1), an_alert("c", 3), an_alert("b", 2)))
    assert names(reader, last=20, follow=True) == ["a", "c", "b"]


def test_what_is_no_alert_hides_none(caplog: pytest.LogCaptureFixture) -> None:
    """Foreign or broken records are logged and passed over."""
    stored = [b"text", None, b"{}", b"\xff", b'{"a":' * 5000, *encoded(an_alert("a", 1))]
    with caplog.at_level(logging.WARNING):
        assert names(FakeReader(stored)) == ["a"]


def test_a_long_log_is_sorted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: what is further apart than the window is taken as it lies."""
    monkeypatch.setattr(alert_log, "_SORTED_AT_ONCE", 2)
    assert names(FakeReader(encoded(*(an_alert(f"{n}", n) for n in (2, 1, 4, 3, 0))))) == ["1", "2", "0", "3", "4"]


def test_fields_unknown_to_us_are_kept() -> None:
    """A newer Farpoint may say more: the event is passed on whole."""
    reader = FakeReader(encoded(an_alert("a", 1, later="field")))
    [stored] = read_alerts(cast("TopicReader", reader))
    assert stored.event["later"] == "field"


@pytest.mark.parametrize("name", ["../../escape", "/etc/x", "..", "a\x00b", "ü" * 300, ".hidden"])
def test_a_picture_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    """Whatever the id, the file lies in the folder and holds the picture."""
    alert = msgspec.convert(an_alert(name, 1, time=name), OutlierAlert)
    path = save_picture(alert, tmp_path / "pictures")
    assert path is not None
    assert path.resolve().parent == (tmp_path / "pictures").resolve()
    assert path.read_bytes() == b"\xff\xd8picture"


@pytest.mark.parametrize("thumbnail", [None, "data:image/jpeg;base64,%%%", "x"])
def test_without_a_picture_there_is_no_file(tmp_path: Path, thumbnail: str | None) -> None:
    """No picture or a broken one leaves no file behind."""
    alert = msgspec.convert(an_alert("a", 1, thumbnail=thumbnail), OutlierAlert)
    assert save_picture(alert, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
