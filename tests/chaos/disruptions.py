"""What is done to workers and brokers; which, when and for how long is a function of the seed alone."""

import signal
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.chaos.brokers import Brokers
from tests.chaos.fleet import Fleet

MOST_WORKERS = 3
PAUSES = {"worker paused": (1.0, 5.0), "worker paused past its session": (12.0, 16.0)}
WEIGHTS = {
    "worker killed": 30,
    "worker stopped and started": 12,
    "worker paused": 10,
    "worker paused past its session": 10,
    "worker joins": 10,
    "worker leaves": 10,
    "broker killed": 8,
    "broker stopped": 4,
    "broker paused": 4,
    "all brokers killed": 2,
}
_BETWEEN_SECONDS = (0.5, 5.0)


class Disruptor:
    """Does one disruption after another, and counts them by kind.

    Parameters
    ----------
    seed
        Of all choices.
    brokers, fleet
        What to disrupt.
    tick
        Called now and then while it waits.
    """

    def __init__(self, seed: int, brokers: Brokers, fleet: Fleet, tick: Callable[[], None]) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._brokers = brokers
        self._fleet = fleet
        self._tick = tick
        self.done: Counter[str] = Counter()

    def next(self) -> str:
        """Do the next one, wait a little, and return its kind."""
        # Drawn before anybody looks at the state of the world, or timing would shift what comes later.
        names = list(WEIGHTS)
        shares = np.array(list(WEIGHTS.values()), float)
        kind = str(self._rng.choice(names, p=shares / shares.sum()))
        whom, how_long, pause = self._rng.random(3)
        self._disrupt(kind, whom, how_long)
        self.done[kind] += 1
        low, high = _BETWEEN_SECONDS
        self.wait(low + pause * (high - low))
        return kind

    def wait(self, seconds: float) -> None:
        """Let the world go on for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._fleet.supervise()
            self._tick()
            time.sleep(0.1)

    def _disrupt(self, kind: str, whom: float, how_long: float) -> None:
        if kind.startswith("worker"):
            self._disrupt_worker(kind, whom, how_long)
        else:
            self._disrupt_brokers(kind, whom, how_long)

    def _disrupt_worker(self, kind: str, whom: float, how_long: float) -> None:
        fleet = self._fleet
        fleet.supervise()
        worker = fleet.workers[int(whom * len(fleet.workers))]
        if kind == "worker killed":
            fleet.kill(worker)
        elif kind == "worker stopped and started" or (kind == "worker leaves" and len(fleet.workers) == 1):
            fleet.stop(worker)
            fleet.start()
        elif kind == "worker leaves" or (kind == "worker joins" and len(fleet.workers) >= MOST_WORKERS):
            fleet.stop(worker)
        elif kind == "worker joins":
            fleet.start()
        else:
            low, high = PAUSES[kind]
            fleet.pause(worker, low + how_long * (high - low))

    def _disrupt_brokers(self, kind: str, whom: float, how_long: float) -> None:
        brokers = self._brokers
        index = int(whom * brokers.count)
        away = 1.0 + 5.0 * how_long
        if kind == "broker paused":
            brokers.send(index, signal.SIGSTOP)
            self.wait(away)
            brokers.send(index, signal.SIGCONT)
        else:
            indices = range(brokers.count) if kind == "all brokers killed" else [index]
            for each in indices:
                brokers.stop(each) if kind == "broker stopped" else brokers.kill(each)
            self.wait(away)
            for each in indices:
                brokers.start(each)
        # One at a time: with two of three away nothing can be written, and nothing new would be learned.
        brokers.wait_until_serving()
