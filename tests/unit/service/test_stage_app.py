"""The gate between Faust and a stage: nothing passes before the state is there, nor what a rebalance overtook."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from tests.unit.service.stage_kit import NAMES

from farpoint.metrics import Metrics
from farpoint.settings import Settings
from farpoint.stage_app import StageApp


class NotingStage:
    """Notes what it is given and asked, in order."""

    name = "detect"

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.restoring = asyncio.Event()
        self.done: dict[tuple[str, int], int] = {}
        self.delivered: dict[tuple[str, int], int] = {}
        self.metrics = Metrics(NAMES, ["detect"])

    async def put(self, record: Any) -> None:
        """Note a record."""
        self.seen.append(record.ref.offset)

    async def flush(self) -> None:
        """Note a flush."""
        self.seen.append("flush")

    async def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Take as long as the test says to restore."""
        del partitions
        self.seen.append("restoring")
        await self.restoring.wait()
        self.seen.append("restored")

    def forget_positions(self) -> None:
        """Note that positions are forgotten."""
        self.seen.append("forgot")


def message(offset: int, generation: int) -> Any:
    """Return a message as Faust has it."""
    return SimpleNamespace(
        topic=NAMES.embeddings, partition=0, offset=offset, timestamp=0.0, key=b"d", value=b"", headers=None,
        generation_id=generation,
    )  # fmt: skip


TP = TopicPartition(NAMES.embeddings, 0)


@pytest.fixture
async def app() -> AsyncIterator[StageApp]:
    """Return an app whose stage only takes notes."""
    made = StageApp(Settings(), "detect", fetch_bytes=2**20)
    made._stage = NotingStage()  # type: ignore[assignment]
    made.faust.consumer_generation_id = 1
    yield made
    shutil.rmtree(made._datadir)


def stage_of(app: StageApp) -> NotingStage:
    """Return the stage of an app."""
    stage: Any = app.stage
    assert isinstance(stage, NotingStage)
    return stage


async def test_records_wait_until_the_state_is_restored(app: StageApp) -> None:
    """Faust may hand over records while the assignment is still at work: the stage sees them after it."""
    stage = stage_of(app)
    assigning = asyncio.create_task(app._on_assigned(app.faust, {TP}))
    handing = asyncio.create_task(app._hand_over(message(7, generation=1)))
    await asyncio.sleep(0.02)
    assert stage.seen == ["restoring"]
    stage.restoring.set()
    await asyncio.wait_for(asyncio.gather(assigning, handing), 10)
    assert stage.seen == ["restoring", "restored", 7]


async def test_what_a_rebalance_overtook_is_dropped(app: StageApp) -> None:
    """A record of an earlier generation is read again from where Kafka's offsets say: it must not come twice."""
    stage = stage_of(app)
    stage.restoring.set()
    handing = asyncio.create_task(app._hand_over(message(7, generation=1)))
    await asyncio.sleep(0.02)
    app.faust.consumer_generation_id = 2
    await app._on_assigned(app.faust, {TP})
    await asyncio.wait_for(handing, 10)
    await app._hand_over(message(5, generation=2))
    assert stage.seen == ["restoring", "restored", 5]


async def test_nothing_is_taken_in_behind_the_drain(app: StageApp) -> None:
    """What comes after a drain has begun would be decided and not committed, so it is not taken in."""
    stage = stage_of(app)
    stage.restoring.set()
    await app._on_assigned(app.faust, {TP})
    await app._hand_over(message(1, generation=1))
    await app.drain()
    late = asyncio.create_task(app._hand_over(message(2, generation=1)))
    await asyncio.sleep(0.02)
    assert stage.seen == ["restoring", "restored", 1, "flush"]
    assert not app.assigned.is_set()
    late.cancel()


async def test_revoked_partitions_are_finished_first(app: StageApp) -> None:
    """Work is flushed while the partitions are still ours; only then are their positions forgotten."""
    stage = stage_of(app)
    stage.restoring.set()
    await app._on_assigned(app.faust, {TP})
    await app._on_revoked(app.faust, {TP})
    assert stage.seen == ["restoring", "restored", "flush", "forgot"]
    assert not app.assigned.is_set()


class NotingConsumer:
    """Knows where logs end and where it reads, as Faust's consumer does; may lose its second partition meanwhile."""

    def __init__(self, *, loses_one: bool = False) -> None:
        self._partitions = [TP, TopicPartition(NAMES.embeddings, 1)]
        self._loses_one = loses_one

    def assignment(self) -> set[TopicPartition]:
        """Return what it reads now."""
        return set(self._partitions)

    async def highwaters(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """Return where their logs end."""
        if self._loses_one:
            self._partitions.pop()
        return {partition: 100 + partition.partition for partition in partitions}

    async def position(self, partition: TopicPartition) -> int:
        """Return what is read next."""
        del partition
        return 90


async def test_lag_counts_what_is_not_delivered(app: StageApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read but not delivered is lag; a partition of which nothing came counts from where it is read."""
    monkeypatch.setattr(app.faust, "_consumer", NotingConsumer())
    stage_of(app).delivered[NAMES.embeddings, 0] = 60
    assert await app.lag() == {(NAMES.embeddings, 0): 40, (NAMES.embeddings, 1): 11}


async def test_a_partition_that_moves_meanwhile_has_no_lag_here(app: StageApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given to another worker while Kafka was asked is that worker's to show."""
    monkeypatch.setattr(app.faust, "_consumer", NotingConsumer(loses_one=True))
    assert set(await app.lag()) == {(NAMES.embeddings, 0)}


async def test_assignments_are_counted(app: StageApp) -> None:
    """Each time that partitions were given is one rebalance."""
    stage = stage_of(app)
    stage.restoring.set()
    for _ in range(2):
        await app._on_assigned(app.faust, {TP})
    assert stage.metrics.registry.get_sample_value("farpoint_rebalances_total", {"stage": "detect"}) == 2
