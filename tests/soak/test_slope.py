"""The soak's verdict: growth is seen, wandering is not taken for growth."""

import numpy as np
import pytest

from tests.soak.slope import fit_slope

SECONDS = np.arange(600)


def wandering(rng: np.random.Generator) -> np.ndarray:
    """Return memory as it wanders: each second remembers most of the last."""
    values = np.zeros(len(SECONDS))
    for second in range(1, len(values)):
        values[second] = 0.8 * values[second - 1] + rng.normal()
    return 300 + values


def test_wandering_is_flat() -> None:
    """What only wanders is called growing about as seldom as the interval says."""
    slopes = [fit_slope(SECONDS, wandering(np.random.default_rng(seed))) for seed in range(200)]
    assert sum(not slope.is_flat for slope in slopes) <= 16  # 2.5 % on this side, 5 expected


def test_growth_is_seen() -> None:
    """A leak of 5 % in ten minutes is seen through the same wandering, and its size with it."""
    for seed in range(20):
        slope = fit_slope(SECONDS, wandering(np.random.default_rng(seed)) + 15 * SECONDS / 600)
        assert not slope.is_flat
        assert slope.low < 90 < slope.high or abs(slope.per_hour - 90) < 15


def test_too_few_measurements_are_refused() -> None:
    """A handful of measurements gives no verdict."""
    with pytest.raises(ValueError, match="too few"):
        fit_slope(range(30), range(30))


def test_what_never_moves_is_flat() -> None:
    """A number of threads that stays what it is does not grow, and by nothing at all."""
    slope = fit_slope(SECONDS, np.full(len(SECONDS), 12))
    assert (slope.level, slope.per_hour, slope.low, slope.high) == (12.0, 0.0, 0.0, 0.0)
    assert slope.is_flat
