"""Streaming k-means: a live picture of what a stream of vectors consists of."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from river import base

from .batch_kmeans import batch_kmeans
from .geometry import Array, Cosine, GeometryName, Standardized, as_vectors, grid_squares, make_geometry, validate

ChangeType = Literal["birth", "death", "merge", "split"]

WARM_UP_PER_CLUSTER = 4
"""A cluster is asked to stand on this many vectors, in the warm-up and while the number of clusters grows."""
SEED_RANK = 0.75
"""A split begins at the member three quarters out: the outermost one is likely to be a lone stranger."""
HALVES = 4
"""... unless the batch has this many members: then it begins at the mean of the half that lies further out."""
PARENT_WEIGHT = 8.0
"""After a split the parent's mean moves as if it stood on this few vectors: part of what it stood on has left."""
DEATH_SHARE = 0.01
"""A cluster whose mass falls below this share of the mean mass dies, if it had half a half-life to prove itself."""
RESEED = 1024
"""Once grown, at most one split in so many vectors: what does not want to be split is not tried all the time."""
REVIEW = 64
"""Once there is no room to grow, the clusters are reviewed after so many vectors, ..."""
REVIEW_LEAST = 8192
"""... and ever more rarely, at least after so many, while that changes nothing for the better."""
YOUNG = 384
"""A cluster is not merged, nor a split judged, before so many vectors had a chance to reach it."""
SWELLING = 1.5
"""A cluster that has come to hold so many times more excess inertia than any did is a reason to review at once."""
GAIN = 2.0
"""A split was worth while when undoing it would cost this many times what the merge before it did."""
WORTH = 4.0
"""A merge must cost at most a quarter of the excess inertia of the cluster that is split in its stead: of what it has
beyond what the median spread would give it."""


@dataclass(frozen=True)
class ClusterChange:
    """Something happened to the list of clusters.

    Parameters
    ----------
    type
        `birth`, `death`, `merge` (into `cluster_id`) or `split` (`cluster_id` is the new one).
    cluster_id
        The cluster concerned; never reused.
    from_ids
        Clusters it came from.
    size
        Its effective number of vectors at that moment.
    members
        Rows of the batch just learned that lie nearest to its centroid, nearest first, three at most.
    """

    type: ChangeType
    cluster_id: int
    from_ids: tuple[int, ...] = ()
    size: float = 0.0
    members: tuple[int, ...] = ()


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
        self._space: Cosine | Standardized | None = None
        self.feature_names: list[Any] | None = None
        self.n_seen = 0
        self.next_id = 0
        self.splits = 0
        self.review_due = 0
        self.review_pause = REVIEW
        self.largest = 1.0
        self.trials = np.zeros((0, 3))
        self.buffer: list[Array] = []
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

    def place(self) -> None:
        """Put the means on the grid anew, when the geometry or all of them have changed."""
        self.points: Array = self.means if self._space is None else self._space.place(self.means)
        self.squares = grid_squares(self.points)

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int | None:
        """Length of the vectors, None until the first."""
        return None if self._space is None else self._space.dimension

    @property
    def space(self) -> Cosine | Standardized:
        """The geometry, once there is a dimension."""
        if self._space is None:
            raise RuntimeError("no vectors were learned yet")
        return self._space

    def begin(self, dimension: int) -> None:
        """Settle on a dimension; done by the first vectors."""
        self._space = make_geometry(self.geometry, dimension)
        self._clear(dimension)

    @property
    def is_warm(self) -> bool:
        """Whether there are clusters."""
        return len(self.ids) > 0

    @property
    def centroids(self) -> Array:
        """Centroids (K, D) float32 in the space of the vectors (of length one in cosine geometry)."""
        return self.means if self._space is None else self._space.original(self.means)

    def validate(self, vectors: Array) -> None:
        """Raise InvalidRecord when vectors (N, D) float32 do not fit."""
        validate(vectors, self.geometry, self.dimension)

    def distances(self, points: Array) -> Array:
        """Distances (N, K) float64 of grid points (N, D) to the centroids."""
        return self.space.distances(points, self.points, self.squares)

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
        if self._space is None:
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
        distances = self.space.distances(self.space.place(rows[first:]), self.points)
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
        self.means = means
        self.place()
        own = self.space.distances(points, self.points)[np.arange(len(rows)), labels]
        self.ids = np.arange(self.next_id, self.next_id + len(means), dtype=np.int64)
        self.next_id += len(means)
        self.mass = counts
        self.weight = counts.copy()
        self.scatter = np.bincount(labels, weights=own, minlength=len(means)) / counts
        self.born = np.full(len(means), self.n_seen, np.int64)
        self.adopted = np.zeros(len(means), np.bool_)
        self.review_due = self.n_seen + REVIEW

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
        self.mass *= decay
        self.weight *= decay
        k = len(self.ids)
        self.mass += np.bincount(nearest[counted], minlength=k)
        taken = np.flatnonzero(moving)
        if taken.size:
            counts = np.bincount(nearest[taken], minlength=k)
            clusters = np.flatnonzero(counts)
            labels = nearest if taken.size == len(rows) else np.where(moving, nearest, -1)
            places = np.full(k + 1, -1)  # the last for label -1
            places[clusters] = np.arange(len(clusters))
            means = self.space.sums(rows, places[labels], len(clusters))
            self.weight[clusters] += counts[clusters]
            share = counts[clusters] / self.weight[clusters]
            average = np.bincount(nearest[taken], weights=distance[taken], minlength=k)[clusters] / counts[clusters]
            self.scatter[clusters] += share * (average - self.scatter[clusters])
            means *= (1.0 / self.weight[clusters])[:, None].astype(means.dtype)
            old = self.means[clusters]
            old *= (1.0 - share)[:, None].astype(means.dtype)
            means += old
            self.means[clusters] = means
            if self.geometry == "standardized":
                self.space.update(rows[moving], self.half_life_vectors)
                self.place()
            else:
                points = self.space.place(means)
                self.points[clusters] = points
                self.squares[clusters] = grid_squares(points)
        changes = self._bury()
        # Positions have moved when somebody died: growth waits for the next batch.
        return changes or self._grow(rows, taken, nearest, distance) or self._review(rows, taken, nearest, distance)

    def _grow(self, rows: Array, taken: Array, nearest: Array, distance: Array) -> list[ClusterChange]:
        """Split off the cluster with most scatter, at the batch's member furthest from it, while there is room."""
        room = min(self.clusters, self.n_seen // WARM_UP_PER_CLUSTER) - len(self.ids)
        if self.splits >= self.clusters:  # it has grown; from now on only places of the dead are filled, slowly
            room = min(room, (self.n_seen // RESEED) - (self.n_seen - len(rows)) // RESEED)
        changes: list[ClusterChange] = []
        for _ in range(min(room, 1 + len(rows) // 32)):
            if taken.size == 0:
                break
            inertia = self._inertia()
            parent = int(nearest[taken][np.argmax(inertia[nearest[taken]])])
            members = taken[nearest[taken] == parent]
            taken = taken[nearest[taken] != parent]
            changes += self._split(parent, rows, members, distance)
        return changes

    def _review(self, rows: Array, taken: Array, nearest: Array, distance: Array) -> list[ClusterChange]:
        """Merge the two clusters that lose least by it, and split the one with most excess inertia in their stead.

        Split and merge as in ISODATA (Ball & Hall, 1965). What a merge costs is Ward's criterion (1963). A split that
        did not gain more than the merge before it had cost is a sign that the clusters are as they should be: then the
        next review is twice as far away. Of a useless split the two parts are the cheapest pair of the next review.
        """
        if len(self.ids) < self.clusters or len(self.ids) < 3:
            return []
        power = 1 if self.geometry == "cosine" else 2  # 1 - cosine is half a squared distance already
        spread = self.scatter**power
        excess = self.weight * (spread - np.median(spread))
        parent = int(np.argmax(excess))
        share = float(excess[parent] / max(float((self.weight * spread).sum()), 1e-30))
        if self.n_seen < self.review_due and share < SWELLING * self.largest:
            return []
        members = taken[nearest[taken] == parent]
        if len(members) == 0:
            return []  # it waits for a batch that shows what is in that cluster
        cost = ward_cost(self.distances(self.points) ** power, np.maximum(self.mass, self.weight))
        young = self.n_seen - self.born < YOUNG
        self._judge(cost, young)
        cost[young] = cost[:, young] = cost[parent] = cost[:, parent] = np.inf
        np.fill_diagonal(cost, np.inf)
        one, other = divmod(int(np.argmin(cost)), len(self.ids))
        paid = float(cost[one, other])
        changes: list[ClusterChange] = []
        if paid * WORTH < excess[parent]:
            changes = self._split(parent, rows, members, distance)
        if changes:
            self.trials = np.append(self.trials, [[changes[0].cluster_id, self.ids[parent], paid]], axis=0)
            changes = [*self.merge(one, other), *changes]
        else:
            self._pause()
            self.largest = share
        self.review_due = self.n_seen + self.review_pause
        return changes

    def _judge(self, cost: Array, young: Array) -> None:
        """Judge the splits made long enough ago by what undoing them would cost: review sooner, or later."""
        open_trials = []
        for child, parent, paid in self.trials:
            pair = np.flatnonzero((self.ids == child) | (self.ids == parent))
            if len(pair) == 2 and young[pair].any():
                open_trials.append((child, parent, paid))
            elif len(pair) == 2 and cost[pair[0], pair[1]] > GAIN * paid:
                self.review_pause = REVIEW
            else:
                self._pause()
        self.trials = np.array(open_trials).reshape(-1, 3)

    def _pause(self) -> None:
        self.review_pause = min(2 * self.review_pause, REVIEW_LEAST)

    def _inertia(self) -> Array:
        return self.weight * self.scatter ** (1 if self.geometry == "cosine" else 2)

    def _split(self, parent: int, rows: Array, members: Array, distance: Array) -> list[ClusterChange]:
        """Split a cluster, given the batch's rows that belong to it; nothing happens where they are all alike."""
        if self.scatter[parent] <= self.space.resolution:
            return []
        if len(members) >= HALVES:
            # The old mean stands for what the cluster was: where that has stopped coming, all that is new moves out.
            stay = np.repeat(self.means[[parent]], int(PARENT_WEIGHT), axis=0)
            chosen = np.concatenate([stay, rows[members]])
            means, labels = batch_kmeans(self.space, chosen, self.space.place(chosen), 2, self.seed, starts=1)
            leaving = np.flatnonzero(labels[len(stay) :] != labels[0])
            if len(leaving) == 0:
                return []
            mean, weight, seed = means[1 - labels[0]], float(len(leaving)), int(members[leaving[0]])
        else:
            seed = int(members[np.argsort(distance[members], kind="stable")[int(SEED_RANK * (len(members) - 1))]])
            mean, weight = rows[seed], 1.0
            if distance[seed] <= self.space.resolution:
                return []
        self.weight[parent] = min(self.weight[parent], PARENT_WEIGHT)
        # The new one has no mass until it has earned it: what is split off may be a clump of outliers.
        child = self.add(mean, 0.0, weight, float(self.scatter[parent]), bool(self.adopted[parent]))
        self.splits += 1
        return [ClusterChange("split", child, (int(self.ids[parent]),), weight, (seed,))]

    def merge(self, one: int, other: int) -> list[ClusterChange]:
        """Merge two clusters into the older one, whose id stays."""
        kept, gone = min(one, other), max(one, other)
        total = self.weight[kept] + self.weight[gone]
        share = self.weight[gone] / total
        apart = float(self.space.distances(self.points[[kept]], self.points[[gone]])[0, 0])
        mean = self.means[kept] + (self.means[gone] - self.means[kept]) * self.means.dtype.type(share)
        self.means[kept] = mean
        self.points[kept] = self.space.place(mean[None])[0]
        self.squares[kept] = grid_squares(self.points[[kept]])[0]
        self.scatter[kept] += share * (self.scatter[gone] - self.scatter[kept])
        self.scatter[kept] += share * (1.0 - share) * apart
        self.weight[kept] = total
        self.mass[kept] += self.mass[gone]
        self.born[kept] = min(self.born[kept], self.born[gone])
        self.adopted[kept] |= self.adopted[gone]
        ids = int(self.ids[kept]), int(self.ids[gone])
        change = ClusterChange("merge", ids[0], (ids[1],), float(self.mass[kept]))
        self._drop(np.arange(len(self.ids)) != gone)
        return [change]

    def add(self, mean: Array, mass: float, weight: float, scatter: float, adopted: bool) -> int:
        """Add one cluster with mean (D,); returns its id."""
        new = self.next_id
        self.next_id += 1
        self.ids = np.append(self.ids, np.int64(new))
        self.mass = np.append(self.mass, mass)
        self.weight = np.append(self.weight, weight)
        self.scatter = np.append(self.scatter, scatter)
        self.born = np.append(self.born, np.int64(self.n_seen))
        self.adopted = np.append(self.adopted, adopted)
        self.means = np.concatenate([self.means, mean[None].astype(self.means.dtype)])
        point = self.space.place(mean[None].astype(self.means.dtype))
        self.points = np.concatenate([self.points, point])
        self.squares = np.append(self.squares, grid_squares(point))
        return new

    def adopt(self, mean: Array, count: float, members: tuple[int, ...] = ()) -> list[ClusterChange]:
        """Found a cluster on the mean (D,) of `count` rows that recurred; where there is no room, the lightest dies."""
        changes: list[ClusterChange] = []
        if len(self.ids) >= self.clusters:
            changes += self.remove(np.arange(len(self.ids)) != int(np.argmin(self.mass)))
        scatter = float(self.scatter.mean()) if len(self.ids) else 0.0
        new = self.add(mean, count, count, scatter, adopted=True)
        return [*changes, ClusterChange("birth", new, (), count, members)]

    def remove(self, keep: Array) -> list[ClusterChange]:
        """Keep the clusters of a mask (K,); the others die."""
        gone = [
            ClusterChange("death", int(i), (), float(m)) for i, m in zip(self.ids[~keep], self.mass[~keep], strict=True)
        ]
        self._drop(keep)
        return gone

    def _drop(self, keep: Array) -> None:
        for name in ("ids", "mass", "weight", "scatter", "born", "adopted", "means", "points", "squares"):
            setattr(self, name, getattr(self, name)[keep])

    def _bury(self) -> list[ClusterChange]:
        old = self.n_seen - self.born > self.half_life_vectors / 2.0
        dying = old & (self.mass < DEATH_SHARE * self.mass.mean())
        return self.remove(~dying) if dying.any() else []

    @classmethod
    def _unit_test_params(cls) -> Any:
        """Parameters river's estimator checks use."""
        yield {"geometry": "standardized", "clusters": 8, "warm_up": 32}


def ward_cost(squared: Array, mass: Array) -> Array:
    """Return by how much merging two clusters raises the inertia (Ward, 1963), for all pairs.

    Parameters
    ----------
    squared
        (K, K) squared distances between centroids.
    mass
        (K,), above zero.

    Examples
    --------
    >>> ward_cost(np.array([[0.0, 9.0], [9.0, 0.0]]), np.array([2.0, 1.0]))
    array([[0., 6.],
           [6., 0.]])
    """
    return squared * (mass[:, None] * mass / (mass[:, None] + mass))


def _nearest_rows(distances: Array, column: int, most: int = 3) -> tuple[int, ...]:
    """Rows whose nearest cluster is `column`, nearest first."""
    rows = np.flatnonzero(np.argmin(distances, axis=1) == column)
    return tuple(int(row) for row in rows[np.argsort(distances[rows, column], kind="stable")][:most])
