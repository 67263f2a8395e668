"""What a distance means: a p-value against a sliding window of recent normal distances."""

import numpy as np

from .geometry import Array

WINDOW = 8192
PENDING = 64
"""Vectors wait until so many are together before the window is sorted anew, ..."""
PENDING_SHARE = 32
"""... or a 32nd of the window, whichever is more."""
TAIL = 4.0
"""The window is believed down to this many times the false alarm rate; what is rarer is extrapolated."""
TAIL_SIZE = 8
"""... and not beyond its eight largest distances."""
EXCESS = 1.2
"""... nor beyond 1.2 times the share flagged lately: a contaminated stream has outliers below the threshold too."""
FLAGGED_MEMORY = 2048.0
"""Vectors over which that share is averaged."""
SPAN = 25.0
"""The tail is extrapolated from shares up to this many times larger."""
WIDEST = 0.2
"""... and never from shares above this: the body says nothing about the tail."""
SHAPES = (-1.0, 0.5)
"""Bounds of the tail's shape: from a wall (uniform) to heavy."""
SHAPE_PRIOR = 16.0
"""The tail's shape counts like a guess of 0 (exponential) made from so many distances."""
LIGHT = 0.5
"""A tail that looks lighter than exponential is believed by half: the shoulder of a bell looks lighter than its tail
is, and the threshold would lie too low (half as many alarms again as asked for)."""
SCREEN = 2.0
"""Warm-up distances may lie twice as far out as an exponential tail fitted to median and 90 % would have them."""
LARGEST_RATE = 0.2
"""Above this there is no tail left to speak of."""


class Calibration:
    """Conformal p-values with an extrapolated tail.

    Within the window the p-value is the share of recent normal distances at least as large (conformal prediction: Vovk,
    Gammerman & Shafer, 2005; for outliers Laxhammar & Falkman, 2010). That cannot say "one in 1,000" after 256 vectors,
    so the rarest distances are extrapolated with a generalised Pareto tail, as SPOT does (Siffer et al., 2017).

    Departure: what was flagged never enters the window, or a burst of outliers would lift the threshold; but then each
    false alarm is missing from it, and a threshold read off the largest distances left creeps down for ever. So it is
    read off distances that are never flagged: three quantiles (Pickands, 1975) at shares of 4 times the false alarm
    rate and more, each corrected for the share that is missing. If the threshold is too low and flags r instead of the
    rate a, the next one flags (3 a + r) / 4: the error shrinks instead of feeding itself.

    Parameters
    ----------
    false_alarm_rate
        Share of normal vectors that may be flagged, at most 0.2.
    window
        Distances remembered.

    Attributes
    ----------
    limit : float
        Distance from which p <= false_alarm_rate.

    Examples
    --------
    >>> calibration = Calibration(0.001)
    >>> calibration.seed(np.linspace(0.1, 0.2, 256))
    >>> calibration.rarity(np.array([0.0, 0.15, 0.19])).round(1) + 0.0
    array([0. , 0.3, 1. ])
    >>> bool(calibration.rarity(np.array([0.3]))[0] > 3)
    True
    """

    def __init__(self, false_alarm_rate: float, window: int = WINDOW) -> None:
        if not 0.0 < false_alarm_rate <= LARGEST_RATE:
            raise ValueError(f"false_alarm_rate must be above 0 and at most {LARGEST_RATE}")
        self.false_alarm_rate = false_alarm_rate
        self.window = window
        self.recent = np.zeros(0)
        self.pending = np.zeros(0)
        self.seeded = 0
        self.held_out = 0
        self.flagged = false_alarm_rate
        self.ordered = np.zeros(0)
        self._fit()

    def _fit(self) -> None:
        n = len(self.ordered)
        rate = self.false_alarm_rate
        self.start, self.start_share, self.limit = 0.0, min(1.0, TAIL * rate), np.inf
        if n == 0:
            return
        last = min(max(TAIL * rate, EXCESS * self.flagged, (TAIL_SIZE + 1.0) / (n + 1.0)), 0.25)
        first = max(min(SPAN * last, WIDEST), 2.0 * last)
        ratio = np.sqrt(first / last)
        shares = np.array([first, first / ratio, last])
        in_window = (shares - rate) / (1.0 - rate)  # the flagged share is not there
        low, middle, high = _quantiles(self.ordered, 1.0 - in_window)
        # Where distances are all alike there is no tail to measure: then a fiftieth of the distance is one.
        smallest = max(0.02 * float(high), 1e-4)
        inner, outer = max(middle - low, smallest), max(high - middle, smallest)
        shape = np.clip(np.log(outer / inner) / np.log(ratio), *SHAPES)
        beyond = np.log(last / rate)
        shape *= n * last / (n * last + SHAPE_PRIOR)
        if shape < 0.0:
            shape *= LIGHT
        shape *= np.log(TAIL) / max(beyond, np.log(TAIL))  # a shape taken further than that runs away
        # high - middle and limit - high are the same tail over log(ratio) and log(last / rate).
        step = (
            beyond / np.log(ratio)
            if abs(shape) < 1e-6
            else np.expm1(shape * beyond) / -np.expm1(-shape * np.log(ratio))
        )
        self.start, self.start_share = float(high), float(last)
        self.limit = self.start + float(outer * step)

    def seed(self, distances: Array) -> None:
        """Start the window with distances (N,) of the warm-up; they leave, one for one, as real ones come.

        What lies far beyond the tail that the body of the distances promises is dropped: a warm-up may hold outliers.
        """
        middle, body = np.quantile(distances, [0.5, 0.9])
        far = body + SCREEN * (body - middle) / np.log(5.0) * np.log(0.1 / min(self.false_alarm_rate, 0.05))
        self.recent = distances[distances <= far]
        self.seeded = len(self.recent)
        self.ordered = np.sort(self.recent)
        self._fit()

    def rarity(self, distances: Array) -> Array:
        """-log10 of the p-values (N,) of distances (N,); not negative, rising with the distance.

        Beyond the window it rises as from the window's end to the limit, in proportion to the distance.
        """
        n = len(self.ordered)
        above = n - np.searchsorted(self.ordered, distances, side="left")
        rate = self.false_alarm_rate
        within = -np.log10(np.maximum(rate + (1.0 - rate) * (above + 1.0) / (n + 1.0), self.start_share))
        slope = np.log10(self.start_share / rate) / (self.limit - self.start)
        return np.where(distances > self.start, (distances - self.start) * slope - np.log10(self.start_share), within)

    def learn(self, distances: Array, flagged: Array) -> None:
        """Fold distances (N,) of one batch into the window, but for those `flagged` (N,) as outliers."""
        self.pending = np.concatenate([self.pending, distances[~flagged]])
        self.held_out += int(np.count_nonzero(flagged))
        waiting = len(self.pending) + self.held_out
        if waiting < max(PENDING, len(self.recent) // PENDING_SHARE):
            return
        self.flagged += min(1.0, waiting / FLAGGED_MEMORY) * (self.held_out / waiting - self.flagged)
        self.held_out = 0
        leaving = min(self.seeded, len(self.pending))
        self.seeded -= leaving
        self.pending = self.pending[-self.window :]
        leaving = max(leaving, len(self.recent) + len(self.pending) - self.window)
        self.ordered = _replaced(self.ordered, np.sort(self.recent[:leaving]), np.sort(self.pending))
        self.recent = np.concatenate([self.recent[leaving:], self.pending])[-self.window :]
        self.pending = np.zeros(0)
        self._fit()

    def state(self) -> dict[str, Array]:
        """Arrays that restore this window."""
        return {
            "recent": self.recent,
            "pending": self.pending,
            "counts": np.array([self.seeded, self.held_out], np.int64),
            "flagged": np.array([self.flagged]),
        }

    def restore(self, state: dict[str, Array]) -> None:
        """Take over what `state` gave."""
        self.recent, self.pending = state["recent"], state["pending"]
        self.seeded, self.held_out = (int(count) for count in state["counts"])
        self.flagged = float(state["flagged"][0])
        self.ordered = np.sort(self.recent)
        self._fit()


def _quantiles(ordered: Array, shares: Array) -> Array:
    """Quantiles of sorted numbers, interpolated, as np.quantile has them; it would partition what is sorted already."""
    return np.interp(shares * (len(ordered) - 1), np.arange(len(ordered)), ordered)


def _replaced(ordered: Array, leaving: Array, coming: Array) -> Array:
    """Sorted numbers without those `leaving`, each of them there, and with those `coming`; all three are sorted.

    The same as sorting anew, in a tenth of the time.
    """
    kept = np.ones(len(ordered), np.bool_)
    repeated = np.arange(len(leaving)) - np.searchsorted(leaving, leaving)
    kept[np.searchsorted(ordered, leaving) + repeated] = False
    rest = ordered[kept]
    return np.insert(rest, np.searchsorted(rest, coming), coming)
