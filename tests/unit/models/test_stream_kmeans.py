"""The clusterer: finds what is there, follows it, keeps ids, survives odd streams."""

import numpy as np
import pytest
from river import checks, cluster, metrics, preprocessing, stream
from sklearn.metrics import normalized_mutual_info_score

from farpoint_models.cluster_change import ClusterChange
from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.geometry import Array, GeometryName
from farpoint_models.stream_kmeans import StreamKMeans


def blobs(n: int, classes: int, dimension: int, noise: float = 0.03, seed: int = 0) -> tuple[Array, Array]:
    """Gaussians around orthogonal directions, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    vectors = np.eye(dimension)[labels] + rng.normal(0, noise, (n, dimension))
    return vectors.astype(np.float32), labels


def learn(model: StreamKMeans, vectors: Array, batch: int = 64) -> list[ClusterChange]:
    """All changes of learning vectors in batches."""
    return [
        change for start in range(0, len(vectors), batch) for change in model.learn_many(vectors[start : start + batch])
    ]


@pytest.mark.parametrize("geometry", ["cosine", "standardized"])
def test_finds_separated_classes(geometry: GeometryName) -> None:
    """Ten well separated classes come out as themselves, prequentially, from the first vector after the warm-up."""
    vectors, labels = blobs(3000, 10, 32)
    model = StreamKMeans(clusters=10, geometry=geometry)
    rand = metrics.AdjustedRand()
    for start in range(0, 3000, 50):
        for label, found in zip(
            labels[start : start + 50], model.predict_many(vectors[start : start + 50]), strict=True
        ):
            if found >= 0:
                rand.update(int(label), int(found))
        model.learn_many(vectors[start : start + 50])
    assert rand.get() > 0.8


def test_number_of_clusters_suits_the_warm_up_and_grows() -> None:
    """100 vectors found at most 25 clusters; a stream of 40 classes then grows to as many, not beyond the most."""
    vectors, _ = blobs(8000, 40, 64)
    model = StreamKMeans(clusters=60, warm_up=100)
    learn(model, vectors[:100])
    assert len(model.ids) <= 25
    learn(model, vectors[100:])
    assert 40 <= len(model.ids) <= 60
    used = np.unique(model.predict_many(vectors[-2000:]))
    assert len(used) >= 36


def test_ids_are_never_reused_and_changes_tell_the_list() -> None:
    """Births and splits minus deaths and merges give the live ids, each appearing once, also while classes change."""
    model = StreamKMeans(clusters=12, warm_up=64, half_life_vectors=300)
    changes = []
    for epoch in range(4):
        vectors, _ = blobs(1500, 6, 48, seed=epoch)
        changes += learn(model, np.roll(vectors, epoch * 6, axis=1))
    born = [change.cluster_id for change in changes if change.type in ("birth", "split")]
    died = [change.cluster_id for change in changes if change.type == "death"]
    died += [gone for change in changes if change.type == "merge" for gone in change.from_ids]
    assert {change.type for change in changes} == {"birth", "death", "merge", "split"}
    assert len(set(died)) == len(died)
    assert len(set(born)) == len(born)
    assert sorted(set(born) - set(died)) == sorted(model.ids.tolist())
    assert all(change.from_ids for change in changes if change.type == "split")


def test_finds_classes_that_the_warm_up_missed() -> None:
    """Merging and splitting leaves 100 classes with a cluster each, whatever 256 vectors could show of them."""
    vectors, labels = blobs(12_000, 100, 128)
    model = StreamKMeans(clusters=100)
    changes = learn(model, vectors)
    found = model.predict_many(vectors)
    assert len({found[labels == label][0] for label in range(100)}) >= 99
    assert agreement(labels, found) > 0.99
    assert any(change.type == "merge" for change in changes)


def test_what_is_as_it_should_be_is_left_alone() -> None:
    """One even cloud, which any clusters cut as well as any other, soon has no merges and splits any more."""
    rng = np.random.default_rng(8)
    model = StreamKMeans(clusters=12)
    learn(model, rng.normal(size=(20_000, 6)) + 2)
    late = learn(model, rng.normal(size=(40_000, 6)) + 2)
    assert len(late) <= 12


@pytest.mark.parametrize("order", ["shuffled", "one after another"])
def test_rare_and_late_classes(order: str) -> None:
    """Ten classes with sizes from 1 to 100, or one after another, are told apart nearly as batch k-means does."""
    rng = np.random.default_rng(9)
    share = np.geomspace(1, 100, 10) if order == "shuffled" else np.ones(10)
    labels = rng.choice(10, 10_000, p=share / share.sum())
    if order != "shuffled":
        labels = np.sort(labels)
    vectors = (np.eye(10, 64)[labels] + rng.normal(0, 0.05, (10_000, 64))).astype(np.float32)
    model = StreamKMeans(clusters=10)
    learn(model, vectors)
    assert agreement(labels, model.predict_many(vectors)) > 0.9


def agreement(labels: Array, found: Array) -> float:
    """Normalised mutual information of classes and clusters."""
    return float(normalized_mutual_info_score(labels, found))


def test_follows_drift_and_keeps_ids() -> None:
    """A cluster that moves slowly across the space keeps its id and is followed."""
    rng = np.random.default_rng(5)
    model = StreamKMeans(clusters=1, warm_up=64, half_life_vectors=200)
    angles = np.linspace(0, np.pi / 2, 6000)
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]) + rng.normal(0, 0.02, (6000, 2))
    learn(model, vectors)
    assert model.ids.tolist() == [0]
    assert model.centroids[0] @ [0, 1] > 0.98


@pytest.mark.parametrize("geometry", ["cosine", "standardized"])
@pytest.mark.parametrize("dimension", [1, 2, 50])
def test_constant_and_duplicate_streams(geometry: GeometryName, dimension: int) -> None:
    """A stream of one point has one cluster, of three points three, each exactly where the point is."""
    model = StreamKMeans(clusters=20, warm_up=100, geometry=geometry)
    learn(model, np.full((2000, dimension), 3.0))
    assert len(model.ids) == 1
    assert model.mass.sum() > 1000
    if dimension > 2:
        model = StreamKMeans(clusters=20, warm_up=100, geometry=geometry)
        learn(model, np.eye(3, dimension)[np.random.default_rng(0).integers(0, 3, 2000)])
        assert len(model.ids) == 3
        assert np.sort(model.centroids.max(axis=1)).tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def test_one_by_one_equals_many() -> None:
    """`predict_one` answers what `predict_many` answers for that row, whatever stands beside it."""
    vectors, _ = blobs(600, 5, 16, noise=0.3)
    model = StreamKMeans(clusters=8)
    learn(model, vectors)
    together = model.predict_many(vectors)
    assert [int(model.predict_many(vector[None])[0]) for vector in vectors] == together.tolist()


def test_before_the_warm_up_there_is_no_cluster() -> None:
    """No cluster is -1, not a made-up id."""
    model = StreamKMeans()
    assert model.predict_one({"a": 1.0}) == -1
    assert model.predict_many(np.ones((2, 3))).tolist() == [-1, -1]
    assert model.dimension is None


def test_refused_vectors_leave_no_trace() -> None:
    """A bad batch raises and changes nothing."""
    model = StreamKMeans(clusters=4, warm_up=32)
    learn(model, blobs(200, 3, 8)[0])
    before = model.means.copy(), model.n_seen
    with pytest.raises(InvalidRecord) as caught:
        model.learn_many(np.ones((2, 9)))
    assert caught.value.reason == InvalidReason.DIMENSION_MISMATCH
    assert (model.means == before[0]).all()
    assert model.n_seen == before[1]


def test_in_a_river_pipeline() -> None:
    """It stands at the end of a river pipeline and feeds a river metric."""
    model = preprocessing.StandardScaler() | StreamKMeans(clusters=3, warm_up=60, geometry="standardized")
    vectors, labels = blobs(400, 3, 4, noise=0.1)
    rand = metrics.Rand()
    for x, y in stream.iter_array(vectors, labels):
        model.learn_one(x)
        rand.update(y, model.predict_one(x))
    assert rand.get() > 0.5
    assert not isinstance(model["StreamKMeans"], cluster.KMeans)


@pytest.mark.parametrize("check", list(checks.yield_checks(StreamKMeans())), ids=lambda check: check.__name__)
def test_river_check(check: object) -> None:
    """River's own checks of an estimator hold."""
    check(StreamKMeans(clusters=8, warm_up=32, geometry="standardized"))  # type: ignore[operator]


@pytest.mark.parametrize("bad", [{"clusters": 0}, {"warm_up": 0}, {"half_life_vectors": 0}])
def test_bad_parameters(bad: dict[str, int]) -> None:
    """Impossible parameters are refused at once."""
    with pytest.raises(ValueError, match="positive"):
        StreamKMeans(**bad)  # type: ignore[arg-type]
