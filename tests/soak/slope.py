"""Whether something grows: a straight line through measurements, with an interval for its slope."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import linregress
from scipy.stats import t as student

BLOCKS = 20
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Slope:
    """How fast something grows, units an hour: the estimate and its interval of 95 %; `level` is its mean."""

    level: float
    per_hour: float
    low: float
    high: float

    @property
    def is_flat(self) -> bool:
        """Whether the interval does not lie above zero: growth cannot be told from none."""
        return self.low <= 0.0


def fit_slope(seconds: ArrayLike, values: ArrayLike) -> Slope:
    """Fit a line by least squares to the means of 20 blocks.

    Memory wanders: what is measured twice within a second is not two measurements. The means of blocks much longer
    than its wandering are nearly independent, as the interval (Student's t) takes them to be.

    Parameters
    ----------
    seconds, values
        N times and measurements, N at least 60.

    Examples
    --------
    >>> slope = fit_slope(range(3600), [100 + second / 360 for second in range(3600)])
    >>> round(slope.per_hour, 6), slope.is_flat
    (10.0, False)
    """
    measured = np.asarray(values, float)
    if len(measured) < 3 * BLOCKS:
        raise ValueError(f"{len(measured)} measurements are too few for {BLOCKS} blocks")
    hours = np.array([block.mean() for block in np.array_split(np.asarray(seconds, float) / 3600, BLOCKS)])
    means = np.array([block.mean() for block in np.array_split(measured, BLOCKS)])
    if np.ptp(measured) == 0.0:
        return Slope(float(measured[0]), 0.0, 0.0, 0.0)
    line = linregress(hours, means)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, BLOCKS - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Slope(float(means.mean()), slope, slope - reach, slope + reach)
