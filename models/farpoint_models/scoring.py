"""Who may vouch for a vector, and how a p-value reads as a score."""

import numpy as np

from .geometry import Array

GROUPS = 16
LIGHT_SHARE = 0.25
"""A cluster below this share of the mean mass does not count: it may be a clump of outliers, or a lone seed."""
LARGE_SHARE = 0.9
EVEN_SHARE = 0.5
"""A group with at least half of its even share of the mass is large, whatever the others hold."""


def heavy(mass: Array, share: float = LIGHT_SHARE) -> Array:
    """Which clusters (K,) bool are heavy enough to count at all: at least `share` of the mean mass.

    Examples
    --------
    >>> heavy(np.array([100.0, 80.0, 1.0]))
    array([ True,  True, False])
    """
    return mass >= share * mass.mean()


def group(distances: Array, counting: Array, most: int = GROUPS) -> Array:
    """Put centroids into at most `most` groups by average linkage.

    Whether a vector lies among many or among few is decided over coarse groups: with many centroids a clump of outliers
    gets a centroid of its own, and would vouch for itself.

    Parameters
    ----------
    distances
        (K, K) float64 between centroids.
    counting
        (K,) bool, who takes part.
    most
        Number of groups to stop at.

    Returns
    -------
    groups
        (K,) int64, numbered from 0; -1 for those who do not take part.

    Examples
    --------
    >>> spots = np.array([0.0, 0.1, 5.0, 5.1, 9.0])
    >>> group(np.abs(spots[:, None] - spots), np.array([True, True, True, True, False]), most=2)
    array([ 0,  0,  1,  1, -1])
    """
    taking_part = np.flatnonzero(counting)
    between = distances[np.ix_(taking_part, taking_part)].astype(np.float64)
    k = len(taking_part)
    np.fill_diagonal(between, np.inf)
    members = np.ones(k)
    labels = np.arange(k)
    for _ in range(k - most):
        i, j = sorted(divmod(int(np.argmin(between)), k))
        merged = (members[i] * between[i] + members[j] * between[j]) / (members[i] + members[j])
        merged[i] = np.inf
        between[i, :] = between[:, i] = merged
        between[j, :] = between[:, j] = np.inf
        members[i] += members[j]
        labels[labels == j] = i
    groups = np.full(len(distances), -1, np.int64)
    groups[taking_part] = np.unique(labels, return_inverse=True)[1]
    return groups


def vouching(groups: Array, mass: Array, share: float = LARGE_SHARE) -> Array:
    """Which clusters vouch: those of the largest groups that together hold `share` of the mass.

    The rule for "large" of CBLOF (He, Xu & Deng, 2003), over groups of centroids instead of clusters. Departure: a
    group with half of its even share is large too, or of ten equal groups one would always be small.

    Parameters
    ----------
    groups, mass
        (K,) group (-1: none) and mass of each cluster.
    share
        Share of the groups' mass that the large ones hold together.

    Returns
    -------
    large
        (K,) bool, at least one True.

    Examples
    --------
    >>> vouching(np.array([0, 0, 1, 2, -1]), np.array([50.0, 10.0, 35.0, 5.0, 0.1]))
    array([ True,  True,  True, False, False])
    """
    inside = groups >= 0
    totals = np.bincount(groups[inside], weights=mass[inside])
    order = np.argsort(-totals, kind="stable")
    held = np.cumsum(totals[order])
    needed = int(np.searchsorted(held, share * held[-1], side="left")) + 1
    large = totals >= EVEN_SHARE * held[-1] / len(totals)
    large[order[:needed]] = True
    return inside & large[groups]


def outlier_score(rarity: Array) -> Array:
    """Rarity r = -log10(p-value) as a score in [0, 1): r / (1 + r).

    0 is as ordinary as can be; 0.5 is matched by one normal vector in 10, 0.75 by one in 1,000, 0.9 by one in 10**9
    (beyond what the window has seen: if the tail goes on as it did). It rises with the distance and never arrives at 1.

    Examples
    --------
    >>> outlier_score(np.array([0.0, 1.0, 3.0]))
    array([0.  , 0.5 , 0.75])
    """
    return rarity / (1.0 + rarity)
