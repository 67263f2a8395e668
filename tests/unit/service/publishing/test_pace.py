"""Pace logic on a clock of the test's own."""

from farpoint.publishing.pace import Pace


class Clock:
    """A clock that moves when somebody sleeps, or when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def paced(clock: Clock, fps: float | None) -> Pace:
    """Return a pace that lives on the clock."""
    return Pace(fps, sleep=clock.sleep, clock=clock)


def test_wait_keeps_the_rate_whatever_the_work_takes() -> None:
    """Turns come at the rate asked for, the time of the work in between included."""
    clock = Clock()
    pace = paced(clock, 10)
    turns = []
    for _ in range(5):
        pace.wait()
        turns.append(round(clock.now - 100, 6))
        clock.now += 0.03
    assert turns == [0, 0.1, 0.2, 0.3, 0.4]


def test_no_pace_never_sleeps() -> None:
    """Without a rate nothing is waited for and everything is due."""
    clock = Clock()
    pace = paced(clock, None)
    for _ in range(3):
        pace.wait()
        assert pace.due()
    assert clock.now == 100


def test_no_burst_after_a_hold_up() -> None:
    """After a long hold-up turns come at the rate again, not all at once."""
    clock = Clock()
    pace = paced(clock, 10)
    pace.wait()
    clock.now += 60
    pace.wait()
    before = clock.now
    pace.wait()
    assert round(clock.now - before, 6) == 0.1


def test_due_thins_a_live_stream() -> None:
    """Of a camera of 32 frames a second, a pace of 4 takes each eighth."""
    clock = Clock()
    pace = paced(clock, 4)
    taken = []
    for index in range(64):
        clock.now = 100 + index / 32
        if pace.due():
            taken.append(index)
    assert taken == list(range(0, 64, 8))
