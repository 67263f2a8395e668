"""A stage as a Faust app: one app is one consumer group.

Faust brings the consumer, the rebalance protocol and the producer. Acknowledgement is ours: Faust's own acks an event
in `finally`, also when the work failed, and acks what it skips around a rebalance, so a record could be committed
that nobody processed. Here topics are declared with `acks=False`, a stage says how far each partition is done, and
that, and nothing else, is committed.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import structlog

from farpoint.errors import FarpointError
from farpoint.faust_app import FaustApp
from farpoint.kafka_credentials import faust_credentials
from farpoint.records import IncomingRecord
from farpoint.settings import Settings
from farpoint.stage import Stage
from farpoint.topics import largest_record
from farpoint.wire import RecordRef

COMMIT_SECONDS = 1.0
# A worker killed with -9 keeps its partitions for so long. Heartbeats come from a thread of their own every 3 s, so
# three may be lost before a healthy worker is taken for dead.
SESSION_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class StageApp:
    """Runs one stage in its consumer group.

    Parameters
    ----------
    settings
        All of them.
    stage_name
        `embed` or `detect`; the group is `<group_id>-<stage_name>`.
    fetch_bytes
        How much one fetch takes of one partition; bounds the memory that waiting records take.
    """

    def __init__(self, settings: Settings, stage_name: str, fetch_bytes: int) -> None:
        self._datadir = Path(tempfile.mkdtemp(prefix="farpoint-faust-"))  # Faust insists on a folder; we keep nothing
        self.group = settings.kafka.group_of(stage_name)
        self.faust = FaustApp(
            self.group,
            broker=";".join(f"kafka://{server}" for server in settings.kafka.servers),
            broker_credentials=faust_credentials(settings.kafka),
            broker_client_id=self.group,
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=3.0,
            broker_max_poll_records=64,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=fetch_bytes,
            stream_buffer_maxsize=64,
            stream_wait_empty=False,
            # A dead letter is larger than the record it was.
            producer_max_request_size=largest_record(settings.media) + 2**18,
            producer_max_batch_size=256 * 1024,
            table_standby_replicas=0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            agent_supervisor="mode.CrashingSupervisor",
            web_enabled=False,
            store="memory://",
            datadir=str(self._datadir),
        )
        self.assigned = asyncio.Event()
        self._stage: Stage | None = None
        self._committed: dict[tuple[str, int], int] = {}
        self._failure: asyncio.Queue[FarpointError] = asyncio.Queue()

    def attach(self, stage: Stage) -> None:
        """Make `stage` this app's only agent."""
        self._stage = stage
        topic = self.faust.topic(
            *stage.topics, key_serializer="raw", value_serializer="raw", allow_empty=True, acks=False, internal=True
        )

        async def feed(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._hand_over(event.message)

        self.faust.agent(topic, name=f"farpoint.{stage.name}")(feed)
        self.faust.on_partitions_revoked.connect(self._on_revoked, weak=False)
        self.faust.on_partitions_assigned.connect(self._on_assigned, weak=False)

    async def _hand_over(self, message: Any) -> None:
        # Faust lets records flow while `on_partitions_assigned` is still at work: none may reach the stage before it
        # has restored what it goes on from. One that yet another rebalance overtook meanwhile will be read again.
        await self.assigned.wait()
        if message.generation_id == self.faust.consumer_generation_id:
            await self.stage.put(_record(message))

    @property
    def stage(self) -> Stage:
        """The stage that was attached."""
        assert self._stage is not None  # noqa: S101 -- attach comes first
        return self._stage

    async def run(self) -> None:
        """Consume until cancelled; an exception means the process must end."""
        await self.faust.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._raise_failure())
            tasks.create_task(self._commit_now_and_then())

    async def drain(self) -> None:
        """Take nothing more in, finish what was taken in, and commit it."""
        self.assigned.clear()
        await self.stage.flush()
        await self.commit()

    async def stop(self) -> None:
        """Leave the group."""
        await self.faust.stop()
        shutil.rmtree(self._datadir, ignore_errors=True)

    async def commit(self) -> None:
        """Tell Kafka how far each partition is done."""
        news = {at: offset for at, offset in self.stage.done.items() if self._committed.get(at) != offset}
        if news:
            consumer = self.faust.consumer
            # The public `commit` goes by Faust's acks, which we do not use (see above).
            if await consumer._commit({consumer._new_topicpartition(*at): offset for at, offset in news.items()}):
                self._committed |= news

    async def lag(self) -> dict[tuple[str, int], int]:
        """Count, for each assigned (topic, partition), the records whose outputs are not delivered."""
        consumer = self.faust.consumer
        partitions = consumer.assignment()
        if not partitions:
            return {}
        ends = await consumer.highwaters(*partitions)
        lag = {}
        for tp, end in ends.items():
            at = (tp.topic, tp.partition)
            position = self.stage.delivered.get(at)
            if position is None:  # nothing since the start: Kafka knows from where we read
                position = await consumer.position(tp)
            lag[at] = max(0, (end or 0) - (position or 0))
        # While we asked, partitions may have been given to others.
        still = {(tp.topic, tp.partition) for tp in consumer.assignment()}
        return {at: records for at, records in lag.items() if at in still}

    async def _watch(self) -> None:
        await self.faust.wait(asyncio.Event().wait())  # returns when Faust stops or crashes
        if self.faust.crash_reason:
            raise self.faust.crash_reason
        raise FarpointError(f"the consumer group {self.group} ended unexpectedly")

    async def _raise_failure(self) -> None:
        raise await self._failure.get()

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            if self.assigned.is_set():
                await self.commit()

    async def _on_revoked(self, app: Any, revoked: Any, **kwargs: Any) -> None:
        del app, kwargs
        if not revoked:
            return
        _log.info("partitions revoked", group=self.group, partitions=len(revoked))
        # What was taken in is finished and committed while the partitions are still ours, so that whoever is given them
        # starts behind it. Should that fail, the work is done twice, with the same result.
        await self.drain()
        self.stage.forget_positions()
        self._committed.clear()

    async def _on_assigned(self, app: Any, assigned: Any, **kwargs: Any) -> None:
        del app, kwargs
        try:
            await self.stage.assign({(tp.topic, tp.partition) for tp in assigned})
        except FarpointError as error:
            # Something a person can mend. Raised here it would end Faust, with stack traces instead of the one line.
            self._failure.put_nowait(error)
            return
        self.assigned.set()
        self.stage.metrics.rebalances.labels(self.stage.name).inc()
        _log.info("partitions assigned", group=self.group, partitions=len(assigned))


def _record(message: Any) -> IncomingRecord:
    ref = RecordRef(message.topic, message.partition, message.offset, round((message.timestamp or 0) * 1000))
    return IncomingRecord(ref, message.key, message.value, message.headers or ())
