"""What the unit tests of the stages share: records without a broker, a delivery that only writes down."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from farpoint.metrics import Metrics
from farpoint.records import IncomingRecord, OutgoingRecord
from farpoint.settings import Settings
from farpoint.stage import Stage
from farpoint.topics import TopicNames
from farpoint.wire import Headers, RecordRef

NAMES = TopicNames("vision")
MOMENT = 1_767_225_600_000
"""2026-01-01 in milliseconds."""


def record(
    topic: str, offset: int, value: bytes | None, key: bytes | None = b"d", headers: Headers = (), partition: int = 0
) -> IncomingRecord:
    """Return a record as it comes from Kafka."""
    return IncomingRecord(RecordRef(topic, partition, offset, MOMENT + offset), key, value, headers)


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = MOMENT / 1000

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class NotedDelivery:
    """Keeps what is sent, and says at each send what was done by then."""

    def __init__(self) -> None:
        self.sent: list[OutgoingRecord] = []
        self.done_before: list[dict[tuple[str, int], int]] = []
        self.stage: Stage | None = None
        self.is_owner = True

    async def send_as_owner(self, records: Sequence[OutgoingRecord]) -> bool:
        """Deliver, while nobody else has taken over."""
        if self.is_owner:
            await self.send(records)
        return self.is_owner

    async def send(self, records: Sequence[OutgoingRecord]) -> None:
        """Deliver, with a pause in which others would run ahead if they could."""
        await asyncio.sleep(0.01 if records else 0)
        for outgoing in records:
            self.sent.append(outgoing)
            self.done_before.append(dict(self.stage.done) if self.stage else {})

    def to(self, topic: str) -> list[OutgoingRecord]:
        """Return what was sent to a topic."""
        return [outgoing for outgoing in self.sent if outgoing.topic == topic]


def parts(clock: FakeClock | None = None, **settings: Any) -> tuple[Settings, NotedDelivery, Metrics, FakeClock]:
    """Return what every stage is made of."""
    chosen = Settings(**settings)
    return chosen, NotedDelivery(), Metrics(NAMES, ["embed", "detect"], chosen.metrics), clock or FakeClock()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
