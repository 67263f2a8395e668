"""Faust, with what Farpoint needs changed. Two things let a busy partition stand still among idle ones.

*Fetches.* A consumer has one fetch under way to a broker. Partitions with records still in its buffer are left out of
it; when all others are empty, the broker holds that fetch back for as long as it may, and the busy partition waits
with it. Faust lets the broker wait 1.5 s. Now it is 50 ms: shorter ones cost an idle broker a fifth of a core, and a
lone frame gained nothing that could be measured.

*Pressure.* When a stream's queue fills, Faust leaves the partition out of its polls, and a poll that has begun
without it goes on for up to a second after the queue is empty again. A queue that blocks when it is full bounds
memory as well, and needs no pause.

Two more are about recovery.

*Idempotent producer.* Retries neither repeat nor reorder, and what follows a failed batch fails too: a gap in the log
cannot be hidden by what came behind it.

*Membership.* A worker that was paused may wake up after its partitions were given away; before it writes what must
have one writer it asks the group's coordinator.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from mode.utils.queues import ThrowableQueue

FETCH_WAIT_MS = 50
_ASK_AGAIN_SECONDS = 0.5


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def ask_membership(self) -> bool | None:
        """Ask the coordinator whether we are the member it knows; None where it did not answer."""
        return await self.call_thread(self._ask_membership)

    async def _ask_membership(self) -> bool | None:
        coordinator = self._ensure_consumer()._coordinator
        # A refused heartbeat makes aiokafka forget who it was, until it has joined again.
        if await coordinator._do_heartbeat():
            return True
        return None if coordinator.member_id else False


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Producer(driver.Producer):
    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer


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

    async def is_member(self) -> bool:
        """Say whether the group still knows us as the member that was given our partitions; waits for its answer."""
        while True:
            answer = await self.consumer._thread.ask_membership()
            if answer is not None:
                return bool(answer)
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
