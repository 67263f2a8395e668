"""How far a vector lies from what carries mass, and how a p-value reads as a score."""

import numpy as np

from .geometry import Array

MASS_SHARE = 0.07
"""A vector is normal where this share of the stream lies near it: a clump that makes up less cannot vouch alone."""

INDEX_BITS = 10
MOST_CLUSTERS = 1 << INDEX_BITS


def distance_to_mass(distances: Array, mass: Array, share: float = MASS_SHARE) -> Array:
    """Mean distance to the nearest `share` of the mass.

    The distance to a measure (Chazal, Cohen-Steiner & Merigot, 2011) over weighted centroids: the nearest cluster
    counts with all its mass, then the next one, until together they hold `share` of all. A handful of outliers that got
    a centroid of their own is hardly nearer to the mass for it; how many centroids share a region does not matter.
    Departures: centroids stand for the points; distances are averaged as they are, not squared, so that one far
    cluster at the end of the share does not outweigh the near ones.

    Parameters
    ----------
    distances
        (N, K) float64 to the centroids, none negative; K at most 1,024.
    mass
        (K,) float64 of the clusters, not all zero.
    share
        In (0, 1].

    Returns
    -------
    distance
        (N,) float64. A row's distance does not depend on the rows beside it.

    Examples
    --------
    >>> distances = np.array([[0.1, 0.5, 0.9], [0.9, 0.5, 0.0]])
    >>> distance_to_mass(distances, np.array([60.0, 38.0, 2.0]), share=0.05)
    array([0.1, 0.3])
    """
    count = len(mass)
    if count == 1:
        return distances[:, 0].copy()
    if count > MOST_CLUSTERS:
        raise ValueError(f"at most {MOST_CLUSTERS} clusters, not {count}")
    need = share * mass.sum()
    # However a row orders them, so many clusters hold the share.
    enough = min(count, int(np.searchsorted(np.cumsum(np.sort(mass)), need)) + 1)
    # The bits of floats that are not negative sort as whole numbers do: with the index in the lowest bits one plain
    # sort gives both, several times faster than argsort. The distance loses what lies below 1 in 10**12.
    low = np.int64(MOST_CLUSTERS - 1)
    keys = np.ascontiguousarray(distances, np.float64).view(np.int64) & ~low
    keys |= np.arange(count)
    keys.sort(axis=1)
    keys = keys[:, :enough]
    taken = np.minimum(np.cumsum(mass[keys & low], axis=1), need)
    taken[:, 1:] -= taken[:, :-1].copy()
    taken *= (keys & ~low).view(np.float64)
    return taken.sum(axis=1) / need


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
