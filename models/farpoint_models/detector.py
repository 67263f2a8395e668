"""OutlierDetector: clusterer + calibration + quarantine, one fold over the vectors of a stream."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from river import base

from .batch_kmeans import batch_kmeans
from .calibration import WINDOW, Calibration
from .cluster_change import ClusterChange
from .geometry import Array, GeometryName, as_vectors
from .quarantine import CANDIDATES, Quarantine
from .scoring import distance_to_mass, outlier_score
from .stream_kmeans import WARM_UP_PER_CLUSTER, StreamKMeans

HALF_LIFE_VECTORS = 20_000.0
GATE = 0.05
"""The outermost share of normal vectors is counted but moves no centroid: outliers hide there."""
FOLDS = 4
"""Parts of the warm-up, each scored by clusters made from the others."""


@dataclass(frozen=True)
class Scores:
    """Decisions on N vectors.

    Parameters
    ----------
    cluster_id
        (N,) int64, the nearest cluster; -1 while warming up.
    distance
        (N,) float64, to that cluster's centroid; NaN while warming up.
    outlier_score
        (N,) float64 in [0, 1), see `scoring.outlier_score`; NaN while warming up.
    p_value
        (N,) float64, share of recent normal scores at least this high; NaN while warming up.
    is_outlier
        (N,) bool, `outlier_score >= threshold`.
    scored
        False while warming up.
    threshold
        The outlier score from which a vector is an outlier, None while warming up.
    """

    cluster_id: Array
    distance: Array
    outlier_score: Array
    p_value: Array
    is_outlier: Array
    scored: bool
    threshold: float | None
    working: "_Working | None" = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.cluster_id)


@dataclass(frozen=True)
class _Working:
    """What `learn_many` need not compute again."""

    n_seen: int
    rows: Array
    points: Array
    nearest: Array
    distance: Array
    vouched: Array
    rarity: Array


class OutlierDetector(base.AnomalyDetector):
    """Scores vectors by how far they lie from what is normal in their stream, and learns what that is.

    A vector's mean distance to the nearest 7 % of the stream's mass (`scoring.distance_to_mass`, over streaming
    clusters) becomes a p-value against recent normal distances, and that a score. Outliers move no centroid: they wait
    in quarantine until they have recurred often enough, over enough time, to found a cluster; that one is normal
    whatever its mass.

    The state is a fold: per batch `score_many` with the state before it, then `learn_many`. The same batches give the
    same state bit for bit, with any number of threads (see `geometry`), saved and restored anywhere in between.

    Parameters
    ----------
    geometry
        `cosine` for embeddings, `standardized` for raw numeric features.
    clusters
        Most clusters kept.
    warm_up
        Vectors before the first score.
    half_life_vectors
        After so many vectors a vector counts half.
    false_alarm_rate
        Share of normal vectors that may be flagged.
    seed
        Of the first centroids. Nothing else is random.

    References
    ----------
    Chazal, F., Cohen-Steiner, D., Merigot, Q. (2011). Geometric inference for probability measures. Foundations of
    Computational Mathematics 11.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(7)
    >>> normal = rng.normal(0, 0.05, (300, 8)) + np.eye(8)[rng.integers(0, 3, 300)]
    >>> detector = OutlierDetector(warm_up=256)
    >>> for batch in np.split(normal, 5):
    ...     scores = detector.score_many(batch)
    ...     changes = detector.learn_many(batch, scores)
    >>> detector.score_many([[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0]]).is_outlier
    array([False,  True])
    """

    def __init__(
        self,
        *,
        geometry: GeometryName = "cosine",
        clusters: int = 100,
        warm_up: int = 256,
        half_life_vectors: float = HALF_LIFE_VECTORS,
        false_alarm_rate: float = 0.001,
        seed: int = 0,
    ) -> None:
        self.geometry = geometry
        self.clusters = clusters
        self.warm_up = warm_up
        self.half_life_vectors = half_life_vectors
        self.false_alarm_rate = false_alarm_rate
        self.seed = seed
        self.kmeans = StreamKMeans(clusters, warm_up, half_life_vectors, geometry, seed)
        self.calibration = Calibration(false_alarm_rate)
        self.quarantine: Quarantine | None = None

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int | None:
        """Length of the vectors it serves, None until the first."""
        return self.kmeans.dimension

    @property
    def n_seen(self) -> int:
        """Vectors learned."""
        return self.kmeans.n_seen

    @property
    def state(self) -> Literal["warming_up", "scored"]:
        """Whether scores come yet."""
        return "scored" if self.kmeans.is_warm else "warming_up"

    @property
    def threshold(self) -> float | None:
        """The outlier score from which a vector is an outlier; None while warming up."""
        return float(outlier_score(-np.log10(np.array(self.false_alarm_rate)))) if self.kmeans.is_warm else None

    @property
    def distance_limit(self) -> float | None:
        """The distance at which the score reaches the threshold; None while warming up. This one moves."""
        return self.calibration.limit if self.kmeans.is_warm else None

    def largest_state(self, dimension: int) -> int:
        """Bound the bytes of its snapshot, whatever it will learn from vectors of this dimension.

        Warming up it keeps vectors, later means of clusters and of candidates.

        Examples
        --------
        >>> OutlierDetector(clusters=100, warm_up=256).largest_state(1280) < 2**21
        True
        """
        row = dimension * (4 if self.geometry == "cosine" else 8)
        vectors = self.warm_up * dimension * 4
        means = (self.clusters + CANDIDATES) * (row + 128)  # and what else is kept of each
        moments = 2 * dimension * 8
        return max(vectors, means) + moments + 2 * WINDOW * 8

    def clusters_table(self) -> tuple[Array, Array, Array]:
        """List the live clusters.

        Returns
        -------
        ids
            (K,) int64.
        sizes
            (K,) int64, vectors counted with forgetting, rounded, at least 1.
        centroids
            (K, D) float32 in the space of the vectors; of length one in cosine geometry.
        """
        return self.kmeans.ids.copy(), _sizes(self.kmeans.mass), self.kmeans.centroids

    def nearest_clusters(self, x: Any, k: int = 3) -> tuple[Array, Array, Array]:
        """Find the clusters nearest to vectors (N, D), nearest first.

        Returns
        -------
        ids, distances, sizes
            Each (N, k'), k' the smaller of k and the number of live clusters.
        """
        vectors = as_vectors(x)
        self.validate(vectors)
        if not self.kmeans.is_warm:
            nothing = np.zeros((len(vectors), 0))
            return nothing.astype(np.int64), nothing, nothing.astype(np.int64)
        space = self.kmeans.space
        distances = self.kmeans.distances(space.place(space.rows(vectors)))
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return self.kmeans.ids[order], np.take_along_axis(distances, order, axis=1), _sizes(self.kmeans.mass)[order]

    def validate(self, x: Any) -> None:
        """Check vectors (N, D) against this detector.

        Raises
        ------
        InvalidRecord
            `malformed_payload`, `dimension_mismatch`, `non_finite_vector`, `zero_vector` (cosine), naming the row.
        """
        self.kmeans.validate(as_vectors(x))

    # --- river's verbs ----------------------------------------------------------------------------------------------

    def learn_one(self, x: dict[Any, float]) -> None:
        """Learn one dictionary of numeric features."""
        self.learn_many(self.kmeans.vector(x))
        if self.kmeans.feature_names is None:
            self.kmeans.feature_names = sorted(x, key=str)

    def score_one(self, x: dict[Any, float]) -> float:
        """Score one dictionary of numeric features; 0 while warming up."""
        scores = self.score_many(self.kmeans.vector(x))
        return float(scores.outlier_score[0]) if scores.scored else 0.0

    def score_many(self, x: Any) -> Scores:
        """Score vectors (N, D) with the state as it is; changes nothing.

        Raises
        ------
        InvalidRecord
            As `validate`.
        """
        vectors = as_vectors(x)
        self.kmeans.validate(vectors)
        n = len(vectors)
        if not self.kmeans.is_warm:
            unknown = np.full(n, np.nan)
            return Scores(np.full(n, -1, np.int64), unknown, unknown, unknown, np.zeros(n, np.bool_), False, None)
        space = self.kmeans.space
        rows = space.rows(vectors)
        points = space.place(rows) if space.name == "standardized" else rows
        distances = self.kmeans.distances(points)
        nearest = np.argmin(distances, axis=1)
        distance = distances[np.arange(n), nearest]
        vouched = self._vouched(distances)
        rarity = self.calibration.rarity(vouched)
        score = outlier_score(rarity)
        threshold = self.threshold
        return Scores(
            cluster_id=self.kmeans.ids[nearest],
            distance=distance,
            outlier_score=score,
            p_value=10.0**-rarity,
            is_outlier=score >= threshold,
            scored=True,
            threshold=threshold,
            working=_Working(self.n_seen, rows, points, nearest, distance, vouched, rarity),
        )

    def learn_many(self, x: Any, scores: Scores | None = None) -> list[ClusterChange]:
        """Learn vectors (N, D).

        Parameters
        ----------
        x
            The vectors.
        scores
            What `score_many` said of the same vectors just before; saves computing it again.

        Returns
        -------
        changes
            Births, deaths, merges and splits of clusters, in order.

        Raises
        ------
        InvalidRecord
            As `validate`; nothing is learned then.
        """
        if not self.kmeans.is_warm:
            vectors = as_vectors(x)
            self.kmeans.validate(vectors)
            return self._warm_up(vectors)
        if scores is None or scores.working is None or scores.working.n_seen != self.n_seen:
            scores = self.score_many(x)
        work = scores.working
        if work is None or len(work.rows) == 0:
            return []
        normal = ~scores.is_outlier
        moving = normal & (work.rarity < -np.log10(GATE))
        before = self.n_seen
        radius = self.distance_limit or 0.0
        changes = self.kmeans.absorb(work.rows, work.nearest, work.distance, normal, moving)
        self.calibration.learn(work.vouched, scores.is_outlier)
        changes += self._hold(work, scores.is_outlier, before, radius)
        return changes

    # --- inside -----------------------------------------------------------------------------------------------------

    def _warm_up(self, vectors: Array) -> list[ClusterChange]:
        so_far = [*self.kmeans.buffer, vectors]
        changes = self.kmeans.collect(vectors)
        if self.kmeans.is_warm:
            self.quarantine = Quarantine(self.kmeans.space, self.half_life_vectors)
            self.calibration.seed(self._held_out_distances(np.concatenate(so_far)))
        return changes

    def _held_out_distances(self, vectors: Array) -> Array:
        """Distances (N,) of warm-up vectors to clusters made without them.

        Distances of vectors to centroids they helped to make are too small, and would flag the first normal vectors
        that come. Blocks follow the stream, because neighbours in time resemble each other (frames of a video).
        """
        space = self.kmeans.space
        rows = space.rows(vectors)
        points = space.place(rows)
        blocks = np.arange(len(rows)) * FOLDS // len(rows)
        distances = np.zeros(len(rows))
        for block in np.unique(blocks):
            inside, outside = blocks == block, blocks != block
            if not outside.any():
                break
            wanted = max(1, min(self.clusters, int(outside.sum()) // WARM_UP_PER_CLUSTER))
            means, labels = batch_kmeans(space, rows[outside], points[outside], wanted, self.seed, starts=1)
            centroids = space.place(means)
            mass = np.bincount(labels).astype(np.float64)
            distances[inside] = distance_to_mass(space.distances(points[inside], centroids), mass)
        return distances

    def _hold(self, work: _Working, outlier: Array, before: int, radius: float) -> list[ClusterChange]:
        """Outliers of a batch into quarantine; founds the clusters of those that recurred enough."""
        quarantine = self.quarantine
        changes: list[ClusterChange] = []
        if quarantine is None:
            return changes
        held = np.flatnonzero(outlier)
        for row in held:
            now = before + int(row)
            ready = quarantine.admit(work.rows[row], work.points[row], float(work.vouched[row]), radius, now)
            if ready is None:
                continue
            mean, count = quarantine.take(ready)
            space = self.kmeans.space
            away = space.distances(space.place(mean[None]), work.points[held])[0]
            nearest = held[np.argsort(away, kind="stable")][: max(1, min(3, int(count)))]
            changes += self.kmeans.adopt(mean, count, tuple(int(member) for member in nearest))
        quarantine.expire(self.n_seen)
        return changes

    def _vouched(self, distances: Array) -> Array:
        """Distances (N,) to what is normal: to the nearest mass, or to a cluster that recurrence has made normal."""
        vouched = distance_to_mass(distances, self.kmeans.mass)
        if self.kmeans.live.adopted.any():
            vouched = np.minimum(vouched, distances[:, self.kmeans.live.adopted].min(axis=1))
        return vouched

    @classmethod
    def _unit_test_params(cls) -> Any:
        """Parameters river's estimator checks use."""
        yield {"geometry": "standardized", "clusters": 8, "warm_up": 32}


def _sizes(mass: Array) -> Array:
    return np.maximum(1, np.rint(mass)).astype(np.int64)
