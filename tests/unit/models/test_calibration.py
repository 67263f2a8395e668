"""The threshold: the rate asked for, no creep, no blow-up."""

import numpy as np
import pytest

from farpoint_models.calibration import Calibration
from farpoint_models.geometry import Array


def stream(calibration: Calibration, distances: Array, batch: int = 64) -> Array:
    """Return flags (N,) bool of distances judged and learned in batches."""
    flags = np.zeros(len(distances), np.bool_)
    for start in range(0, len(distances), batch):
        part = slice(start, start + batch)
        flags[part] = distances[part] > calibration.limit
        calibration.learn(distances[part], flags[part])
    return flags


DISTANCES = {
    "normal": lambda rng, n: 5 + rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "pareto": lambda rng, n: rng.pareto(4.0, n),
    "lognormal": lambda rng, n: np.exp(rng.normal(0, 0.7, n)),
}


@pytest.mark.parametrize("rate", [0.01, 0.001])
@pytest.mark.parametrize("name", DISTANCES)
def test_realised_rate_stays_where_it_was_asked(name: str, rate: float) -> None:
    """On 200,000 stationary distances the share flagged is within a factor 2 of the setting, in the last half too."""
    rng = np.random.default_rng(11)
    calibration = Calibration(rate)
    calibration.seed(DISTANCES[name](rng, 256))
    flags = stream(calibration, DISTANCES[name](rng, 200_000))
    assert 0.5 * rate < flags.mean() < 2.0 * rate
    assert 0.5 * rate < flags[100_000:].mean() < 2.0 * rate


@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_a_tail_that_ends_errs_on_the_quiet_side(rate: float) -> None:
    """Where distances have an upper end, the threshold may lie near it, but no more is flagged than asked for."""
    rng = np.random.default_rng(16)
    calibration = Calibration(rate)
    calibration.seed(rng.random((256, 2)).sum(axis=1))
    assert stream(calibration, rng.random((100_000, 2)).sum(axis=1)).mean() < 1.5 * rate
    assert calibration.limit < 2.1


@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_a_wrong_threshold_heals(rate: float) -> None:
    """A window that was cut off far too low grows back, though what is flagged never enters it."""
    rng = np.random.default_rng(12)
    calibration = Calibration(rate)
    normal = rng.exponential(size=8192)
    calibration.recent = normal[normal < np.quantile(normal, 1 - 10 * rate)]
    calibration.ordered = np.sort(calibration.recent)
    calibration._fit()
    flags = stream(calibration, rng.exponential(size=100_000))
    assert 0.5 * rate < flags[50_000:].mean() < 2.0 * rate


@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_contamination_does_not_lift_the_threshold(rate: float) -> None:
    """With 5 % far outliers, from the first on, they are found, and normal ones flagged twice as asked at most."""
    rng = np.random.default_rng(13)
    outlier = rng.random(50_256) < 0.05
    distances = np.where(outlier, rng.uniform(25, 60, 50_256), rng.exponential(size=50_256))
    calibration = Calibration(rate)
    calibration.seed(distances[:256])
    flags = stream(calibration, distances[256:])
    assert flags[outlier[256:]].mean() > 0.95
    assert flags[~outlier[256:]].mean() < 2.0 * rate


def test_blatant_outlier_after_few_vectors() -> None:
    """256 distances resolve 1 in 256, yet what lies ten tail lengths further out is rarer than 1 in 1,000."""
    calibration = Calibration(0.001)
    distances = np.random.default_rng(14).gamma(20, 0.01, 256)
    calibration.seed(distances)
    assert calibration.rarity(np.array([1.0]))[0] > 3.0
    assert calibration.rarity(distances).max() < 3.5


def test_rarity_rises_with_the_distance() -> None:
    """There is no step down where the window ends and the extrapolation begins, and no ceiling."""
    calibration = Calibration(0.001)
    calibration.seed(np.random.default_rng(15).exponential(size=256))
    rarity = calibration.rarity(np.linspace(0, 1000, 10_000))
    assert (np.diff(rarity) >= 0).all()
    assert rarity[0] >= 0
    assert rarity[-1] > rarity[-2] > 100
    assert calibration.rarity(np.array([calibration.limit]))[0] == pytest.approx(3.0)


@pytest.mark.parametrize("distances", [np.zeros(256), np.full(1, 0.3), np.zeros(2), np.r_[np.zeros(250), 1.0]])
def test_degenerate_windows(distances: Array) -> None:
    """Distances that are all alike, or hardly any, give finite answers."""
    calibration = Calibration(0.001)
    calibration.seed(distances)
    assert np.isfinite(calibration.limit)
    rarity = calibration.rarity(np.array([0.0, 0.3, 2.0]))
    assert np.isfinite(rarity).all()
    assert rarity[2] > 3.0


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.3, 1.0])
def test_bad_rate(rate: float) -> None:
    """A false alarm rate without a tail is refused."""
    with pytest.raises(ValueError, match="false_alarm_rate"):
        Calibration(rate)


@pytest.mark.parametrize("batch", [1, 50, 700])
def test_the_sorted_window_is_the_window_sorted(batch: int) -> None:
    """Replacing what left by what came gives what sorting anew would, with ties and with batches beyond the window."""
    rng = np.random.default_rng(17)
    calibration = Calibration(0.01, window=500)
    calibration.seed(rng.integers(0, 40, 100) / 8)
    for _ in range(60):
        distances = rng.integers(0, 40, batch) / 8
        calibration.learn(distances, rng.random(batch) < 0.05)
        assert (calibration.ordered == np.sort(calibration.recent)).all()
        assert len(calibration.recent) <= 500
