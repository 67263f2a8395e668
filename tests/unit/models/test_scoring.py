"""What is near mass, and how scores read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farpoint_models.scoring import distance_to_mass, outlier_score


def by_hand(distances: np.ndarray, mass: np.ndarray, share: float) -> float:
    """Take mass from the nearest clusters on until the share is reached, one cluster at a time."""
    need = share * mass.sum()
    left, total = need, 0.0
    for cluster in np.argsort(distances, kind="stable"):
        taken = min(left, mass[cluster])
        total += taken * distances[cluster]
        left -= taken
    return float(total / need)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.sampled_from([1, 2, 3, 40, 1000]),
    share=st.sampled_from([0.001, 0.07, 0.5, 1.0]),
    skew=st.sampled_from([0.0, 1.0, 6.0]),
)
def test_agrees_with_the_definition(seed: int, count: int, share: float, skew: float) -> None:
    """For any masses, clusters without any among them, it is the average taken cluster by cluster."""
    rng = np.random.default_rng(seed)
    distances = rng.choice([0.0, 0.25, 1.0, 3.0], (5, count)) * rng.random((5, count))
    mass = np.exp(skew * rng.normal(size=count)) * (rng.random(count) < 0.8)
    mass[rng.integers(count)] = 1.0
    expected = [by_hand(row, mass, share) for row in distances]
    np.testing.assert_allclose(distance_to_mass(distances, mass, share), expected, rtol=1e-9, atol=1e-12)
    alone = [distance_to_mass(row[None], mass, share)[0] for row in distances]
    assert alone == distance_to_mass(distances, mass, share).tolist()


def test_a_small_clump_cannot_vouch_alone() -> None:
    """On top of a centroid with 1 % of the mass, one is still nearly as far as the next large one is."""
    mass = np.array([60.0, 39.0, 1.0])
    on_the_clump = distance_to_mass(np.array([[1.0, 2.0, 0.0]]), mass)
    assert 0.8 < on_the_clump[0] < 1.0
    assert distance_to_mass(np.array([[0.1, 2.0, 5.0]]), mass)[0] == pytest.approx(0.1)


def test_how_many_centroids_share_a_region_does_not_matter() -> None:
    """One centroid with all the mass of a place, or twenty there with a twentieth each: the distance is the same."""
    few = distance_to_mass(np.array([[0.3, 1.0]]), np.array([50.0, 50.0]))
    many = distance_to_mass(np.array([[0.3] * 20 + [1.0] * 5]), np.array([2.5] * 20 + [10.0] * 5))
    assert few[0] == pytest.approx(many[0])


def test_too_many_clusters() -> None:
    """More clusters than the keys can number are refused."""
    with pytest.raises(ValueError, match="1024"):
        distance_to_mass(np.ones((1, 1025)), np.ones(1025))


def test_scores_do_not_saturate() -> None:
    """However far, what is further scores higher, below 1."""
    scores = outlier_score(np.array([0.0, 1.0, 1e2, 1e4, 1e6]))
    assert (np.diff(scores) > 0).all()
    assert scores[0] == 0.0
    assert scores[-1] < 1.0
