"""Faust, with two things changed that let a busy partition stand still among idle ones.

*Fetches.* A consumer has one fetch under way to a broker. Partitions with records still in its buffer are left out of
it; when all others are empty, the broker holds that fetch back for as long as it may, and the busy partition waits
with it. Faust lets the broker wait 1.5 s.

*Pressure.* When a stream's queue fills, Faust leaves the partition out of its polls, and a poll that has begun
without it goes on for up to a second after the queue is empty again. A queue that blocks when it is full bounds
memory as well, and needs no pause.
"""

from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from mode.utils.queues import ThrowableQueue

FETCH_WAIT_MS = 50


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


class _BlockingQueue(ThrowableQueue):
    def in_pressure_high_state(self, callback: Any) -> bool:
        del callback
        return False


class FaustApp(faust.App):
    """A `faust.App` whose fetches end within `FETCH_WAIT_MS` and whose streams block when full, and never pause."""

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Any:  # noqa: N802
        """Make the queue of a stream."""
        return _BlockingQueue(maxsize=maxsize, flow_control=self.flow_control, clear_on_resume=clear_on_resume)

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)
