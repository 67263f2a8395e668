"""A pace: so many pictures a second."""

import time
from collections.abc import Callable


class Pace:
    """So many a second.

    Parameters
    ----------
    fps
        How many; None: no pace.
    sleep, clock
        How to wait and to tell the time.

    Examples
    --------
    >>> waits = []
    >>> pace = Pace(4, sleep=waits.append, clock=lambda: 100.0)
    >>> for _ in range(3):
    ...     pace.wait()
    >>> waits
    [0.25, 0.5]
    """

    def __init__(
        self,
        fps: float | None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / fps if fps else 0.0
        self._sleep = sleep
        self._clock = clock
        self._next: float | None = None

    def wait(self) -> None:
        """Wait for the next turn."""
        if not self._interval:
            return
        if self._next is not None and (ahead := self._next - self._clock()) > 0:
            self._sleep(ahead)
        self._take_turn()

    def due(self) -> bool:
        """Say whether it is time for the next one, and take the turn if so: a camera cannot be made to wait."""
        if self._interval and self._next is not None and self._clock() < self._next:
            return False
        self._take_turn()
        return True

    def _take_turn(self) -> None:
        now = self._clock()
        # After a long hold-up the pace starts afresh: making up for it would be a burst.
        late = self._next is None or now - self._next > max(1.0, self._interval)
        self._next = (now if late or self._next is None else self._next) + self._interval
