"""What both stages share: steps joined by bounded queues, so that one batch is decoded while another is on the device.

    put ─▶ [queue] ─▶ step ─▶ [queue] ─▶ step ─▶ ... ─▶ deliver, then mark as done

A full queue makes whoever feeds it wait, up to Kafka: memory does not grow with lag. Batches pass every step in the
order they came in, so what is done of a partition is always a prefix of it, and one offset a partition says how far.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from farpoint.bad_records import BadRecords
from farpoint.delivery import Delivery
from farpoint.metrics import Metrics
from farpoint.records import DeadLetter, IncomingRecord
from farpoint.settings import Settings
from farpoint.topics import TopicNames

_log = structlog.get_logger(__name__)


class Flush:
    """Asks a stage to finish all that came before; `done` is set when it has."""

    def __init__(self) -> None:
        self.done = asyncio.Event()


class Stage(ABC):
    """A consumer group's work, as Faust's agent feeds it.

    Parameters
    ----------
    settings
        All of them.
    delivery
        Takes what goes out.
    metrics
        The worker's.
    clock
        Seconds; replaced in tests.
    """

    def __init__(
        self, settings: Settings, delivery: Delivery, metrics: Metrics, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.names = TopicNames(settings.topics.domain)
        self.delivery = delivery
        self.metrics = metrics
        self.clock = clock
        self.delivered: dict[tuple[str, int], int] = {}
        """What is to be read next of each (topic, partition) when all outputs so far count: what lag is measured by."""
        self.done: dict[tuple[str, int], int] = {}
        """The same when only what a restart need not redo counts: what is committed."""
        self._working_since: dict[str, float] = {}
        self._bad_records = BadRecords(settings.dead_letters)
        self.hungry = asyncio.Event()
        """Set while a batch would be worked on at once: then an incomplete one does not wait for more."""
        self._waiting: asyncio.Queue[IncomingRecord | Flush] = asyncio.Queue(maxsize=self.max_records * 2)
        metrics.queue.labels(self.name).set_function(self._waiting.qsize)
        # First come, first served, which a full queue alone does not promise: a flush must not overtake a record.
        self._entrance = asyncio.Lock()

    name: str
    topics: tuple[str, ...]
    max_records: int
    """Most records in a batch."""
    max_wait_seconds: float
    """How long an incomplete batch waits for more."""

    async def put(self, record: IncomingRecord) -> None:
        """Take a record in; waits while the stage has enough to do."""
        self.metrics.records_received.labels(record.ref.topic).inc()
        # Until its first output is delivered, a partition stands where its first record is.
        self.delivered.setdefault((record.ref.topic, record.ref.partition), record.ref.offset)
        async with self._entrance:
            await self._waiting.put(record)

    async def flush(self) -> None:
        """Finish everything that was put before: outputs delivered, state saved."""
        flush = Flush()
        async with self._entrance:
            await self._waiting.put(flush)
        await flush.done.wait()

    @contextmanager
    def working(self, step: str) -> Iterator[None]:
        """Note that a step is at its own work, not waiting for the broker or for another step."""
        self._working_since[step] = time.monotonic()
        try:
            yield
        finally:
            del self._working_since[step]

    def stuck_for(self) -> float:
        """Return for how many seconds the step that works longest has not returned; 0 when idle."""
        return max((time.monotonic() - since for since in self._working_since.values()), default=0.0)

    @abstractmethod
    async def run(self) -> None:
        """Work until cancelled; an exception means the process must end."""

    @abstractmethod
    async def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Be given partitions, all that this worker now has; nothing of them was put yet."""

    async def take(self, within: float | None = None) -> tuple[list[IncomingRecord], Flush | None]:
        """Wait for a batch: whatever is there, up to `max_records`, at most `max_wait_seconds` after its first record.

        While the stage is hungry an incomplete batch does not wait at all: at low load records go alone and at once,
        and the more there is to do, the more gather meanwhile.

        Returns
        -------
        tuple
            The records, none where `within` seconds passed without any, and the flush that cut the batch short.
        """
        try:
            first = await asyncio.wait_for(self._waiting.get(), within)
        except TimeoutError:
            return [], None
        records: list[IncomingRecord] = []
        deadline = asyncio.get_running_loop().time() + self.max_wait_seconds
        item: IncomingRecord | Flush = first
        while True:
            if isinstance(item, Flush):
                return records, item
            records.append(item)
            if len(records) >= self.max_records:
                return records, None
            try:
                item = self._waiting.get_nowait()
            except asyncio.QueueEmpty:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or self.hungry.is_set():
                    return records, None
                more = await self._next_unless_hungry(left)
                if more is None:
                    return records, None
                item = more

    async def _next_unless_hungry(self, within: float) -> IncomingRecord | Flush | None:
        getting = asyncio.ensure_future(self._waiting.get())
        hungry = asyncio.ensure_future(self.hungry.wait())
        try:
            await asyncio.wait({getting, hungry}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            # A `get` that is cancelled leaves its item in the queue.
            getting.cancel()
            hungry.cancel()

    async def send_dead_letters(self, records: Sequence[IncomingRecord], letters: Sequence[DeadLetter]) -> None:
        """Deliver one dead letter for each bad record of a batch.

        Raises
        ------
        FarpointError
            Bad records are no longer single ones (see `BadRecords`); nothing of the batch is delivered then.
        """
        self._bad_records.watch(records, letters)
        failed_at = datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await self.delivery.send(
            [letter.outgoing(self.names.dead_letters(letter.record.ref.topic), failed_at) for letter in letters]
        )
        for letter in letters:
            ref = letter.record.ref
            self.metrics.dead_lettered.labels(ref.topic, str(letter.error.reason)).inc()
            _log.warning(
                "dead letter",
                topic=ref.topic,
                partition=ref.partition,
                offset=ref.offset,
                reason=str(letter.error.reason),
                message=letter.error.message,
            )

    def mark_delivered(self, positions: dict[tuple[str, int], int]) -> None:
        """Say that the outputs of everything below `positions` are delivered."""
        self.delivered |= positions
        self.metrics.record_processed_timestamp.set(self.clock())

    def forget_positions(self) -> None:
        """Forget how far partitions are that were taken away."""
        self.delivered.clear()
        self.done.clear()
        self.metrics.show_lag(self.topics, {})
