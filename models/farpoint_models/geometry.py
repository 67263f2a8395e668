"""How vectors compare: on the unit sphere (`cosine`) or feature by feature in standard deviations (`standardized`).

Both place vectors on a grid of whole numbers before any matrix product. Every partial sum of a product then is a whole
number that the floating-point type holds exactly, so the product is the same bit for bit whatever order a BLAS adds
in: any number of threads, any shape, any processor. That is what lets a detector's state be a function of its log.
What is added up before the grid (lengths, means) is rounded, in an order that numpy's build and the width of the
processor's vector instructions decide: there the last bit may differ between unlike machines, not between runs on one.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import InvalidReason, InvalidRecord

Array = npt.NDArray[Any]
GeometryName = Literal["cosine", "standardized"]

TINY = np.float32(1e-30)  # below this a squared norm in float32 has lost its digits
HUGE = np.float32(1e30)
EXACT_ROWS = 4096


def as_vectors(x: npt.ArrayLike) -> Array:
    """Vectors as a C-contiguous float32 array (N, D), checked for shape only.

    Raises
    ------
    InvalidRecord
        `malformed_payload` when `x` is not a table of numbers with at least one column.

    Examples
    --------
    >>> as_vectors([[1, 2], [3, 4]]).dtype
    dtype('float32')
    """
    try:
        with np.errstate(
            over="ignore"
        ):  # a float64 beyond float32 becomes infinite, and is named as such by `validate`
            vectors = np.ascontiguousarray(x, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRecord(InvalidReason.MALFORMED_PAYLOAD, f"vectors are not a table of numbers: {error}") from None
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InvalidRecord(
            InvalidReason.MALFORMED_PAYLOAD, f"vectors must have the shape (N, D), found {vectors.shape}"
        )
    return vectors


def validate(vectors: Array, name: GeometryName, dimension: int | None) -> None:
    """Check vectors (N, D) float32 against a geometry and the dimension of a detector.

    Raises
    ------
    InvalidRecord
        `dimension_mismatch`, `non_finite_vector` or `zero_vector` (cosine only), naming the first bad row.
    """
    if dimension is not None and vectors.shape[1] != dimension:
        raise InvalidRecord(
            InvalidReason.DIMENSION_MISMATCH,
            f"vectors have {vectors.shape[1]} dimensions, this detector serves {dimension}",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        squared = np.einsum("ij,ij->i", vectors, vectors)
    suspects = np.flatnonzero(~((squared > TINY) & (squared < HUGE)))  # NaN fails both
    if suspects.size == 0:
        return
    finite = np.isfinite(vectors[suspects]).all(axis=1)
    if not finite.all():
        row = int(suspects[int(np.argmin(finite))])
        raise InvalidRecord(InvalidReason.NON_FINITE_VECTOR, f"vector {row} holds a number that is NaN or infinite")
    if name == "cosine":
        zero = ~vectors[suspects].any(axis=1)
        if zero.any():
            row = int(suspects[int(np.argmax(zero))])
            raise InvalidRecord(InvalidReason.ZERO_VECTOR, f"vector {row} is all zeros and has no direction")


class Cosine:
    """Directions: vectors of length one, distance = 1 - cosine of the angle (0 same, 1 square, 2 opposite).

    Parameters
    ----------
    dimension
        Length D of the vectors.

    Notes
    -----
    Grid: a unit vector times `scale` (about 4,096), rounded. By Cauchy-Schwarz no partial sum of a product of two grid
    points exceeds 2**24, which float32 counts exactly. Rounding moves a direction by about sqrt(D / 12) / 4096 (for
    D = 1280: a cosine distance of 3e-6 between a vector and its grid point).

    Examples
    --------
    >>> space = Cosine(2)
    >>> points = space.place(space.rows(as_vectors([[3, 0], [0, 9], [-1, 0]])))
    >>> space.distances(points[:1], points).round(4) + 0.0
    array([[0., 1., 2.]])
    """

    name: GeometryName = "cosine"
    resolution = 1e-5

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        # Rounding adds at most sqrt(D) / 2 to the length.
        self.scale = np.float32(np.floor(4096.0 - np.sqrt(dimension) / 2.0))

    def rows(self, vectors: Array) -> Array:
        """Vectors (N, D) float32 -> grid points (N, D) float32."""
        return self.place(vectors)

    def place(self, rows: Array) -> Array:
        """Rows or means (N, D) float32, none of them zero -> grid points (N, D) float32 of whole numbers."""
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("ij,ij->i", rows, rows)
        if not ((squared > TINY) & (squared < HUGE)).all():
            peak = np.abs(rows).max(axis=1, keepdims=True)
            rows = rows / np.where(peak > 0, peak, np.float32(1))
            squared = np.einsum("ij,ij->i", rows, rows)
        lengths = np.sqrt(np.maximum(squared, TINY))
        points = rows * (self.scale / lengths)[:, None]
        return np.rint(points, out=points)

    def distances(self, points: Array, others: Array, squares: Array | None = None) -> Array:
        """Cosine distances (N, M) float64 between grid points (N, D) and (M, D)."""
        lengths = np.sqrt(np.maximum(grid_squares(points), 1.0))
        other_lengths = np.sqrt(np.maximum(grid_squares(others) if squares is None else squares, 1.0))
        cosines = (points @ others.T).astype(np.float64)
        cosines /= lengths[:, None]
        cosines /= other_lengths[None, :]
        np.subtract(1.0, cosines, out=cosines)
        return np.maximum(cosines, 0.0, out=cosines)

    def sums(self, rows: Array, labels: Array, count: int) -> Array:
        """Add grid points (N, D) up by label to (count, D) float32.

        A product with a one-hot matrix: a coordinate is a whole number up to 4,096, so 4,096 of them add up exactly in
        float32, in whatever order. What one batch has beyond that is added chunk by chunk, in the order of the rows.
        """
        total: Array = np.zeros((count, rows.shape[1]), np.float32)
        for start in range(0, len(rows), EXACT_ROWS):
            part = labels[start : start + EXACT_ROWS]
            one_hot = (part == np.arange(count)[:, None]).astype(np.float32)
            total += one_hot @ rows[start : start + EXACT_ROWS]
        return total

    def update(self, rows: Array, half_life: float) -> None:
        """Nothing to learn from rows on the sphere."""

    def original(self, means: Array) -> Array:
        """Means -> unit vectors (N, D) float32."""
        lengths = np.sqrt(np.einsum("ij,ij->i", means, means, dtype=np.float64))
        return (means / np.maximum(lengths, 1e-30)[:, None]).astype(np.float32)

    def state(self) -> dict[str, Array]:
        """Nothing beyond the dimension."""
        return {}

    def restore(self, state: dict[str, Array]) -> None:
        """Nothing to take over."""


class Standardized:
    """Raw numeric features: each centred and scaled by its running mean and deviation; Euclidean distance.

    The distance is divided by sqrt(D), so that it reads "standard deviations per feature" in any dimension.

    Parameters
    ----------
    dimension
        Length D of the vectors.

    Notes
    -----
    Mean and deviation are exponentially weighted (West, 1979, incremental weighted moments) over vectors that passed as
    normal; values further than `reach` deviations count as `reach`, so that one wild value cannot stretch the scale.
    The first batch (the warm-up) is clipped the same way around its median, by the range of its inner 80 %. A feature
    that never varied has deviation one. Grid: `scale` steps per deviation in float64, so that a product stays below
    2**52.

    Examples
    --------
    >>> space = Standardized(1)
    >>> rows = space.rows(as_vectors([[9], [11], [9], [11]]))
    >>> space.update(rows, half_life=1000.0)
    >>> space.distances(space.place(rows[:1]), space.place(rows[1:2])).round(2)
    array([[2.]])
    """

    name: GeometryName = "standardized"
    resolution = 1e-4
    reach = 4.0
    limit = 1e3  # deviations: further away is equally absurd, and would not fit the grid

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.weight = 0.0
        self.mean = np.zeros(dimension)
        self.variance = np.ones(dimension)
        longest = self.limit * np.sqrt(dimension) * 2.0
        self.scale = float(2.0 ** np.floor(26.0 - np.log2(longest)))

    def rows(self, vectors: Array) -> Array:
        """Vectors (N, D) float32 -> the same numbers in float64."""
        return vectors.astype(np.float64)

    @property
    def deviation(self) -> Array:
        """Standard deviation per feature (D,), one where a feature never varied."""
        # What a float32 can tell apart around the mean is not variation.
        floor = np.abs(self.mean) * 1e-6
        deviation = np.sqrt(self.variance)
        return np.where(deviation > floor, deviation, np.maximum(1.0, floor))

    def place(self, rows: Array) -> Array:
        """Rows or means (N, D) -> grid points (N, D) float64 of whole numbers."""
        with np.errstate(over="ignore"):
            points = (rows - self.mean) / self.deviation
        np.clip(points, -self.limit, self.limit, out=points)
        points *= self.scale
        return np.rint(points, out=points)

    def distances(self, points: Array, others: Array, squares: Array | None = None) -> Array:
        """Root mean square difference per feature (N, M) float64, in standard deviations."""
        other_squares = grid_squares(others) if squares is None else squares
        squared = grid_squares(points)[:, None] + other_squares[None, :] - 2.0 * (points @ others.T)
        return np.sqrt(squared) / (self.scale * np.sqrt(self.dimension))

    def sums(self, rows: Array, labels: Array, count: int) -> Array:
        """Add rows (N, D) up by label to (count, D) float64, in the order of the rows."""
        total = np.zeros((count, rows.shape[1]))
        taken = np.flatnonzero(labels >= 0)
        if taken.size:
            taken = taken[np.argsort(labels[taken], kind="stable")]
            present, starts = np.unique(labels[taken], return_index=True)
            total[present] = np.add.reduceat(rows[taken], starts, axis=0)
        return total

    def update(self, rows: Array, half_life: float) -> None:
        """Fold rows (N, D) float64 into mean and deviation; grid points made before are stale then."""
        if len(rows) == 0:
            return
        if self.weight == 0.0:
            below, centre, above = np.quantile(rows, [0.1, 0.5, 0.9], axis=0)
            spread = (above - below) / 2.563  # their distance in deviations, were it a Gaussian
            spread = np.where(spread > 0.0, spread, np.std(rows, axis=0))  # a feature that is nearly always the same
            rows = np.clip(rows, centre - self.reach * spread, centre + self.reach * spread)
        else:
            reach = self.reach * self.deviation
            rows = np.clip(rows, self.mean - reach, self.mean + reach)
        kept = self.weight * 2.0 ** (-len(rows) / half_life)
        self.weight = kept + len(rows)
        share = len(rows) / self.weight
        batch_mean = rows.mean(axis=0)
        step = batch_mean - self.mean if kept else np.zeros(self.dimension)
        batch_variance = np.mean((rows - batch_mean) ** 2, axis=0)
        self.variance = (1.0 - share) * self.variance + share * batch_variance + share * (1.0 - share) * step**2
        self.mean = self.mean + share * step if kept else batch_mean

    def original(self, means: Array) -> Array:
        """Means -> vectors (N, D) float32."""
        return means.astype(np.float32)

    def state(self) -> dict[str, Array]:
        """Arrays that restore the running moments."""
        return {"weight": np.array([self.weight]), "mean": self.mean, "variance": self.variance}

    def restore(self, state: dict[str, Array]) -> None:
        """Take over running moments."""
        self.weight = float(state["weight"][0])
        self.mean = state["mean"]
        self.variance = state["variance"]


def make_geometry(name: GeometryName, dimension: int) -> Cosine | Standardized:
    """Make the geometry of that name.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    if name == "cosine":
        return Cosine(dimension)
    if name == "standardized":
        return Standardized(dimension)
    raise ValueError(f"geometry must be 'cosine' or 'standardized', not {name!r}")


def grid_squares(points: Array) -> Array:
    """Squared lengths (N,) float64 of grid points; exact, as products are."""
    return np.vecdot(points, points).astype(np.float64)
