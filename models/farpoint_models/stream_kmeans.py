"""Streaming k-means: a live picture of what a stream of vectors consists of."""

from typing import Any

import numpy as np
from river import base

from .batch_kmeans import batch_kmeans
from .cluster_change import ClusterChange
from .clusters import Clusters
from .geometry import Array, Cosine, GeometryName, Standardized, as_vectors, make_geometry, validate
from .review import WORTH, YOUNG, Review, cheapest_pair, most_excess, ward_cost
from .split import PARENT_WEIGHT, part_to_split_off

WARM_UP_PER_CLUSTER = 4
"""A cluster is asked to stand on this many vectors, in the warm-up and while the number of clusters grows."""
DEATH_SHARE = 0.01
"""A cluster whose mass falls below this share of the mean mass dies, if it had half a half-life to prove itself."""
RESEED = 1024
"""Once grown, at most one split in so many vectors: what does not want to be split is not tried all the time."""


class StreamKMeans(base.Clusterer):
    """Mini-batch k-means with forgetting, over arrays.

    The first `warm_up` vectors are kept; then k-means++ (Arthur & Vassilvitskii, 2007) and a few Lloyd rounds found the
    first clusters, one for every 4 vectors at most. From then on every batch is assigned to the nearest centroids and
    moves them by the mean of what they got, as in web-scale k-means (Sculley, 2010), with counts that halve every
    `half_life_vectors` vectors, so that centroids follow a drifting stream. Departures: the number of clusters grows
    while the data warrants it, up to `clusters`, by splitting the cluster with most inertia; then the pair that is
    cheapest to merge makes room for the next split, ever more rarely while that gains nothing; a cluster that no longer
    gets vectors dies and its place is split off elsewhere; clusters carry ids that are never reused.

    Parameters
    ----------
    clusters
        Most clusters kept.
    warm_up
        Vectors before the first centroids.
    half_life_vectors
        After so many vectors a vector counts half.
    geometry
        `cosine` or `standardized`.
    seed
        Of k-means++. Nothing else is random.

    Attributes
    ----------
    dimension : int | None
        None until the first vectors.
    n_seen : int
        Vectors learned.
    ids, mass, means
        Of the live clusters: (K,) int64, (K,) float64 decayed counts, (K, D) means of rows.
    live : Clusters
        All about them.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(7)
    >>> X = np.repeat(np.eye(3, 8), 40, axis=0) + rng.normal(0, 0.05, (120, 8))
    >>> model = StreamKMeans(clusters=3, warm_up=60)
    >>> changes = model.learn_many(rng.permutation(X))
    >>> [change.type for change in changes]
    ['birth', 'birth', 'birth']
    >>> len(set(model.predict_many(X[:40]))), len(set(model.predict_many(X)))
    (1, 3)
    """

    def __init__(
        self,
        clusters: int = 100,
        warm_up: int = 256,
        half_life_vectors: float = 20_000.0,
        geometry: GeometryName = "cosine",
        seed: int = 0,
    ) -> None:
        if clusters < 1 or warm_up < 1 or not half_life_vectors > 0:
            raise ValueError("clusters, warm_up and half_life_vectors must be positive")
        self.clusters = clusters
        self.warm_up = warm_up
        self.half_life_vectors = half_life_vectors
        self.geometry = geometry
        self.seed = seed
        self.feature_names: list[Any] | None = None
        self.n_seen = 0
        self.splits = 0
        self.buffer: list[Array] = []
        self.live = Clusters()
        self.review = Review()

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int | None:
        """Length of the vectors, None until the first."""
        return self.live.dimension

    @property
    def space(self) -> Cosine | Standardized:
        """The geometry, once there is a dimension."""
        return self.live.space

    def begin(self, dimension: int) -> None:
        """Settle on a dimension; done by the first vectors."""
        self.live.begin(make_geometry(self.geometry, dimension))

    @property
    def is_warm(self) -> bool:
        """Whether there are clusters."""
        return len(self.live) > 0

    @property
    def ids(self) -> Array:
        """Ids (K,) int64 of the live clusters."""
        return self.live.ids

    @property
    def mass(self) -> Array:
        """Vectors (K,) float64 that the live clusters hold, counted with forgetting."""
        return self.live.mass

    @property
    def means(self) -> Array:
        """Means (K, D) of the rows of the live clusters."""
        return self.live.means

    @property
    def centroids(self) -> Array:
        """Centroids (K, D) float32 in the space of the vectors (of length one in cosine geometry)."""
        return self.live.centroids

    def validate(self, vectors: Array) -> None:
        """Raise InvalidRecord when vectors (N, D) float32 do not fit."""
        validate(vectors, self.geometry, self.dimension)

    def distances(self, points: Array) -> Array:
        """Distances (N, K) float64 of grid points (N, D) to the centroids."""
        return self.live.distances(points)

    # --- river's verbs ----------------------------------------------------------------------------------------------

    def vector(self, x: dict[Any, float]) -> Array:
        """Turn a river dictionary into vectors (1, D): features by name, as first learned; missing ones are 0."""
        names = self.feature_names if self.feature_names is not None else sorted(x, key=str)
        return as_vectors([[x.get(name, 0.0) for name in names]])

    def learn_one(self, x: dict[Any, float]) -> None:
        """Learn one dictionary of numeric features."""
        vector = self.vector(x)
        self.learn_many(vector)
        if self.feature_names is None:
            self.feature_names = sorted(x, key=str)

    def predict_one(self, x: dict[Any, float]) -> int:
        """Name the nearest cluster: its id, -1 while there is none."""
        return int(self.predict_many(self.vector(x))[0])

    def predict_many(self, vectors: Array) -> Array:
        """Ids (N,) int64 of the nearest clusters, -1 while there are none."""
        vectors = as_vectors(vectors)
        self.validate(vectors)
        if not self.is_warm:
            return np.full(len(vectors), -1, np.int64)
        return self.ids[np.argmin(self.distances(self.space.place(self.space.rows(vectors))), axis=1)]

    def learn_many(self, vectors: Array) -> list[ClusterChange]:
        """Learn vectors (N, D); all of them move their cluster.

        Raises
        ------
        InvalidRecord
            When they do not fit; nothing is learned then.
        """
        vectors = as_vectors(vectors)
        self.validate(vectors)
        if not self.is_warm:
            return self.collect(vectors)
        rows = self.space.rows(vectors)
        distances = self.distances(self.space.place(rows))
        nearest = np.argmin(distances, axis=1)
        everything = np.ones(len(rows), np.bool_)
        return self.absorb(rows, nearest, distances[np.arange(len(rows)), nearest], everything, everything)

    # --- warm-up ----------------------------------------------------------------------------------------------------

    def collect(self, vectors: Array) -> list[ClusterChange]:
        """Keep validated vectors (N, D) float32; found the first clusters once there are `warm_up`."""
        if self.dimension is None:
            self.begin(vectors.shape[1])
        self.buffer.append(vectors.copy())
        self.n_seen += len(vectors)
        if self.n_seen < self.warm_up:
            return []
        rows = self.space.rows(np.concatenate(self.buffer))
        self.space.update(rows, self.half_life_vectors)
        self.buffer = []
        self.found(rows)
        first = len(rows) - len(vectors)  # members are rows of this batch; earlier ones are gone
        distances = self.distances(self.space.place(rows[first:]))
        return [
            ClusterChange("birth", int(i), (), float(m), _nearest_rows(distances, column))
            for column, (i, m) in enumerate(zip(self.ids, self.mass, strict=True))
        ]

    def found(self, rows: Array) -> None:
        """Found the first clusters on rows (N, D)."""
        points = self.space.place(rows)
        wanted = max(1, min(self.clusters, len(rows) // WARM_UP_PER_CLUSTER))
        means, labels = batch_kmeans(self.space, rows, points, wanted, self.seed)
        counts = np.bincount(labels, minlength=len(means)).astype(np.float64)
        centroids = self.space.place(means)
        own = self.space.distances(points, centroids)[np.arange(len(rows)), labels]
        scatter = np.bincount(labels, weights=own, minlength=len(means)) / counts
        self.live.found(means, counts, scatter, self.n_seen)
        self.review.begin(self.n_seen)

    # --- the stream -------------------------------------------------------------------------------------------------

    def absorb(
        self, rows: Array, nearest: Array, distance: Array, counted: Array, moving: Array
    ) -> list[ClusterChange]:
        """Fold one batch of rows into the clusters.

        Parameters
        ----------
        rows
            (N, D) rows of the geometry.
        nearest, distance
            (N,) each row's nearest cluster (position, not id) and its distance to it.
        counted
            (N,) bool: rows that add to a cluster's mass.
        moving
            (N,) bool: rows that also pull its mean; a part of `counted`.
        """
        self.n_seen += len(rows)
        decay = 2.0 ** (-len(rows) / self.half_life_vectors)
        live = self.live
        live.mass *= decay
        live.weight *= decay
        k = len(live)
        live.mass += np.bincount(nearest[counted], minlength=k)
        taken = np.flatnonzero(moving)
        if taken.size:
            counts = np.bincount(nearest[taken], minlength=k)
            clusters = np.flatnonzero(counts)
            labels = nearest if taken.size == len(rows) else np.where(moving, nearest, -1)
            places = np.full(k + 1, -1)  # the last for label -1
            places[clusters] = np.arange(len(clusters))
            means = self.space.sums(rows, places[labels], len(clusters))
            live.weight[clusters] += counts[clusters]
            share = counts[clusters] / live.weight[clusters]
            average = np.bincount(nearest[taken], weights=distance[taken], minlength=k)[clusters] / counts[clusters]
            live.scatter[clusters] += share * (average - live.scatter[clusters])
            means *= (1.0 / live.weight[clusters])[:, None].astype(means.dtype)
            old = live.means[clusters]
            old *= (1.0 - share)[:, None].astype(means.dtype)
            means += old
            if self.geometry == "standardized":
                live.means[clusters] = means
                self.space.update(rows[moving], self.half_life_vectors)
                live.place()
            else:
                live.move(clusters, means)
        changes = self._bury()
        # Positions have moved when somebody died: growth waits for the next batch.
        return changes or self._grow(rows, taken, nearest, distance) or self._review(rows, taken, nearest, distance)

    def _grow(self, rows: Array, taken: Array, nearest: Array, distance: Array) -> list[ClusterChange]:
        """Split off the cluster with most scatter, at the batch's member furthest from it, while there is room."""
        room = min(self.clusters, self.n_seen // WARM_UP_PER_CLUSTER) - len(self.live)
        if self.splits >= self.clusters:  # it has grown; from now on only places of the dead are filled, slowly
            room = min(room, (self.n_seen // RESEED) - (self.n_seen - len(rows)) // RESEED)
        changes: list[ClusterChange] = []
        for _ in range(min(room, 1 + len(rows) // 32)):
            if taken.size == 0:
                break
            inertia = self.live.weight * self.live.spread
            parent = int(nearest[taken][np.argmax(inertia[nearest[taken]])])
            members = taken[nearest[taken] == parent]
            taken = taken[nearest[taken] != parent]
            changes += self._split(parent, rows, members, distance)
        return changes

    def _review(self, rows: Array, taken: Array, nearest: Array, distance: Array) -> list[ClusterChange]:
        """Merge the two clusters that lose least by it, and split the one with most excess inertia in their stead.

        Without members of that one in the batch it waits for a batch that shows what is in it.
        """
        live = self.live
        if len(live) < self.clusters or len(live) < 3:
            return []
        parent, excess, share = most_excess(live.weight, live.spread)
        members = taken[nearest[taken] == parent]
        if len(members) == 0 or not self.review.is_due(self.n_seen, share):
            return []
        cost = ward_cost(live.squared(self.distances(live.points)), np.maximum(live.mass, live.weight))
        young = self.n_seen - live.born < YOUNG
        self.review.judge(live.ids, cost, young)
        young[parent] = True  # it is not merged either
        one, other, paid = cheapest_pair(cost, young)
        changes = self._split(parent, rows, members, distance) if paid * WORTH < excess else []
        if not changes:
            self.review.leave(self.n_seen, share)
            return []
        self.review.note_split(self.n_seen, changes[0].cluster_id, int(live.ids[parent]), paid)
        return [*live.merge(one, other), *changes]

    def _split(self, parent: int, rows: Array, members: Array, distance: Array) -> list[ClusterChange]:
        """Split a cluster, given the batch's rows that belong to it; nothing happens where they are all alike."""
        live = self.live
        if live.scatter[parent] <= self.space.resolution:
            return []
        part = part_to_split_off(self.space, live.means[parent], rows, members, distance, self.seed)
        if part is None:
            return []
        live.weight[parent] = min(live.weight[parent], PARENT_WEIGHT)
        # The new one has no mass until it has earned it: what is split off may be a clump of outliers.
        scatter, adopted = float(live.scatter[parent]), bool(live.adopted[parent])
        child = live.add(part.mean, 0.0, part.weight, scatter, adopted=adopted, born=self.n_seen)
        self.splits += 1
        return [ClusterChange("split", child, (int(live.ids[parent]),), part.weight, (part.row,))]

    def adopt(self, mean: Array, count: float, members: tuple[int, ...] = ()) -> list[ClusterChange]:
        """Found a cluster on the mean (D,) of `count` rows that recurred; where there is no room, the lightest dies."""
        live = self.live
        changes: list[ClusterChange] = []
        if len(live) >= self.clusters:
            changes += live.remove(np.arange(len(live)) != int(np.argmin(live.mass)))
        scatter = float(live.scatter.mean()) if len(live) else 0.0
        new = live.add(mean, count, count, scatter, adopted=True, born=self.n_seen)
        return [*changes, ClusterChange("birth", new, (), count, members)]

    def _bury(self) -> list[ClusterChange]:
        old = self.n_seen - self.live.born > self.half_life_vectors / 2.0
        dying = old & (self.mass < DEATH_SHARE * self.mass.mean())
        return self.live.remove(~dying) if dying.any() else []

    @classmethod
    def _unit_test_params(cls) -> Any:
        """Parameters river's estimator checks use."""
        yield {"geometry": "standardized", "clusters": 8, "warm_up": 32}


def _nearest_rows(distances: Array, column: int, most: int = 3) -> tuple[int, ...]:
    """Rows whose nearest cluster is `column`, nearest first."""
    rows = np.flatnonzero(np.argmin(distances, axis=1) == column)
    return tuple(int(row) for row in rows[np.argsort(distances[rows, column], kind="stable")][:most])
