"""Where ours and others' implementations must agree exactly, they do."""

import numpy as np
import pytest
from river import preprocessing
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin
from sklearn.neighbors import NearestNeighbors

from farpoint_models.geometry import Standardized
from farpoint_models.review import ward_cost
from farpoint_models.scoring import distance_to_mass
from farpoint_models.stream_kmeans import StreamKMeans


def blobs(seed: int = 0) -> np.ndarray:
    """Six Gaussians in ten dimensions."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 5, (6, 10))[rng.integers(0, 6, 900)] + rng.normal(size=(900, 10))).astype(np.float32)


def test_assignment_is_the_nearest_centroid() -> None:
    """`predict_many` is scikit-learn's argmin over the cosine distances to our centroids."""
    vectors = blobs()
    model = StreamKMeans(clusters=6)
    model.learn_many(vectors)
    nearest = pairwise_distances_argmin(vectors, model.centroids, metric="cosine")
    assert (model.ids[nearest] == model.predict_many(vectors)).mean() > 0.999
    distances = pairwise_distances(vectors, model.centroids, metric="cosine")
    ours = model.space.distances(model.space.place(model.space.rows(vectors)), model.live.points)
    np.testing.assert_allclose(ours, distances, atol=2e-3)


def test_means_without_forgetting() -> None:
    """With an endless half-life a cluster's centroid is the mean of all it was ever given, as in numpy."""
    vectors = blobs(1)
    model = StreamKMeans(clusters=1, warm_up=100, half_life_vectors=1e15, geometry="standardized")
    for start in range(0, 900, 100):
        model.learn_many(vectors[start : start + 100])
    np.testing.assert_allclose(model.centroids[0], vectors.mean(axis=0), rtol=1e-4, atol=1e-4)
    assert model.mass[0] == pytest.approx(900)


def test_warm_up_is_batch_k_means() -> None:
    """On separated clusters the warm-up ends where scikit-learn's k-means ends."""
    vectors = blobs(2)
    ours = StreamKMeans(clusters=6, warm_up=900, geometry="standardized", seed=3)
    ours.learn_many(vectors)
    theirs = KMeans(6, n_init=10, random_state=0).fit(vectors)
    away = pairwise_distances(theirs.cluster_centers_, ours.centroids)
    assert np.sort(away.argmin(axis=1)).tolist() == list(range(6))
    assert away.min(axis=1).max() < 0.05


def test_standardisation_without_forgetting() -> None:
    """Without forgetting and without wild values, mean and deviation are those of river's StandardScaler."""
    vectors = np.random.default_rng(4).uniform(-1, 1, (500, 3)).astype(np.float32)  # nothing to clip
    space = Standardized(3)
    scaler = preprocessing.StandardScaler()
    for start in range(0, 500, 50):
        space.update(space.rows(vectors[start : start + 50]), 1e15)
    for vector in vectors:
        scaler.learn_one(dict(enumerate(vector.astype(float))))
    np.testing.assert_allclose(space.mean, [scaler.means[i] for i in range(3)], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(space.deviation**2, [scaler.vars[i] for i in range(3)], rtol=1e-6)


def test_distance_to_mass_of_single_points_is_mean_distance_to_neighbours() -> None:
    """Where each point is a centroid of mass one, distance to k / n of the mass is scikit-learn's to k neighbours."""
    points = blobs(5)[:200].astype(np.float64)
    queries = blobs(6)[:50].astype(np.float64)
    expected = NearestNeighbors(n_neighbors=10).fit(points).kneighbors(queries)[0].mean(axis=1)
    found = distance_to_mass(pairwise_distances(queries, points), np.ones(200), share=10 / 200)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_merge_costs_what_ward_says() -> None:
    """Inertia after a merge, by scikit-learn's distances, is inertia before it plus Ward's criterion."""
    vectors = blobs(7)
    half = np.arange(900) < 300
    means = np.stack([vectors[half].mean(axis=0), vectors[~half].mean(axis=0)]).astype(np.float64)
    apart = ((vectors[half] - means[0]) ** 2).sum() + ((vectors[~half] - means[1]) ** 2).sum()
    together = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    ward = ward_cost(np.array([[0.0, ((means[0] - means[1]) ** 2).sum()]] * 2), np.array([300.0, 600.0]))
    assert ward[0, 1] == pytest.approx(together - apart, rel=1e-3)
