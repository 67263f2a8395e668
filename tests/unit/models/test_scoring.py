"""Who vouches, and how scores read."""

import numpy as np

from farpoint_models.scoring import group, heavy, outlier_score, vouching


def test_a_far_clump_is_a_group_of_its_own() -> None:
    """Average linkage leaves what lies apart apart, however many centroids it has."""
    rng = np.random.default_rng(0)
    spots = np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(50, 0.1, (6, 2))])
    distances = np.linalg.norm(spots[:, None] - spots, axis=2)
    groups = group(distances, np.ones(66, np.bool_), most=8)
    assert len(set(groups)) == 8
    assert not set(groups[:60]) & set(groups[60:])


def test_small_groups_do_not_vouch() -> None:
    """A clump with 3 % of the mass does not vouch, though it has a sixth of the centroids."""
    mass = np.array([40.0, 30.0, 27.0, 1.0, 1.0, 1.0])
    assert vouching(np.array([0, 0, 1, 2, 2, 2]), mass).tolist() == [True, True, True, False, False, False]


def test_equal_groups_all_vouch() -> None:
    """Of ten equal groups none is small, though nine of them hold 90 %."""
    assert vouching(np.arange(10), np.full(10, 7.0)).all()


def test_somebody_always_vouches() -> None:
    """A lone cluster vouches, and so does the largest of masses that differ by any factor."""
    assert vouching(np.zeros(1, np.int64), np.array([1e-9])).all()
    mass = np.array([1e9, 1e-9])
    assert vouching(group(np.ones((2, 2)), heavy(mass)), mass).tolist() == [True, False]


def test_scores_do_not_saturate() -> None:
    """However far, what is further scores higher, below 1."""
    scores = outlier_score(np.array([0.0, 1.0, 1e2, 1e4, 1e6]))
    assert (np.diff(scores) > 0).all()
    assert scores[0] == 0.0
    assert scores[-1] < 1.0
