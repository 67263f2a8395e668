"""What a distance means: a p-value against a sliding window of recent normal distances."""

import numpy as np

from .geometry import Array

WINDOW = 8192
PENDING = 64
"""Distances wait until so many are together before the window is sorted anew."""
TAIL_SHARE = 0.1
TAIL_SIZE = 32
"""The tail is the top tenth of a small window, and shrinks to the top 32 (or four times the false alarm rate)."""
REACH = 0.75
"""Flagged distances count as false alarms up to this many (threshold - tail start) beyond the threshold."""
ALLOWANCE = 2.0
"""At most so many times the false alarm rate of all vectors may enter the window although flagged."""
SCREEN = 2.0


class Calibration:
    """Conformal p-values with an extrapolated tail.

    Within the window the p-value is the share of recent normal distances at least as large (split conformal prediction:
    Laxhammar & Falkman, 2010; Vovk et al., 2005). That cannot say "one in 1,000" after 256 vectors; so the largest
    distances are taken for an exponential tail above a start u (peaks over threshold, as SPOT: Siffer et al., 2017,
    with the shape of the Pareto tail fixed at 0, since a shape fitted to some 30 peaks is mostly noise).

    What enters the window decides what becomes of the threshold. With flagged distances in, a burst of outliers lifts
    it; with all of them out, each false alarm lowers it a little, and it creeps. So flagged distances enter as long as
    they lie where the tail of normal distances may reach (`REACH`), and at most at twice the false alarm rate
    (`ALLOWANCE`): more than that are not false alarms of ours.

    Parameters
    ----------
    false_alarm_rate
        Share of normal vectors that may be flagged.
    window
        Distances remembered.

    Examples
    --------
    >>> calibration = Calibration(0.001)
    >>> calibration.seed(np.linspace(0.1, 0.2, 256))
    >>> calibration.rarity(np.array([0.0, 0.15, 0.19, 0.3])).round(2)
    array([ 0.  ,  0.3 ,  0.98, 10.35])
    """

    def __init__(self, false_alarm_rate: float, window: int = WINDOW) -> None:
        self.false_alarm_rate = false_alarm_rate
        self.window = window
        self.recent = np.zeros(0)
        self.pending = np.zeros(0)
        self.seeded = 0
        self.allowance = 1.0
        self._fit()

    def _fit(self) -> None:
        self.ordered = np.sort(self.recent)
        n = len(self.ordered)
        if n == 0:
            self.start, self.start_share, self.scale, self.limit = 0.0, 1.0, 1.0, np.inf
            return
        share = max(4.0 * self.false_alarm_rate, TAIL_SIZE / n)
        size = max(1, min(int(share * n), int(TAIL_SHARE * n)))
        self.start = float(self.ordered[n - 1 - size]) if size < n else 0.0
        self.start_share = (size + 1.0) / (n + 1.0)
        excess = float(np.mean(self.ordered[n - size :])) - self.start
        # Where all distances are alike there is no tail to measure: then a tenth of the distance is one.
        self.scale = max(excess, 0.02 * self.start, 1e-4)
        limit = self.start + self.scale * np.log(max(self.start_share / self.false_alarm_rate, 1.0))
        body = float(self.ordered[int((1.0 - TAIL_SHARE) * (n - 1))])
        self.limit = limit + REACH * (limit - min(body, self.start))

    def seed(self, distances: Array) -> None:
        """Start the window with distances (N,) of the warm-up; they leave, one for one, as real ones come.

        What lies far beyond the tail that the body of the distances promises is dropped: a warm-up may hold outliers.
        """
        middle, body = np.quantile(distances, [0.5, 1.0 - TAIL_SHARE])
        slope = (body - middle) / np.log(0.5 / TAIL_SHARE)
        far = body + SCREEN * slope * np.log(TAIL_SHARE / min(self.false_alarm_rate, TAIL_SHARE))
        self.recent = distances[distances <= far]
        self.seeded = len(self.recent)
        self._fit()

    def rarity(self, distances: Array) -> Array:
        """-log10 of the p-values (N,) of distances (N,); not negative, rising with the distance."""
        n = len(self.ordered)
        above = n - np.searchsorted(self.ordered, distances, side="left")
        within = np.log10(n + 1.0) - np.log10(above + 1.0)
        beyond = -np.log10(self.start_share) + (distances - self.start) / (self.scale * np.log(10.0))
        return np.where(distances > self.start, beyond, within)

    def learn(self, distances: Array, flagged: Array) -> None:
        """Fold distances (N,) of one batch into the window; `flagged` (N,) says which were outliers."""
        self.allowance = min(2.0, self.allowance + ALLOWANCE * self.false_alarm_rate * len(distances))
        entering = ~flagged
        for row in np.flatnonzero(flagged & (distances <= self.limit)):
            if self.allowance < 1.0:
                break
            self.allowance -= 1.0
            entering[row] = True
        self.pending = np.concatenate([self.pending, distances[entering]])
        if len(self.pending) < PENDING:
            return
        leaving = min(self.seeded, len(self.pending))
        self.seeded -= leaving
        self.recent = np.concatenate([self.recent[leaving:], self.pending])[-self.window :]
        self.pending = np.zeros(0)
        self._fit()

    def state(self) -> dict[str, Array]:
        """Arrays that restore this window."""
        numbers = np.array([float(self.seeded), self.allowance])
        return {"recent": self.recent, "pending": self.pending, "numbers": numbers}

    def restore(self, state: dict[str, Array]) -> None:
        """Take over what `state` gave."""
        self.recent, self.pending = state["recent"], state["pending"]
        self.seeded, self.allowance = int(state["numbers"][0]), float(state["numbers"][1])
        self._fit()
