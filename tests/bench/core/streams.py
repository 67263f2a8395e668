"""The streams that the core is measured on: made here, from a Debian package, or from a folder of public data."""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from river import datasets

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

FASHION = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
EMBEDDINGS = {"CIFAR10_0", "SVHN_0"}  # of ADBench: the rest are raw features
ROWS = 4000
SHINGLE = 12


def mixture(
    classes: int, seed: int, n: int = 12_800, dimension: int = 256, noise: float = 0.06, imbalance: float = 1.0
) -> tuple[Vectors, Labels]:
    """Gaussians around random directions; the largest class is `imbalance` times the smallest."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    share = np.geomspace(1, imbalance, classes)
    labels = rng.choice(classes, n, p=share / share.sum())
    return (centres[labels] + rng.normal(0, noise, (n, dimension))).astype(np.float32), labels


def fashion(seed: int, n: int = 12_800) -> tuple[Vectors, Labels]:
    """Pixels of Fashion-MNIST, in an order of this seed."""

    def read(name: str, header: int) -> NDArray[np.uint8]:
        return np.frombuffer(gzip.decompress((FASHION / name).read_bytes()), np.uint8, offset=header)

    pictures = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)
    labels = read("train-labels-idx1-ubyte.gz", 8)
    order = np.random.default_rng(seed).permutation(len(labels))[:n]
    return pictures[order].astype(np.float32), labels[order].astype(np.int64)


def one_after_another(vectors: Vectors, labels: Labels) -> tuple[Vectors, Labels]:
    """Return the same vectors class by class."""
    order = np.argsort(labels, kind="stable")
    return vectors[order], labels[order]


def normal_streams(n: int) -> Iterator[tuple[str, str, Vectors]]:
    """Give stationary streams without outliers: name, geometry, vectors."""
    rng = np.random.default_rng(21)
    yield "ten Gaussians on the sphere, 16-d", "cosine", mixture(10, 5, n, 16, 0.1)[0]
    yield "one Gaussian, 5-d", "standardized", rng.normal(size=(n, 5)).astype(np.float32)
    yield "log-normal, 8-d", "standardized", np.exp(0.7 * rng.normal(size=(n, 8))).astype(np.float32)
    steps = rng.normal(size=(n, 16)) * np.sqrt(1 - 0.95**2)
    for row in range(1, n):
        steps[row] += 0.95 * steps[row - 1]
    yield "autocorrelated (AR .95), 16-d", "standardized", steps.astype(np.float32)


def bursts(seed: int, dimension: int = 32, n: int = 20_000) -> tuple[Vectors, Labels]:
    """Return a mixture with 5 % outliers, half in bursts of 10 that resemble each other, half alone."""
    vectors, _ = mixture(8, seed, n, dimension)
    rng = np.random.default_rng(seed + 100)
    outlier = np.zeros(n, np.int64)
    for start in rng.integers(1000, n - 20, n // 400):
        place = rng.normal(size=dimension) / np.sqrt(dimension)
        vectors[start : start + 10] = place + rng.normal(0, 0.03, (10, dimension))
        outlier[start : start + 10] = 1
    alone = rng.integers(1000, n, n // 40)
    vectors[alone] = rng.normal(size=(len(alone), dimension))
    outlier[alone] = 1
    return vectors, outlier


def adbench(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Give name, geometry and file of the suites of ADBench in a folder."""
    for path in sorted(folder.rglob("*.npz")):
        name = path.stem.split("_", 1)[1] if path.stem[0].isdigit() else path.stem
        yield name, "cosine" if name in EMBEDDINGS else "standardized", path


def shuffled(path: Path, seed: int) -> tuple[Vectors, Labels]:
    """Return 4,000 rows of a file, outliers anywhere."""
    with np.load(path) as data:
        vectors, outlier = data["X"].astype(np.float32), data["y"].ravel().astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(vectors))[:ROWS]
    return vectors[order], outlier[order]


def shuttle(n: int = 20_000) -> tuple[Vectors, Labels]:
    """Rows of River's Shuttle, in their order."""
    rows = [(list(x.values()), int(y)) for x, y in datasets.Shuttle().take(n)]
    return np.array([x for x, _ in rows], np.float32), np.array([y for _, y in rows])


def nab(folder: Path) -> Iterator[tuple[str, Vectors, Labels]]:
    """Give the series of the Numenta Anomaly Benchmark as shingles of 12 values; 1 within a labelled window."""
    windows = json.loads(next(folder.rglob("combined_windows.json")).read_text())
    for path in sorted(folder.rglob("*.csv")):
        with path.open() as lines:
            rows = list(csv.DictReader(lines))
        spans = windows.get(f"{path.parent.name}/{path.name}", [])
        stamps = [row["timestamp"] for row in rows]
        outlier = np.array([any(start[:19] <= stamp <= end[:19] for start, end in spans) for stamp in stamps])
        values = np.array([float(row["value"]) for row in rows], np.float32)
        yield (
            path.stem,
            np.lib.stride_tricks.sliding_window_view(values, SHINGLE).copy(),
            outlier[SHINGLE - 1 :].astype(np.int64),
        )
