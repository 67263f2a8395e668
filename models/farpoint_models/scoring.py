"""Who may vouch for a vector, and how a p-value reads as a score."""

import numpy as np

from .geometry import Array

GROUPS = 16
LARGE_SHARE = 0.9


def group(distances: Array, most: int = GROUPS) -> Array:
    """Put centroids into at most `most` groups by average linkage.

    Whether a vector lies among many or among few is decided over coarse groups: with many centroids a clump of outliers
    gets a centroid of its own, and would vouch for itself.

    Parameters
    ----------
    distances
        (K, K) float64 between centroids.
    most
        Number of groups to stop at.

    Returns
    -------
    groups
        (K,) int64, numbered from 0 in order of first appearance.

    Examples
    --------
    >>> spots = np.array([0.0, 0.1, 5.0, 5.1, 9.0])
    >>> group(np.abs(spots[:, None] - spots), most=2)
    array([0, 0, 1, 1, 1])
    """
    k = len(distances)
    groups = np.arange(k, dtype=np.int64)
    if k <= most:
        return groups
    between = distances.astype(np.float64)
    np.fill_diagonal(between, np.inf)
    members = np.ones(k)
    for _ in range(k - most):
        i, j = sorted(divmod(int(np.argmin(between)), k))
        merged = (members[i] * between[i] + members[j] * between[j]) / (members[i] + members[j])
        merged[i] = np.inf
        between[i, :] = between[:, i] = merged
        between[j, :] = between[:, j] = np.inf
        members[i] += members[j]
        groups[groups == j] = i
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def vouching(groups: Array, mass: Array, share: float = LARGE_SHARE) -> Array:
    """Which clusters vouch: those of the largest groups that together hold `share` of the mass.

    The rule for "large" of CBLOF (He, Xu & Deng, 2003), over groups of centroids instead of clusters.

    Parameters
    ----------
    groups, mass
        (K,) group and mass of each cluster.
    share
        Share of all mass that the large groups hold together.

    Returns
    -------
    large
        (K,) bool, at least one True.

    Examples
    --------
    >>> vouching(np.array([0, 0, 1, 2]), np.array([50.0, 10.0, 35.0, 5.0]))
    array([ True,  True,  True, False])
    """
    totals = np.bincount(groups, weights=mass)
    order = np.argsort(-totals, kind="stable")
    held = np.cumsum(totals[order])
    needed = int(np.searchsorted(held, share * held[-1], side="left")) + 1
    large = np.zeros(len(totals), np.bool_)
    large[order[:needed]] = True
    return large[groups]


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
