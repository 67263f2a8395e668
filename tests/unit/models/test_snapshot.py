"""Exactness: a saved detector goes on as if nothing had happened, bit for bit."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farpoint_models
from farpoint_models import snapshot
from farpoint_models.detector import OutlierDetector
from farpoint_models.geometry import Array, GeometryName


def records(seed: int, dimension: int, count: int) -> list[Array]:
    """Make records of 1 to 80 vectors of a contaminated stream: drifting, or of more places than a warm-up shows."""
    rng = np.random.default_rng(seed)
    many = seed % 2 == 1 and dimension > 30
    centres = np.eye(30, dimension) if many else rng.normal(size=(4, dimension))
    found = []
    for record in range(count):
        n = int(rng.integers(1, 81))
        vectors = (
            centres[rng.integers(0, len(centres), n)]
            + rng.normal(0, 0.1, (n, dimension))
            + (0.0 if many else 0.02 * record)
        )
        strange = rng.random(n) < 0.1
        vectors[strange] = rng.normal(0, 5, (int(strange.sum()), dimension))
        found.append(vectors.astype(np.float32))
    return found


def fold(detector: OutlierDetector, stream: list[Array], restore_before: set[int]) -> tuple[bytes, list[bytes]]:
    """Snapshot at the end and the decisions of all records, saved and restored before some of them."""
    decisions = []
    for number, vectors in enumerate(stream):
        if number in restore_before:
            detector = snapshot.load(snapshot.dump(detector))
        scores = detector.score_many(vectors)
        detector.learn_many(vectors, scores)
        decisions.append(scores.cluster_id.tobytes() + scores.outlier_score.tobytes() + scores.is_outlier.tobytes())
    return snapshot.dump(detector), decisions


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dimension=st.sampled_from([1, 2, 3, 17, 64]),
    geometry=st.sampled_from(["cosine", "standardized"]),
    warm_up=st.sampled_from([1, 64, 150, 400]),
    clusters=st.sampled_from([1, 4, 30]),
    restore=st.sets(st.integers(0, 39), max_size=6),
)
def test_restored_anywhere_is_never_interrupted(
    seed: int, dimension: int, geometry: GeometryName, warm_up: int, clusters: int, restore: set[int]
) -> None:
    """Wherever a detector is saved and restored, decisions and last bytes are those of one never interrupted."""
    stream = records(seed, dimension, 40)

    def fresh() -> OutlierDetector:
        return OutlierDetector(
            geometry=geometry, clusters=clusters, warm_up=warm_up, half_life_vectors=300, false_alarm_rate=0.01
        )

    assert fold(fresh(), stream, restore) == fold(fresh(), stream, set())


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dimension=st.sampled_from([1, 5, 40]),
    geometry=st.sampled_from(["cosine", "standardized"]),
    many=st.booleans(),
)
def test_scoring_in_between_changes_nothing(seed: int, dimension: int, geometry: GeometryName, many: bool) -> None:
    """Whoever asks for scores in between, of whatever batches, and with or without handing them on: the same bytes."""
    plain, asked = (
        OutlierDetector(geometry=geometry, clusters=9, warm_up=50, half_life_vectors=200, false_alarm_rate=0.05)
        for _ in range(2)
    )
    for vectors in records(seed, dimension, 30):
        plain.learn_many(vectors, plain.score_many(vectors))
        for part in np.array_split(vectors, 3 if many else 1):
            asked.score_many(part)
        asked.nearest_clusters(vectors[:2])
        asked.learn_many(vectors)
    assert snapshot.dump(plain) == snapshot.dump(asked)


def test_the_stream_of_these_tests_merges_and_splits() -> None:
    """What the tests above restore in the middle of has every kind of change in it."""
    kinds = set()
    for seed in range(4):
        for clusters in (4, 30):
            detector = OutlierDetector(clusters=clusters, warm_up=64, half_life_vectors=300, false_alarm_rate=0.01)
            for vectors in records(seed, 64, 40):
                kinds |= {change.type for change in detector.learn_many(vectors)}
    assert kinds == {"birth", "death", "merge", "split"}


THREADS = """
import hashlib, numpy as np
from farpoint_models import snapshot
from farpoint_models.detector import OutlierDetector
rng = np.random.default_rng(0)
for geometry, dimension in (("cosine", 1280), ("cosine", 333), ("standardized", 200)):
    detector = OutlierDetector(geometry=geometry, clusters=64)
    centres = rng.normal(size=(50, dimension))
    for record in range(40):
        n = int(rng.integers(1, 200))
        detector.learn_many(centres[rng.integers(0, 50, n)] + rng.normal(0, 0.5, (n, dimension)))
    print(hashlib.sha256(snapshot.dump(detector)).hexdigest(), len(detector.clusters_table()[0]))
"""


def test_any_number_of_threads_gives_the_same_bytes() -> None:
    """One BLAS thread or two: the snapshot is the same, byte for byte."""
    printed = []
    for threads in ("1", "2"):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        root = str(Path(farpoint_models.__file__).parent.parent)
        environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONPATH": root}
        done = subprocess.run(
            [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True
        )
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert printed[0].count("\n") == 3


def warm() -> OutlierDetector:
    """Build a small detector past its warm-up."""
    detector = OutlierDetector(warm_up=50)
    for vectors in records(1, 5, 10):
        detector.learn_many(vectors)
    return detector


def test_size() -> None:
    """With 100 clusters, 1280 dimensions and a full quarantine a snapshot stays under 1 MB."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 1280))
    detector = OutlierDetector()
    for _ in range(60):
        detector.learn_many(centres[rng.integers(0, 100, 128)] + rng.normal(0, 0.2, (128, 1280)))
    for _ in range(20):
        detector.learn_many(np.concatenate([rng.normal(size=(4, 1280)), centres[rng.integers(0, 100, 500)]]))
    assert len(detector.clusters_table()[0]) == 100
    assert len(snapshot.dump(detector)) < 1_000_000


def test_every_damaged_byte_is_noticed() -> None:
    """Whichever byte is flipped, and wherever the end is cut off, loading fails with one clear line."""
    data = snapshot.dump(warm())
    for at in np.linspace(0, len(data) - 1, 200).astype(int):
        broken = bytearray(data)
        broken[at] ^= 0x10
        with pytest.raises(snapshot.SnapshotError):
            snapshot.load(bytes(broken))
        with pytest.raises(snapshot.SnapshotError):
            snapshot.load(data[:at])


@pytest.mark.parametrize("version", [snapshot.VERSION - 1, snapshot.VERSION + 1])
def test_another_version_is_named(version: int) -> None:
    """A snapshot of another version, older or newer, says so."""
    data = bytearray(snapshot.dump(warm()))
    struct.pack_into("<H", data, 8, version)
    with pytest.raises(snapshot.SnapshotError, match=f"has version {version},"):
        snapshot.load(bytes(data))


def test_foreign_bytes() -> None:
    """Bytes that are something else are refused, pickles among them."""
    for foreign in (b"", b"hello", b"\x80\x04\x95" + bytes(100)):
        with pytest.raises(snapshot.SnapshotError, match="not a detector snapshot"):
            snapshot.load(foreign)


def test_feature_names_travel() -> None:
    """A detector that learned from dictionaries knows its features after a restore."""
    detector = OutlierDetector(geometry="standardized", warm_up=10)
    for value in range(20):
        detector.learn_one({"b": value % 3, "a": 5.0 + value % 4})
    restored = snapshot.load(snapshot.dump(detector))
    assert restored.score_one({"a": 5.0, "b": 1.0}) == detector.score_one({"b": 1.0, "a": 5.0})


def test_fresh_detector() -> None:
    """A detector that has seen nothing can be saved, with its settings."""
    detector = snapshot.load(snapshot.dump(OutlierDetector(clusters=7, false_alarm_rate=0.02)))
    assert (detector.clusters, detector.false_alarm_rate, detector.n_seen) == (7, 0.02, 0)
