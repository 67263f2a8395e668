"""The detect stage without a broker: outputs, then checkpoints, then done; in this order and never another."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from tests.unit.service.stage_kit import NAMES, FakeClock, NotedDelivery, parts, record, until
from tests.vectors import as_json, clustered, outlier

from farpoint import detect_stage
from farpoint.checkpoint import Checkpoint, read_checkpoint
from farpoint.detect_stage import DetectStage
from farpoint.errors import FarpointError
from farpoint.records import IncomingRecord

AT = (NAMES.embeddings, 0)


def vectors(offset: int, key: bytes = b"d", count: int = 20) -> IncomingRecord:
    """Return a record of clustered vectors."""
    return record(NAMES.embeddings, offset, as_json(clustered(np.random.default_rng(offset), count)), key)


@asynccontextmanager
async def running(
    timer: FakeClock | None = None, **settings: Any
) -> AsyncIterator[tuple[DetectStage, NotedDelivery, FakeClock]]:
    """Run a stage for as long as the context lasts; the checkpoints are due every 5 seconds of its clock, or timer."""
    chosen, delivery, metrics, clock = parts(**{"detector": {"warm_up": 64, "clusters": 8}} | settings)
    stage = DetectStage(chosen, delivery, metrics, clock, timer=clock if timer is None else timer)
    delivery.stage = stage
    task = asyncio.create_task(stage.run())
    try:
        yield stage, delivery, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(stage: DetectStage, offset: int) -> None:
    """Wait until the outputs of everything below an offset are delivered."""
    await until(lambda: stage.delivered.get(AT) == offset)


async def test_one_record_of_decisions_for_one_of_vectors() -> None:
    """Same key, same partition, same order, and the alerts keyed by their source."""
    async with running() as (stage, delivery, _):
        for offset in range(6):
            await stage.put(vectors(offset))
        item = {"id": "odd", "source": "cam-9"}
        await stage.put(record(NAMES.embeddings, 6, as_json(outlier(), [item])))
        await asyncio.wait_for(stage.flush(), 30)
        batches = delivery.to(NAMES.assignments)
        assert [json.loads(batch.value or b"")["embeddings"]["offset"] for batch in batches] == list(range(7))
        assert {(batch.key, batch.partition) for batch in batches} == {(b"d", 0)}
        (alert,) = delivery.to(NAMES.alerts)
        assert (alert.key, dict(alert.headers)["ce_id"]) == (b"cam-9", b"odd")
        assert delivery.to(NAMES.cluster_events)


async def test_decisions_are_counted_by_the_names_on_the_lists() -> None:
    """Listed detectors and sources have counts of their own, the others one together; the total is what it was."""
    async with running(metrics={"detectors": "d", "sources": "cam-9"}) as (stage, _, clock):
        for offset in range(6):
            await stage.put(vectors(offset))
        await stage.put(vectors(6, key=b"e"))
        await stage.put(record(NAMES.embeddings, 7, as_json(outlier(), [{"id": "odd", "source": "cam-9"}])))
        await asyncio.wait_for(stage.flush(), 30)
        value = stage.metrics.registry.get_sample_value
        assert value("farpoint_detector_vectors_assigned_total", {"detector": "d"}) == 121
        assert value("farpoint_detector_vectors_assigned_total", {"detector": "other"}) == 20
        assert value("farpoint_source_vectors_assigned_total", {"source": "cam-9"}) == 1
        assert value("farpoint_source_vectors_assigned_total", {"source": "other"}) == 140
        assert value("farpoint_vectors_assigned_total") == 141
        assert value("farpoint_detector_outlier_alerts_total", {"detector": "d"}) == 1
        assert value("farpoint_source_outlier_alerts_total", {"source": "cam-9"}) == 1
        assert value("farpoint_source_outlier_alert_timestamp_seconds", {"source": "cam-9"}) == clock.now
        assert value("farpoint_source_outlier_alert_timestamp_seconds", {"source": "other"}) == 0
        assert value("farpoint_detectors_warming_up") == 1  # e
        assert value("farpoint_false_alarm_rate_ratio") == 0.001


async def test_outputs_then_checkpoint_then_done() -> None:
    """Of what is done the outputs were delivered, and after them a checkpoint that covers it."""
    async with running() as (stage, delivery, clock):
        for offset in range(40):
            await stage.put(vectors(offset))
            if offset % 7 == 0:
                clock.now += 6
            await asyncio.sleep(0.002)
        await asyncio.wait_for(stage.flush(), 30)
        assert stage.done == {AT: 40}
        decided = covered = checkpoints = 0
        for outgoing, done in zip(delivery.sent, delivery.done_before, strict=True):
            if outgoing.topic == NAMES.assignments:
                decided = json.loads(outgoing.value or b"")["embeddings"]["offset"] + 1
            elif outgoing.topic == NAMES.detector_state:
                checkpoints += 1
                next_offset = read_checkpoint(outgoing.value or b"").next_offset
                assert next_offset <= decided, "a checkpoint before the outputs it covers"
                covered = next_offset
            assert done.get(AT, 0) <= covered, "done before a checkpoint that covers it"
        assert checkpoints >= 3
        assert covered == 40


async def test_nothing_is_done_without_a_checkpoint() -> None:
    """Decided and delivered is not done: after the first checkpoint nothing moves until the next is due."""
    async with running() as (stage, delivery, _):
        await stage.put(vectors(0))
        await until(lambda: stage.done.get(AT) == 1)  # the first is due at once
        for offset in range(1, 9):
            await stage.put(vectors(offset))
        await settled(stage, 9)
        await asyncio.sleep(0.05)
        assert stage.done == {AT: 1}
        assert len(delivery.to(NAMES.detector_state)) == 1


async def test_a_checkpoint_comes_though_nothing_else_does() -> None:
    """What was decided last is saved when the time has come, even where no record follows; once is enough."""
    async with running(detector={"checkpoint_seconds": 0.2}) as (stage, delivery, clock):
        await stage.put(vectors(0))
        await until(lambda: stage.done.get(AT) == 1)
        await stage.put(vectors(1))
        await settled(stage, 2)
        assert stage.done == {AT: 1}
        clock.now += 1
        await until(lambda: stage.done.get(AT) == 2)
        assert read_checkpoint(delivery.to(NAMES.detector_state)[-1].value or b"").next_offset == 2
        clock.now += 10
        await asyncio.sleep(0.3)
        assert len(delivery.to(NAMES.detector_state)) == 2


async def test_a_clock_that_is_set_back_delays_no_checkpoint() -> None:
    """The time of day may jump back an hour: five seconds later what was decided is saved and done all the same."""
    timer = FakeClock()
    async with running(timer) as (stage, delivery, clock):
        await stage.put(vectors(0))
        await until(lambda: stage.done.get(AT) == 1)
        clock.now -= 3600
        timer.now += 6
        await stage.put(vectors(1))
        await until(lambda: stage.done.get(AT) == 2)
        assert len(delivery.to(NAMES.detector_state)) == 2


async def test_only_detectors_that_changed_are_saved() -> None:
    """A checkpoint is written for each detector with news, and for no other."""
    async with running() as (stage, delivery, _):
        for offset, key in enumerate([b"a", b"b", b"a", b"c"]):
            await stage.put(vectors(offset, key))
        await asyncio.wait_for(stage.flush(), 30)
        before = len(delivery.to(NAMES.detector_state))
        await stage.put(vectors(4, b"b"))
        await asyncio.wait_for(stage.flush(), 30)
        news = delivery.to(NAMES.detector_state)[before:]
        assert [outgoing.key for outgoing in news] == [b"b"]
        await asyncio.wait_for(stage.flush(), 30)
        assert len(delivery.to(NAMES.detector_state)) == before + 1


async def test_bad_records_wait_for_the_checkpoint_too() -> None:
    """A bad record becomes a dead letter between its neighbours' decisions, and is done with them."""
    async with running() as (stage, delivery, clock):
        await stage.put(vectors(0))
        await until(lambda: stage.done.get(AT) == 1)
        await stage.put(record(NAMES.embeddings, 1, b"no JSON"))
        await settled(stage, 2)
        assert stage.done == {AT: 1}
        await stage.put(vectors(2))
        await asyncio.wait_for(stage.flush(), 30)
        (letter,) = delivery.to(f"{NAMES.embeddings}.dlq")
        assert (letter.value, dict(letter.headers)["dlq.reason"]) == (b"no JSON", b"malformed_payload")
        assert len(delivery.to(NAMES.assignments)) == 2
        assert stage.done == {AT: 3}
        del clock


async def test_a_bad_first_record_founds_no_detector() -> None:
    """What is invalid for a detector that does not exist leaves none behind, with a dimension or model of its own."""
    async with running() as (stage, delivery, _):
        await stage.put(record(NAMES.embeddings, 0, b'{"model": "wrong", "vectors": [[0, 0]]}'))
        await stage.put(vectors(1))
        await asyncio.wait_for(stage.flush(), 30)
        assert len(delivery.to(f"{NAMES.embeddings}.dlq")) == 1
        assert len(delivery.to(NAMES.assignments)) == 1


async def test_a_detector_too_large_for_kafka_founds_nothing() -> None:
    """Its records are dead letters, from the first on; nothing is scored or saved, and the position moves on."""
    async with running(detector={"warm_up": 1_000_000}, media={"max_record_bytes": 2**21}) as (stage, delivery, _):
        await stage.put(vectors(0))
        await stage.put(vectors(1))
        await asyncio.wait_for(stage.flush(), 30)
        letters = delivery.to(f"{NAMES.embeddings}.dlq")
        assert [dict(letter.headers)["dlq.reason"] for letter in letters] == [b"dimension_mismatch"] * 2
        assert b"FARPOINT_DETECTOR__WARM_UP=1000000" in dict(letters[0].headers)["dlq.message"]
        assert len(delivery.sent) == 2
        assert stage.done == {AT: 2}


async def test_many_bad_records_end_the_stage() -> None:
    """Over the limit the stage fails; of that batch nothing is delivered and nothing done."""
    chosen, delivery, metrics, clock = parts(dead_letters={"max_in_a_row": 3})
    stage = DetectStage(chosen, delivery, metrics, clock)
    for offset in range(3):
        await stage.put(record(NAMES.embeddings, offset, b"text"))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(stage.run(), 30)
    assert caught.group_contains(FarpointError, match="3 bad records in a row")
    assert not delivery.sent
    assert not stage.done


async def test_a_replaced_writer_writes_no_checkpoint() -> None:
    """Paused and replaced, it may repeat decisions, which are the same; it writes no state and nothing is done."""
    async with running() as (stage, delivery, _):
        delivery.is_owner = False
        for offset in range(3):
            await stage.put(vectors(offset))
        await asyncio.wait_for(stage.flush(), 30)
        assert len(delivery.to(NAMES.assignments)) == 3
        assert not delivery.to(NAMES.detector_state)
        assert not stage.done


async def test_a_restored_stage_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a partition, it loads that partition's checkpoints and decides as if it had never stopped."""
    async with running() as (whole, expected, _):
        for offset in range(12):
            await whole.put(vectors(offset))
        await asyncio.wait_for(whole.flush(), 30)
    async with running() as (first, before, _):
        for offset in range(7):
            await first.put(vectors(offset))
        await asyncio.wait_for(first.flush(), 30)
    asked: list[Any] = []

    def load(settings: Any, topic: str, partitions: Any) -> dict[tuple[int, str], Checkpoint]:
        asked.append((topic, partitions))
        checkpoint = read_checkpoint(before.to(NAMES.detector_state)[-1].value or b"")
        return {(0, "d"): checkpoint}

    monkeypatch.setattr(detect_stage, "load_checkpoints", load)
    async with running() as (second, after, _):
        await second.assign({AT})
        assert asked == [(NAMES.detector_state, {0})]
        assert second.metrics.registry.get_sample_value("farpoint_detectors") == 1
        for offset in range(5, 12):  # two come again
            await second.put(vectors(offset))
        await asyncio.wait_for(second.flush(), 30)
        assert second.done == {AT: 12}
    decided = [outgoing.value for outgoing in before.to(NAMES.assignments) + after.to(NAMES.assignments)]
    assert decided == [outgoing.value for outgoing in expected.to(NAMES.assignments)]
    assert after.to(NAMES.detector_state)[-1].value == expected.to(NAMES.detector_state)[-1].value


async def test_detectors_that_are_gone_leave_no_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a detector scores, its threshold is shown; when its partition is given away, no detector's is."""
    monkeypatch.setattr(detect_stage, "load_checkpoints", lambda *_: {})
    async with running() as (stage, _, _):
        value = stage.metrics.registry.get_sample_value
        for offset in range(6):
            await stage.put(vectors(offset))
        await asyncio.wait_for(stage.flush(), 30)
        assert value("farpoint_outlier_threshold_ratio") == pytest.approx(0.75)
        await stage.assign(set())
        assert value("farpoint_detectors") == 0
        assert value("farpoint_outlier_threshold_ratio") == 0


async def test_batches_do_not_change_decisions() -> None:
    """How many records one batch happens to hold decides nothing."""
    async with running() as (stage, at_once, _):
        for offset in range(12):
            await stage.put(vectors(offset))
        await asyncio.wait_for(stage.flush(), 30)
    async with running() as (stage, one_by_one, _):
        for offset in range(12):
            await stage.put(vectors(offset))
            await asyncio.wait_for(stage.flush(), 30)
    for topic in (NAMES.assignments, NAMES.cluster_events):
        assert [out.value for out in at_once.to(topic)] == [out.value for out in one_by_one.to(topic)]


async def test_detectors_of_one_partition_do_not_mix() -> None:
    """Two detectors that share a partition decide as each would alone."""
    async with running() as (stage, mixed, _):
        for offset in range(12):
            await stage.put(vectors(offset, b"a" if offset % 2 else b"b"))
        await asyncio.wait_for(stage.flush(), 30)
    async with running() as (stage, alone, _):
        for offset in range(1, 12, 2):
            await stage.put(vectors(offset, b"a"))
        await asyncio.wait_for(stage.flush(), 30)
    of_a = [out.value for out in mixed.to(NAMES.assignments) if out.key == b"a"]
    assert of_a == [out.value for out in alone.to(NAMES.assignments)]
