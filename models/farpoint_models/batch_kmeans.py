"""Batch k-means on what was placed on the grid: how the first clusters are found."""

import numpy as np

from .geometry import Array, Cosine, Standardized

LLOYD_ROUNDS = 8
STARTS = 4


def batch_kmeans(
    space: Cosine | Standardized, rows: Array, points: Array, wanted: int, seed: int, starts: int = STARTS
) -> tuple[Array, Array]:
    """Find clusters by greedy k-means++ and a few Lloyd rounds; the best of several starts.

    Greedy: of 2 + ln K candidates drawn as k-means++ draws them, the one that leaves least cost becomes the next seed
    (Arthur & Vassilvitskii, 2007, section 5).

    Parameters
    ----------
    space
        The geometry of rows and points.
    rows, points
        (N, D) rows and their grid points.
    wanted
        Most clusters; fewer come back when there are fewer distinct points.
    seed
        Of the draws.
    starts
        Starts to choose from.

    Returns
    -------
    means
        (K, D) means of rows.
    labels
        (N,) position of each row's cluster. No cluster is empty.
    """
    rng = np.random.default_rng(seed)
    best: tuple[float, Array, Array] | None = None
    for _ in range(starts):
        means, labels, cost = _one_start(space, rows, points, rng.random((wanted, 2 + int(np.log(wanted)))))
        if best is None or cost < best[0]:
            best = cost, means, labels
    if best is None:
        raise ValueError("starts must be positive")
    return best[1], best[2]


def _one_start(space: Cosine | Standardized, rows: Array, points: Array, draws: Array) -> tuple[Array, Array, float]:
    """Means, labels and cost of one start with the given draws (wanted, candidates) from [0, 1)."""
    power = 1 if space.name == "cosine" else 2  # 1 - cosine is half a squared distance already
    chosen = [int(draws[0, 0] * len(points))]
    nearest = space.distances(points, points[chosen])[:, 0]
    for draw in draws[1:]:
        chances = np.cumsum(np.where(nearest > space.resolution, nearest, 0.0) ** power)
        if chances[-1] <= 0.0:
            break
        candidates = np.minimum(np.searchsorted(chances, draw * chances[-1], side="right"), len(points) - 1)
        after = np.minimum(nearest[:, None], space.distances(points, points[candidates]))
        best = int(np.argmin((after**power).sum(axis=0)))
        chosen.append(int(candidates[best]))
        nearest = after[:, best]
    centroids = points[chosen]
    means = rows[chosen]
    labels, cost = np.zeros(len(points), np.int64), 0.0
    for _ in range(LLOYD_ROUNDS):
        distances = space.distances(points, centroids)
        labels = np.argmin(distances, axis=1)
        cost = float((distances[np.arange(len(labels)), labels] ** power).sum())
        means, labels = _means(rows, labels)
        centroids = space.place(means)
    return means, labels, cost


def _means(rows: Array, labels: Array) -> tuple[Array, Array]:
    """Means (K, D) of rows by label, empty labels dropped, and the labels (N,) renumbered."""
    order = np.argsort(labels, kind="stable")
    _, starts, renumbered, counts = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    means = np.add.reduceat(rows[order], starts, axis=0) / counts[:, None].astype(rows.dtype)
    new = np.empty_like(labels)
    new[order] = renumbered
    return means, new
