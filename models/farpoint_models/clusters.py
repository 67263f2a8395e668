"""The live clusters: a row each in a few arrays of one length."""

import numpy as np

from .cluster_change import ClusterChange
from .geometry import Array, Cosine, Standardized, grid_squares

NAMES = ("ids", "mass", "weight", "scatter", "born", "adopted", "means")
"""The arrays that say all; the others follow from the means."""
PLACES = ("points", "squares")


class Clusters:
    """The live clusters of a stream, and what adding, merging and removing them does to the arrays.

    Attributes
    ----------
    next_id : int
        Of the next cluster; ids are never reused.
    ids
        (K,) int64.
    mass
        (K,) float64, vectors counted with forgetting.
    weight
        (K,) float64, vectors on which the mean stands: only those that moved it, fewer after a split.
    scatter
        (K,) float64, mean distance of those vectors to the mean.
    born
        (K,) int64, vectors seen when it came.
    adopted
        (K,) bool, whether it came out of quarantine.
    means
        (K, D) means of rows.
    points, squares
        (K, D) the means on the grid, and (K,) float64 their squared lengths there.

    Examples
    --------
    >>> clusters = Clusters()
    >>> clusters.begin(Cosine(2))
    >>> for mean in np.eye(2, dtype=np.float32):
    ...     added = clusters.add(mean, 10.0, 10.0, 0.1, adopted=False, born=0)
    >>> [change] = clusters.merge(0, 1)
    >>> change.cluster_id, change.from_ids, change.size, len(clusters)
    (0, (1,), 20.0, 1)
    """

    def __init__(self) -> None:
        self._space: Cosine | Standardized | None = None
        self.next_id = 0
        self._clear(0)

    def _clear(self, dimension: int) -> None:
        self.ids = np.zeros(0, np.int64)
        self.mass = np.zeros(0)
        self.weight = np.zeros(0)
        self.scatter = np.zeros(0)
        self.born = np.zeros(0, np.int64)
        self.adopted = np.zeros(0, np.bool_)
        self.means: Array = np.zeros((0, dimension), np.float32)
        self.place()

    def begin(self, space: Cosine | Standardized) -> None:
        """Settle on a geometry; there are no clusters then."""
        self._space = space
        self._clear(space.dimension)

    def found(self, means: Array, mass: Array, scatter: Array, born: int) -> None:
        """Be K clusters: means (K, D) that stand on as many vectors as their mass (K,)."""
        self.means = means
        self.place()
        self.ids = np.arange(self.next_id, self.next_id + len(means), dtype=np.int64)
        self.next_id += len(means)
        self.mass = mass
        self.weight = mass.copy()
        self.scatter = scatter
        self.born = np.full(len(means), born, np.int64)
        self.adopted = np.zeros(len(means), np.bool_)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def space(self) -> Cosine | Standardized:
        """The geometry, once there is a dimension."""
        if self._space is None:
            raise RuntimeError("no vectors were learned yet")
        return self._space

    @property
    def dimension(self) -> int | None:
        """Length of the vectors, None until there is a geometry."""
        return None if self._space is None else self._space.dimension

    @property
    def centroids(self) -> Array:
        """Centroids (K, D) float32 in the space of the vectors (of length one in cosine geometry)."""
        return self.means if self._space is None else self._space.original(self.means)

    @property
    def spread(self) -> Array:
        """Scatter (K,) float64 as a squared distance; times the weight it is the inertia."""
        return self.squared(self.scatter)

    def squared(self, distances: Array) -> Array:
        """Distances as squared Euclidean ones: 1 - cosine is half of one already."""
        return distances ** (1 if self.space.name == "cosine" else 2)

    def distances(self, points: Array) -> Array:
        """Distances (N, K) float64 of grid points (N, D) to the centroids."""
        return self.space.distances(points, self.points, self.squares)

    def place(self) -> None:
        """Put the means on the grid anew, when the geometry or all of them have changed."""
        self.points: Array = self.means if self._space is None else self._space.place(self.means)
        self.squares = grid_squares(self.points)

    def move(self, positions: Array, means: Array) -> None:
        """Give the clusters at positions (M,) new means (M, D)."""
        self.means[positions] = means
        points = self.space.place(means)
        self.points[positions] = points
        self.squares[positions] = grid_squares(points)

    def add(self, mean: Array, mass: float, weight: float, scatter: float, *, adopted: bool, born: int) -> int:
        """Add one cluster with mean (D,); returns its id."""
        new = self.next_id
        self.next_id += 1
        self.ids = np.append(self.ids, np.int64(new))
        self.mass = np.append(self.mass, mass)
        self.weight = np.append(self.weight, weight)
        self.scatter = np.append(self.scatter, scatter)
        self.born = np.append(self.born, np.int64(born))
        self.adopted = np.append(self.adopted, adopted)
        means = mean[None].astype(self.means.dtype)
        point = self.space.place(means)
        self.means = np.concatenate([self.means, means])
        self.points = np.concatenate([self.points, point])
        self.squares = np.append(self.squares, grid_squares(point))
        return new

    def merge(self, one: int, other: int) -> list[ClusterChange]:
        """Merge two clusters, given by position, into the older one, whose id stays."""
        kept, gone = min(one, other), max(one, other)
        total = self.weight[kept] + self.weight[gone]
        share = self.weight[gone] / total
        apart = float(self.space.distances(self.points[[kept]], self.points[[gone]])[0, 0])
        mean = self.means[kept] + (self.means[gone] - self.means[kept]) * self.means.dtype.type(share)
        self.move(np.array([kept]), mean[None])
        self.scatter[kept] += share * (self.scatter[gone] - self.scatter[kept])
        self.scatter[kept] += share * (1.0 - share) * apart
        self.weight[kept] = total
        self.mass[kept] += self.mass[gone]
        self.born[kept] = min(self.born[kept], self.born[gone])
        self.adopted[kept] |= self.adopted[gone]
        ids = int(self.ids[kept]), int(self.ids[gone])
        change = ClusterChange("merge", ids[0], (ids[1],), float(self.mass[kept]))
        self._keep(np.arange(len(self.ids)) != gone)
        return [change]

    def remove(self, keep: Array) -> list[ClusterChange]:
        """Keep the clusters of a mask (K,); the others die."""
        gone = [
            ClusterChange("death", int(i), (), float(m)) for i, m in zip(self.ids[~keep], self.mass[~keep], strict=True)
        ]
        self._keep(keep)
        return gone

    def _keep(self, keep: Array) -> None:
        for name in (*NAMES, *PLACES):
            setattr(self, name, getattr(self, name)[keep])
