"""Where ours and others' implementations must agree exactly, they do."""

import numpy as np
import pytest
from river import preprocessing
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin

from farpoint_models.geometry import Standardized
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
    ours = model.space.distances(model.space.place(model.space.rows(vectors)), model.points)
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
