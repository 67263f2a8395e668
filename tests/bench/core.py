"""Quality and speed of the numerical core, peers in the same run.

Usage: python tests/bench/core.py [FOLDER_WITH_ADBENCH_NPZ]
"""

import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import river
import sklearn
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score

from farpoint_models import snapshot
from farpoint_models.detector import OutlierDetector
from farpoint_models.stream_kmeans import StreamKMeans

ROWS, BATCH = 4000, 64


def auroc(path: Path) -> tuple[float, float]:
    """One pass over a contaminated, shuffled file, score before learn; and a batch isolation forest."""
    with np.load(path) as data:
        vectors, truth = data["X"].astype(np.float32), data["y"].ravel()
    order = np.random.default_rng(0).permutation(len(vectors))[:ROWS]
    vectors, truth = vectors[order], truth[order]
    detector = OutlierDetector(geometry="standardized")
    scores = np.zeros(len(vectors))
    for start in range(0, len(vectors), BATCH):
        batch = vectors[start : start + BATCH]
        result = detector.score_many(batch)
        if result.scored:
            scores[start : start + BATCH] = result.outlier_score
        detector.learn_many(batch, result)
    counted = slice(len(vectors) // 10, None)
    forest = IsolationForest(random_state=0).fit(vectors)
    return (
        float(roc_auc_score(truth[counted], scores[counted])),
        float(roc_auc_score(truth[counted], -forest.score_samples(vectors[counted]))),
    )


def mixture(n: int, dimension: int, classes: int, noise: float, seed: int = 0) -> tuple[Any, Any]:
    """Well separated Gaussians around directions on the sphere."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = rng.integers(0, classes, n)
    return (centres[labels] + rng.normal(0, noise, (n, dimension))).astype(np.float32), labels


def nmi(classes: int, n: int = 12_800, dimension: int = 256, seed: int = 0) -> tuple[float, float, float]:
    """Prequential NMI of one pass (first tenth not counted), of MiniBatchKMeans in one pass, of batch k-means."""
    vectors, labels = mixture(n, dimension, classes, 0.06, seed)
    ours = StreamKMeans(clusters=classes)
    theirs = MiniBatchKMeans(classes, batch_size=BATCH, random_state=seed, n_init=1)
    found, found_theirs = np.full(n, -1), np.full(n, -1)
    for start in range(0, n, BATCH):
        part = slice(start, start + BATCH)
        found[part] = ours.predict_many(vectors[part])
        ours.learn_many(vectors[part])
        if start:
            found_theirs[part] = theirs.predict(vectors[part])
        first = 1024 if start == 0 else 0  # it cannot begin with fewer vectors than clusters
        theirs.partial_fit(vectors[: start + first] if first else vectors[part])
    counted = slice(n // 10, None)
    batch = KMeans(classes, n_init=3, random_state=seed).fit_predict(vectors)
    return tuple(
        float(normalized_mutual_info_score(labels[counted], each[counted])) for each in (found, found_theirs, batch)
    )  # type: ignore[return-value]


def speed(dimension: int, batch: int, clusters: int, seconds: float = 3.0) -> tuple[float, float, float, int]:
    """Vectors a second of score + learn, of the two bare products, of MiniBatchKMeans; and the size of the state."""
    vectors, _ = mixture(12_800, dimension, clusters, 0.03)
    detector = OutlierDetector(clusters=clusters)
    batches = [vectors[start : start + batch] for start in range(0, len(vectors) - batch + 1, batch)]
    for part in batches[: 6400 // batch]:
        detector.learn_many(part, detector.score_many(part))

    def pace(step: Any) -> float:
        begin, n = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            step(batches[n % len(batches)])
            n += 1
        return n * batch / (time.perf_counter() - begin)

    centroids = np.ascontiguousarray(vectors[:clusters])
    one_hot = np.zeros((clusters, batch), np.float32)
    peer = MiniBatchKMeans(clusters, batch_size=batch, n_init=1).partial_fit(vectors[:1024])
    return (
        pace(lambda part: detector.learn_many(part, detector.score_many(part))),
        pace(lambda part: (part @ centroids.T, one_hot @ part)),
        pace(lambda part: (peer.predict(part), peer.partial_fit(part))),
        len(snapshot.dump(detector)),
    )


def false_alarms(rate: float, n: int = 50_000) -> float:
    """Realised share of alarms on a stationary normal stream, over the setting."""
    vectors, _ = mixture(n, 16, 10, 0.1, seed=5)
    detector = OutlierDetector(false_alarm_rate=rate)
    flagged = 0
    for start in range(0, n, BATCH):
        scores = detector.score_many(vectors[start : start + BATCH])
        flagged += int(scores.is_outlier.sum())
        detector.learn_many(vectors[start : start + BATCH], scores)
    return flagged / n / rate


def main() -> None:
    """Print the tables."""
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
          f"scikit-learn {sklearn.__version__}, river {river.__version__}")  # fmt: skip
    print("\n| stream | vectors/s, score + learn | bare products | ratio | MiniBatchKMeans | state, bytes |")
    print("| --- | --- | --- | --- | --- | --- |")
    for dimension, batch, clusters in ((1280, 64, 100), (1280, 1, 100), (16, 64, 100)):
        ours, bare, peer, size = speed(dimension, batch, clusters)
        name = f"{dimension}-d, batches of {batch}, {clusters} clusters"
        print(f"| {name} | {ours:,.0f} | {bare:,.0f} | {ours / bare:.2f} | {peer:,.0f} | {size:,} |")
    print("\n| false alarm rate | realised / asked, 50,000 vectors |\n| --- | --- |")
    for rate in (0.01, 0.001):
        print(f"| {rate} | {false_alarms(rate):.2f} |")
    print("\n| mixture | StreamKMeans NMI | MiniBatchKMeans | batch k-means |\n| --- | --- | --- | --- |")
    for classes in (10, 100):
        print(f"| {classes} Gaussians, 256-d | " + " | ".join(f"{value:.3f}" for value in nmi(classes)) + " |")
    if len(sys.argv) > 1:
        print("\n| file | AUROC, one pass | batch isolation forest |\n| --- | --- | --- |")
        pairs = []
        for path in sorted(Path(sys.argv[1]).glob("*.npz")):
            pairs.append(auroc(path))
            print(f"| {path.stem} | {pairs[-1][0]:.3f} | {pairs[-1][1]:.3f} |", flush=True)
        print("| mean | " + " | ".join(f"{value:.3f}" for value in np.mean(pairs, axis=0)) + " |")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
