"""Publishes a script at a steady pace, whatever happens to the brokers, and knows where each record came to lie."""

import threading
import time
from types import TracebackType
from typing import Any, Self

import kafka

from tests.chaos.script import Scripted, script
from tests.integration.worker_process import Topics

GIVE_UP_MS = 600_000
Place = tuple[str, int, int]


class Publishing:
    """A publisher in a thread of its own, until it is told to stop."""

    def __init__(self, topics: Topics, seed: int, records_a_second: float) -> None:
        self._names = topics.names
        self._script = script(seed)
        self._pause = 1.0 / records_a_second
        self._producer = kafka.KafkaProducer(
            bootstrap_servers=topics.bootstrap,
            enable_idempotence=True,
            linger_ms=5,
            delivery_timeout_ms=GIVE_UP_MS,
            max_block_ms=GIVE_UP_MS,
        )
        self._sent: list[tuple[Scripted, Any]] = []
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(GIVE_UP_MS / 1000)
        self._producer.close()

    @property
    def count(self) -> int:
        """How many were sent so far."""
        return len(self._sent)

    def accepted(self) -> dict[Place, Scripted]:
        """Stop, wait until the brokers have acknowledged everything, and return each record by its place."""
        self._stop.set()
        self._thread.join(GIVE_UP_MS / 1000)
        if self._failed:
            raise self._failed
        placed = {}
        for scripted, future in self._sent:
            at = future.get(GIVE_UP_MS / 1000)
            placed[at.topic, at.partition, at.offset] = scripted
        return placed

    def _run(self) -> None:
        try:
            due = time.monotonic()
            for scripted in self._script:
                if self._stop.is_set():
                    return
                topic = getattr(self._names, scripted.dataset)
                future = self._producer.send(topic, scripted.value, scripted.key, list(scripted.headers))
                self._sent.append((scripted, future))
                due += self._pause
                time.sleep(max(0.0, due - time.monotonic()))
        except BaseException as error:
            self._failed = error
