"""Delivery of what goes out: sent in order, awaited until every replica has it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from farpoint.records import OutgoingRecord


class Delivery(Protocol):
    """Takes records and returns when the broker has acknowledged all of them."""

    async def send(self, records: Sequence[OutgoingRecord]) -> None:
        """Deliver `records`, in this order for records of one partition."""

    async def send_as_owner(self, records: Sequence[OutgoingRecord]) -> bool:
        """Deliver `records` if the partitions they were made from are still ours; return whether they are."""


class FaustDelivery:
    """Delivery by the producer of a Faust app.

    A failed delivery raises what the producer raised: the process ends, and Kafka redelivers what it was made from.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def send(self, records: Sequence[OutgoingRecord]) -> None:
        """Deliver `records`, in this order for records of one partition."""
        producer = await self._app.maybe_start_producer()
        futures = [
            await producer.send(
                record.topic,
                record.key,
                record.value,
                record.partition,
                None if record.timestamp is None else record.timestamp / 1000,
                list(record.headers),
            )
            for record in records
        ]
        await asyncio.gather(*futures)

    async def send_as_owner(self, records: Sequence[OutgoingRecord]) -> bool:
        """Deliver `records` if the partitions they were made from are still ours; return whether they are."""
        if not await self._app.is_member():
            return False
        await self.send(records)
        return True
