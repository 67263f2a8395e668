"""Split: which part of a cluster becomes a cluster of its own."""

from dataclasses import dataclass

import numpy as np

from .batch_kmeans import batch_kmeans
from .geometry import Array, Cosine, Standardized

SEED_RANK = 0.75
"""A split begins at the member three quarters out: the outermost one is likely to be a lone stranger."""
HALVES = 4
"""... unless the batch has this many members: then it begins at the mean of the half that lies further out."""
PARENT_WEIGHT = 8.0
"""After a split the parent's mean moves as if it stood on this few vectors: part of what it stood on has left."""


@dataclass(frozen=True)
class Part:
    """What leaves a cluster.

    Parameters
    ----------
    mean
        (D,) mean of its rows.
    weight
        How many they are.
    row
        One of them.
    """

    mean: Array
    weight: float
    row: int


def part_to_split_off(
    space: Cosine | Standardized, mean: Array, rows: Array, members: Array, distance: Array, seed: int
) -> Part | None:
    """Choose what leaves a cluster, from what a batch shows of it; None where its members are all alike.

    Parameters
    ----------
    space
        The geometry.
    mean
        (D,) of the cluster.
    rows
        (N, D), the batch.
    members
        (M,) rows of the batch that belong to the cluster, one at least.
    distance
        (N,) each row's distance to the cluster that it belongs to.
    seed
        Of k-means++.

    Examples
    --------
    >>> space = Cosine(2)
    >>> rows = space.rows(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32))
    >>> part = part_to_split_off(space, rows[0], rows, np.arange(4), np.array([0.0, 0.0, 1.0, 0.9]), seed=0)
    >>> part.weight, part.row, space.original(part.mean[None]).round(2)
    (2.0, 2, array([[0.05, 1.  ]], dtype=float32))
    """
    if len(members) >= HALVES:
        # The old mean stands for what the cluster was: where that has stopped coming, all that is new moves out.
        stay = np.repeat(mean[None], int(PARENT_WEIGHT), axis=0)
        chosen = np.concatenate([stay, rows[members]])
        means, labels = batch_kmeans(space, chosen, space.place(chosen), 2, seed, starts=1)
        leaving = np.flatnonzero(labels[len(stay) :] != labels[0])
        if len(leaving) == 0:
            return None
        return Part(means[1 - labels[0]], float(len(leaving)), int(members[leaving[0]]))
    row = int(members[np.argsort(distance[members], kind="stable")[int(SEED_RANK * (len(members) - 1))]])
    return None if distance[row] <= space.resolution else Part(rows[row], 1.0, row)
