"""Geometry: exact products, honest distances, precise refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.geometry import Cosine, GeometryName, Standardized, as_vectors, make_geometry, validate


@pytest.mark.parametrize("dimension", [1, 2, 17, 512, 1280, 4096])
def test_cosine_products_are_exact(dimension: int) -> None:
    """A float32 product of grid points equals the product of the same whole numbers in int64."""
    rng = np.random.default_rng(dimension)
    vectors = rng.normal(size=(40, dimension)).astype(np.float32)
    vectors[0] = 1.0  # all rounding in one direction
    space = Cosine(dimension)
    points = space.place(vectors)
    assert ((points @ points.T).astype(np.int64) == points.astype(np.int64) @ points.astype(np.int64).T).all()
    assert np.einsum("ij,ij->i", points.astype(np.int64), points.astype(np.int64)).max() <= 2**24


@pytest.mark.parametrize("dimension", [1, 3, 1280])
def test_standardized_products_are_exact(dimension: int) -> None:
    """A float64 product of grid points equals the product of the same whole numbers in int64, however far they lie."""
    space = Standardized(dimension)
    points = space.place(np.random.default_rng(0).normal(0, 1e6, (40, dimension)))
    whole = points.astype(np.int64)
    assert ((points @ points.T).astype(np.int64) == whole @ whole.T).all()
    assert (whole * whole).sum(axis=1).max() <= 2**51


def test_cosine_distance_is_one_minus_cosine() -> None:
    """Distances agree with the textbook formula to the grid's resolution, whatever the lengths."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30, 64)) * 10.0 ** rng.integers(-18, 18, (30, 1))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    space = Cosine(64)
    points = space.place(as_vectors(vectors))
    np.testing.assert_allclose(space.distances(points, points), 1 - units @ units.T, atol=2e-3)


def test_cosine_of_extreme_lengths() -> None:
    """Vectors whose squared length leaves float32 still have their direction."""
    space = Cosine(2)
    points = space.place(as_vectors([[3e38, 3e38], [1e-40, 1e-40], [1.0, 1.0]]))
    assert (points == points[2]).all()


def test_duplicates_are_at_distance_zero() -> None:
    """The same vector twice lies at distance 0, not at rounding noise."""
    vectors = np.random.default_rng(2).normal(size=(5, 1280)).astype(np.float32)
    for space in (Cosine(1280), Standardized(1280)):
        points = space.place(space.rows(vectors))
        assert np.diag(space.distances(points, points)).max() < 1e-7


def test_standardized_ignores_the_unit_of_a_feature() -> None:
    """Distances are the same whether a feature comes in metres or in millimetres."""
    vectors = np.random.default_rng(3).normal(size=(200, 3)).astype(np.float32)
    found = []
    for unit in (1.0, 1024.0):
        space = Standardized(3)
        rows = space.rows((vectors * [1.0, unit, 1.0]).astype(np.float32))
        space.update(rows, 1000.0)
        points = space.place(rows)
        found.append(space.distances(points, points))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_standardized_is_not_stretched_by_early_outliers() -> None:
    """One in twenty wild values in the warm-up leaves the deviation within a factor of 2."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(256, 4))
    rows[::20] += 500.0
    space = Standardized(4)
    space.update(rows, 1000.0)
    assert (space.deviation < 2.0).all()


def test_standardized_constant_feature() -> None:
    """A feature that never varied is harmless, also far from zero."""
    space = Standardized(2)
    rows = np.column_stack([np.full(100, 1e7), np.random.default_rng(5).normal(size=100)])
    space.update(rows, 1000.0)
    points = space.place(rows)
    assert np.isfinite(space.distances(points, points)).all()
    assert (points[:, 0] == 0).all()


@pytest.mark.parametrize(
    ("vectors", "geometry", "dimension", "reason", "words"),
    [
        ([[1, 2, 3]], "cosine", 2, InvalidReason.DIMENSION_MISMATCH, "3 dimensions, this detector serves 2"),
        ([[1, 2], [np.nan, 1]], "cosine", 2, InvalidReason.NON_FINITE_VECTOR, "vector 1"),
        ([[1, 2], [1, np.inf]], "standardized", None, InvalidReason.NON_FINITE_VECTOR, "vector 1"),
        ([[1e300, 2]], "standardized", None, InvalidReason.NON_FINITE_VECTOR, "vector 0"),
        ([[1, 2], [3, 4], [0, 0]], "cosine", None, InvalidReason.ZERO_VECTOR, "vector 2"),
    ],
)
def test_refusals(
    vectors: list[list[float]], geometry: GeometryName, dimension: int | None, reason: InvalidReason, words: str
) -> None:
    """What does not fit is refused with its reason and the row."""
    with pytest.raises(InvalidRecord, match=words) as caught:
        validate(as_vectors(vectors), geometry, dimension)
    assert caught.value.reason == reason


@pytest.mark.parametrize("bad", [[], [1, 2], [["a"]], [[]], [[1, 2], [3]]])
def test_not_a_table(bad: object) -> None:
    """What is not a table of numbers is refused as malformed."""
    with pytest.raises(InvalidRecord) as caught:
        as_vectors(bad)  # type: ignore[arg-type]
    assert caught.value.reason == InvalidReason.MALFORMED_PAYLOAD


def test_zero_and_tiny_vectors_pass_where_they_mean_something() -> None:
    """Zeros are fine as raw features, and tiny vectors have a direction."""
    validate(as_vectors([[0, 0]]), "standardized", None)
    validate(as_vectors([[1e-40, 0]]), "cosine", None)


def test_unknown_geometry() -> None:
    """An unknown geometry is named."""
    with pytest.raises(ValueError, match="manhattan"):
        make_geometry("manhattan", 3)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dimension=st.sampled_from([1, 3, 100]), count=st.sampled_from([0, 1, 7, 5000]))
def test_sums_by_label(seed: int, dimension: int, count: int) -> None:
    """Sums are those of numpy, label by label; on the sphere they are exact, so the order of the rows is nothing."""
    rng = np.random.default_rng(seed)
    vectors = as_vectors(rng.normal(size=(count, dimension)) + 3) if count else np.zeros((0, dimension), np.float32)
    labels = rng.integers(-1, 6, count)
    for space in (Cosine(dimension), Standardized(dimension)):
        rows = space.rows(vectors)
        sums = space.sums(rows, labels, 7)
        for label in range(7):
            expected = rows[labels == label].astype(np.float64).sum(axis=0)
            np.testing.assert_allclose(sums[label], expected, rtol=1e-6, atol=1e-9)
        if space.name == "cosine" and count <= 4096:
            order = rng.permutation(count)
            assert (space.sums(rows[order], labels[order], 7) == sums).all()
