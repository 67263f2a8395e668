"""Measure the numerical core and print the tables of docs/detector.md.

Usage: python -m tests.bench.core [--only speed,clusters,...] [FOLDER]

FOLDER holds ADBench's .npz files and NAB's series, in folders of their own; without it those tables are left out.
"""

import argparse
import functools
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
from river import cluster
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from threadpoolctl import threadpool_limits

from farpoint_models import detector as detector_module
from farpoint_models import quarantine as quarantine_module
from farpoint_models import snapshot
from farpoint_models.detector import OutlierDetector
from farpoint_models.scoring import distance_to_mass

from . import peers, streams
from .peers import BATCH, FOREST, Array

SEEDS = 5
ORDERS = 3
CHOSEN_ON = ("cover", "landsat", "satimage-2", "CIFAR10_0", "letter", "mammography")


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n\n| " + " | ".join(header) + " |\n| " + " | ".join("---" for _ in header) + " |")
    for row in rows:
        print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print(flush=True)


def paces(steps: dict[str, Callable[[Array], object]], parts: list[Array], seconds: float = 6.0) -> dict[str, float]:
    """Vectors per second of CPU, the best of many short turns: what else the machine does counts for little."""
    best = dict.fromkeys(steps, np.inf)
    at, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, step in steps.items():
            begin = time.process_time()
            for _ in range(20):
                step(parts[at % len(parts)])
                at += 1
            best[name] = min(best[name], (time.process_time() - begin) / 20)
    return {name: len(parts[0]) / took for name, took in best.items()}


def speed(_: Path | None) -> None:
    """Score and learn, against the bare products of the same shapes."""
    rows = []
    for dimension, batch, clusters in ((1280, 64, 100), (1280, 1, 100), (16, 64, 100)):
        vectors, _labels = streams.mixture(clusters, 0, 12_800, dimension, 0.03)
        detector = OutlierDetector(clusters=clusters)
        for part in peers.batches(len(vectors)):
            detector.learn_many(vectors[part])
        parts = [vectors[start : start + batch] for start in range(0, len(vectors) - batch + 1, batch)]
        centroids = np.ascontiguousarray(vectors[:clusters])
        one_hot = np.zeros((clusters, batch), np.float32)
        peer = MiniBatchKMeans(clusters, batch_size=batch, n_init=1).partial_fit(vectors[:1024])
        steps: dict[str, Callable[[Array], object]] = {
            "ours": functools.partial(_score_and_learn, detector),
            "bare": functools.partial(_products, centroids, one_hot),
            "peer": functools.partial(_predict_and_fit, peer),
        }
        found = paces(steps, parts)
        slow = cluster.KMeans(n_clusters=clusters, seed=0)
        begin = time.process_time()
        for vector in vectors[:100]:
            x = dict(enumerate(vector.tolist()))
            slow.predict_one(x)
            slow.learn_one(x)
        river_pace = 100 / (time.process_time() - begin)
        rows.append(
            (
                f"{dimension}-d, batches of {batch}", f"{found['ours']:,.0f}", f"{found['bare']:,.0f}",
                found["ours"] / found["bare"], f"{found['peer']:,.0f}", f"{river_pace:,.0f}",
                f"{1e6 / found['ours']:.0f} us", f"{len(snapshot.dump(detector)):,}",
            )
        )  # fmt: skip
    header = ["100 clusters", "vectors/s", "bare products", "ratio", "MiniBatchKMeans", "River KMeans", "a vector",
              "state, bytes"]  # fmt: skip
    table("Speed: score and learn, one thread, per second of CPU", header, rows)


def _score_and_learn(detector: OutlierDetector, part: Array) -> None:
    detector.learn_many(part, detector.score_many(part))


def _products(centroids: Array, one_hot: Array, part: Array) -> tuple[Array, Array]:
    return part @ centroids.T, one_hot @ part


def _predict_and_fit(peer: MiniBatchKMeans, part: Array) -> None:
    peer.predict(part)
    peer.partial_fit(part)


def clusters(_: Path | None) -> None:
    """NMI of one pass, against batch k-means."""
    sets: dict[str, tuple[int, Callable[..., tuple[Array, Array]]]] = {
        "10 Gaussians": (10, functools.partial(streams.mixture, 10)),
        "100 Gaussians": (100, functools.partial(streams.mixture, 100)),
        "10, sizes 1:100": (10, functools.partial(streams.mixture, 10, imbalance=100.0)),
        "100, sizes 1:100": (100, functools.partial(streams.mixture, 100, imbalance=100.0)),
    }
    if streams.FASHION.is_dir():
        sets["Fashion-MNIST, pixels"] = (10, streams.fashion)
    rows = []
    for name, (classes, make) in sets.items():
        found = []
        for seed in range(SEEDS):
            vectors, labels = make(seed=seed)
            ordered, ordered_labels = streams.one_after_another(vectors, labels)
            prequential, last = peers.ours(vectors, classes, seed)
            arriving, arrived = peers.ours(ordered, classes, seed)
            counted = slice(len(labels) // 10, None)
            found.append(
                [
                    normalized_mutual_info_score(labels[counted], each[counted])
                    for each in (prequential, last, peers.batch_kmeans(vectors, classes, seed),
                                 peers.mini_batch(vectors, classes, seed))
                ]
                + [normalized_mutual_info_score(ordered_labels, each) for each in (arrived, arriving)]
            )  # fmt: skip
        rows.append((name, *(float(value) for value in np.mean(found, axis=0))))
    header = ["set", "Farpoint, prequential", "Farpoint, last clusters", "batch k-means, 10 restarts",
              "MiniBatchKMeans, one pass", "classes one after another: last clusters", "... prequential"]  # fmt: skip
    table(f"Clusters: NMI, mean of {SEEDS} seeds and orders, first tenth not counted", header, rows)
    vectors, labels = streams.mixture(10, 0, 2000, 64)
    river = [
        (name, float(normalized_mutual_info_score(labels[256:], peers.river_labels(model, vectors)[256:])))
        for name, model in peers.river_clusterers(10).items()
    ]
    river.insert(
        0, ("Farpoint", float(normalized_mutual_info_score(labels[256:], peers.ours(vectors, 10, 0)[0][256:])))
    )
    table("River's clusterers: NMI, 2,000 vectors of 10 Gaussians, 64-d", ["clusterer", "NMI"], river)


def false_alarms(_: Path | None) -> None:
    """Realised share of alarms on stationary normal streams, over the setting."""
    rows = []
    for name, geometry, vectors in streams.normal_streams(200_000):
        found = []
        for rate in (0.01, 0.001):
            detector = OutlierDetector(geometry=geometry, false_alarm_rate=rate)  # type: ignore[arg-type]
            flagged = 0
            for part in peers.batches(len(vectors)):
                scores = detector.score_many(vectors[part])
                flagged += int(scores.is_outlier.sum())
                detector.learn_many(vectors[part], scores)
            found.append(flagged / len(vectors) / rate)
        rows.append((name, *found))
    table("False alarms, realised / asked, 200,000 vectors", ["stream", "at .01", "at .001"], rows)


def bursts(_: Path | None) -> None:
    """Precision and recall of alerts with 5 % contamination, half of it in bursts."""
    rows = []
    for rate in (0.01, 0.001):
        found = []
        for seed in range(SEEDS):
            vectors, outlier = streams.bursts(seed)
            detector = OutlierDetector(false_alarm_rate=rate)
            flags = np.zeros(len(vectors), np.bool_)
            for part in peers.batches(len(vectors)):
                scores = detector.score_many(vectors[part])
                flags[part] = scores.is_outlier
                detector.learn_many(vectors[part], scores)
            hits = int(flags[outlier == 1].sum())
            found.append((hits / max(int(flags.sum()), 1), hits / int(outlier.sum())))
        rows.append((rate, *(float(value) for value in np.mean(found, axis=0))))
    table("Alerts with 5 % contamination in bursts and alone", ["false alarm rate", "precision", "recall"], rows)


def auroc(outlier: Array, scores: Array) -> float:
    """Area under the ROC curve, first tenth not counted; NaN where there is only one kind."""
    counted = slice(len(outlier) // 10, None)
    if len(np.unique(outlier[counted])) < 2:
        return float("nan")
    return float(roc_auc_score(outlier[counted], scores[counted]))


def scores(folder: Path | None) -> None:
    """AUROC of ADBench, Shuttle and NAB, peers beside."""
    header = ["file", *peers.SCORERS]
    if folder is not None:
        rows = []
        for name, geometry, path in streams.adbench(folder):
            found = []
            for scorer in peers.SCORERS.values():
                if scorer is peers.half_space_trees and geometry == "cosine":
                    found.append(float("nan"))  # minutes in 512 dimensions
                    continue
                orders = ORDERS if scorer is not peers.random_cut_forest or geometry != "cosine" else 1
                each = []
                for seed in range(orders if scorer is not peers.half_space_trees else 1):
                    vectors, outlier = streams.shuffled(path, seed)
                    each.append(auroc(outlier, scorer(vectors, geometry)))  # type: ignore[arg-type]
                found.append(float(np.mean(each)))
            rows.append((name + (" *" if name in CHOSEN_ON else ""), *found))
            print(".", end="", flush=True)
        if rows:
            others = [row for row in rows if not str(row[0]).endswith("*")]
            rows.append(("mean of all", *_means(rows)))
            rows.append(
                ("mean without *", *(float(np.nanmean([row[at] for row in others])) for at in range(1, len(header))))
            )
            table("AUROC, 4,000 shuffled rows, outliers from the first on; * chosen on", header, rows)
    vectors, outlier = streams.shuttle()
    rows = [("Shuttle (River), in its order", *(
        auroc(outlier, scorer(vectors, "standardized")) for scorer in peers.SCORERS.values()))]  # fmt: skip
    if folder is not None:
        found_nab = [
            [auroc(outlier, scorer(vectors, "standardized")) for scorer in peers.SCORERS.values()]
            for _, vectors, outlier in streams.nab(folder)
        ]
        rows.append((f"NAB, mean of {len(found_nab)} series", *(float(v) for v in np.nanmean(found_nab, axis=0))))
    table("AUROC in the stream's own order", header, rows)


def _means(rows: Sequence[Sequence[object]]) -> list[float]:
    return [float(np.nanmean(np.array(column, np.float64))) for column in list(zip(*rows, strict=True))[1:]]


def ablation(folder: Path | None) -> None:
    """Change one thing at a time, to see what each part buys."""

    def project(vectors: Array) -> Array:
        pca = PCA(64, random_state=0).fit(vectors[:256])
        return (vectors @ pca.components_.T).astype(np.float32)

    variants: dict[str, Callable[[], object]] = {
        "as it is": lambda: mock.patch.object(detector_module, "GATE", detector_module.GATE),
        "nearest centroid, whatever its mass": lambda: _share(1e-9),
        "mass share .03": lambda: _share(0.03),
        "mass share .15": lambda: _share(0.15),
        "no gate: also the outermost 5 % move centroids": lambda: mock.patch.object(detector_module, "GATE", 1e-12),
        "no founding from quarantine": lambda: mock.patch.object(quarantine_module, "OCCURRENCES", 1e12),
    }
    settings: dict[str, dict[str, float]] = {
        "half-life 2,000 instead of 20,000": {"half_life_vectors": 2000.0},
        "16 clusters at most": {"clusters": 16},
    }
    rows: list[tuple[object, ...]] = []
    for name in [*variants, *settings]:
        with variants.get(name, variants["as it is"])():  # type: ignore[attr-defined]
            given = settings.get(name, {})
            found = [
                float(np.mean([
                    auroc(outlier, peers.detector_scores(vectors, geometry, **given))  # type: ignore[arg-type]
                    for vectors, outlier in (streams.shuffled(path, seed) for seed in range(ORDERS))
                ]))
                for _, geometry, path in (streams.adbench(folder) if folder else ())
            ]  # fmt: skip
            burst = [auroc(outlier, peers.detector_scores(vectors, "cosine", **given))
                     for vectors, outlier in map(streams.bursts, range(2))]  # fmt: skip
            rows.append((name, float(np.mean(found)) if found else "-", float(np.mean(burst))))
    table("Ablation: AUROC", ["variant", "ADBench, mean", "5 % in bursts"], rows)
    if folder:
        rows = []
        for name, geometry, path in streams.adbench(folder):
            if geometry == "cosine":
                data = [streams.shuffled(path, seed) for seed in range(ORDERS)]
                rows.append((name, *(
                    float(np.mean([auroc(y, peers.detector_scores(view(x), "cosine")) for x, y in data]))
                    for view in (lambda x: x, project)
                )))  # fmt: skip
        table("Projection to 64 dimensions, learned in the warm-up: AUROC", ["set", "512-d", "64-d"], rows)


def _share(share: float) -> object:
    return mock.patch.object(detector_module, "distance_to_mass", functools.partial(distance_to_mass, share=share))


TABLES: dict[str, Callable[[Path | None], None]] = {
    "speed": speed,
    "clusters": clusters,
    "false-alarms": false_alarms,
    "bursts": bursts,
    "scores": scores,
    "ablation": ablation,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Measure the numerical core.")
    parser.add_argument("folder", nargs="?", type=Path, help="with the files of ADBench and NAB")
    parser.add_argument("--only", default=",".join(TABLES), help="tables, comma separated")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scikit-learn", "river"))
    forest = " ".join(FOREST.split(":")[1:])
    machine = f"{len(os.sched_getaffinity(0))} cores of {platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}, {packages}, {forest}; batches of {BATCH}")
    with threadpool_limits(1):
        for name in arguments.only.split(","):
            begin = time.perf_counter()
            TABLES[name](arguments.folder)
            print(f"({name}: {time.perf_counter() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
