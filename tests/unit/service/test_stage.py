"""What both stages share: batches, flushes, dead letters, and when single bad records are an outage."""

import asyncio
from typing import Any

from tests.unit.service.stage_kit import NotedDelivery, parts, record

from farpoint.records import DeadLetter
from farpoint.stage import Stage
from farpoint_models.errors import InvalidReason, InvalidRecord

TOPIC = "vision.frames.v1"
BAD = InvalidRecord(InvalidReason.CORRUPT_IMAGE, "the JPEG picture is broken")


class PlainStage(Stage):
    """A stage that does nothing by itself."""

    name = "plain"
    topics = (TOPIC,)
    max_records = 4
    max_wait_seconds = 0.05

    async def run(self) -> None:
        """Do nothing."""

    async def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Do nothing."""


def plain_stage(**settings: Any) -> tuple[PlainStage, NotedDelivery]:
    """Return a stage and what it delivers to."""
    chosen, delivery, metrics, clock = parts(**settings)
    return PlainStage(chosen, delivery, metrics, clock), delivery


async def test_a_full_batch_does_not_wait() -> None:
    """As many records as a batch takes make one at once; the rest is for the next."""
    stage, _ = plain_stage()
    stage.max_wait_seconds = 3600
    for offset in range(6):
        await stage.put(record(TOPIC, offset, b""))
    first, _ = await asyncio.wait_for(stage.take(), 10)
    assert [taken.ref.offset for taken in first] == [0, 1, 2, 3]
    stage.max_wait_seconds = 0.01
    second, flush = await stage.take()
    assert [taken.ref.offset for taken in second] == [4, 5]
    assert flush is None


async def test_an_incomplete_batch_waits_for_more() -> None:
    """Records that come within the wait join the batch."""
    stage, _ = plain_stage()
    stage.max_wait_seconds = 30
    await stage.put(record(TOPIC, 0, b""))
    taking = asyncio.create_task(stage.take())
    await asyncio.sleep(0.01)
    for offset in (1, 2, 3):
        await stage.put(record(TOPIC, offset, b""))
    records, _ = await asyncio.wait_for(taking, 10)
    assert len(records) == 4


async def test_nothing_within_the_time() -> None:
    """Where no record comes in time the batch is empty."""
    stage, _ = plain_stage()
    assert await stage.take(within=0.01) == ([], None)
    assert await stage.take(within=0) == ([], None)


async def test_a_flush_cuts_the_batch() -> None:
    """What was put before a flush is in the batch that carries it, what came after is not."""
    stage, _ = plain_stage()
    stage.max_wait_seconds = 3600
    await stage.put(record(TOPIC, 0, b""))
    flushing = asyncio.create_task(stage.flush())
    await asyncio.sleep(0)
    await stage.put(record(TOPIC, 1, b""))
    records, flush = await asyncio.wait_for(stage.take(), 10)
    assert [taken.ref.offset for taken in records] == [0]
    assert flush is not None
    assert not flushing.done()
    flush.done.set()
    await asyncio.wait_for(flushing, 10)


async def test_a_flush_does_not_overtake_a_record_that_waits_for_room() -> None:
    """Before a full queue records and flushes go in as they came."""
    stage, _ = plain_stage()
    stage.max_wait_seconds = 0
    for offset in range(8):
        await stage.put(record(TOPIC, offset, b""))
    putting = asyncio.create_task(stage.put(record(TOPIC, 8, b"")))
    await asyncio.sleep(0.01)
    assert not putting.done(), "a full queue makes the feeder wait"
    # The flush comes in the very moment when there is room, before the record that waits has woken up.
    flushing = asyncio.create_task(stage.flush())
    stage._waiting.get_nowait()
    seen: list[int] = []
    flush = None
    while flush is None:
        records, flush = await asyncio.wait_for(stage.take(), 10)
        seen += [taken.ref.offset for taken in records]
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]
    flush.done.set()
    await asyncio.gather(putting, flushing)


async def test_dead_letters_are_delivered_and_counted() -> None:
    """One dead letter a bad record, on the topic of its topic, in the metric by reason."""
    stage, delivery = plain_stage()
    bad = record(TOPIC, 7, b"x")
    await stage.send_dead_letters([bad], [DeadLetter(bad, BAD)])
    (letter,) = delivery.sent
    assert letter.topic == f"{TOPIC}.dlq"
    assert dict(letter.headers)["dlq.failed-at"] == b"2026-01-01T00:00:00.000Z"
    labels = {"topic": TOPIC, "reason": "corrupt_image"}
    assert stage.metrics.registry.get_sample_value("farpoint_records_dead_lettered_total", labels) == 1


def test_being_stuck_is_measured_by_step() -> None:
    """A step at work shows how long; an idle stage is never stuck."""
    stage, _ = plain_stage()
    assert stage.stuck_for() == 0
    with stage.working("one"), stage.working("two"):
        assert stage.stuck_for() > 0
    assert stage.stuck_for() == 0


async def test_a_partition_stands_where_its_first_record_is() -> None:
    """Until its first output is delivered nothing of what was taken in counts as delivered."""
    stage, _ = plain_stage()
    await stage.put(record(TOPIC, 41, b""))
    await stage.put(record(TOPIC, 42, b""))
    assert stage.delivered == {(TOPIC, 0): 41}
    stage.mark_delivered({(TOPIC, 0): 42})
    await stage.put(record(TOPIC, 43, b""))
    assert stage.delivered == {(TOPIC, 0): 42}


async def test_what_waits_is_shown() -> None:
    """The queue's gauge counts the records that no batch has taken yet."""
    stage, _ = plain_stage()
    stage.max_wait_seconds = 0.01
    for offset in range(5):
        await stage.put(record(TOPIC, offset, b""))
    value = stage.metrics.registry.get_sample_value
    assert value("farpoint_queue_records", {"stage": "plain"}) == 5
    await stage.take()
    assert value("farpoint_queue_records", {"stage": "plain"}) == 1


def test_positions_forgotten_are_lag_forgotten() -> None:
    """With the partitions their lag goes, at once."""
    stage, _ = plain_stage()
    stage.metrics.show_lag([TOPIC], {(TOPIC, 0): 3})
    stage.forget_positions()
    assert (
        stage.metrics.registry.get_sample_value("farpoint_consumer_lag_records", {"topic": TOPIC, "partition": "0"})
        is None
    )
