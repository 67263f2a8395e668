"""The table of live clusters: what adding, merging and removing leave in it."""

import numpy as np

from farpoint_models.clusters import NAMES, PLACES, Clusters
from farpoint_models.geometry import Cosine, Standardized


def four(space: Cosine | Standardized) -> Clusters:
    """Four clusters with ids 7 to 10 on the axes, the later the heavier."""
    clusters = Clusters()
    clusters.begin(space)
    clusters.next_id = 7
    means = space.rows(np.eye(4, space.dimension, dtype=np.float32))
    clusters.found(means, np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 0.1), born=100)
    return clusters


def test_a_merge_keeps_the_older_id_and_all_mass() -> None:
    """Two clusters become one: the id of the older, the mean and the mass of both."""
    clusters = four(Standardized(4))
    ids, mass, means = clusters.ids.copy(), clusters.mass.copy(), clusters.means.copy()
    [change] = clusters.merge(2, 1)
    assert (change.type, change.cluster_id, change.from_ids) == ("merge", ids[1], (ids[2],))
    assert clusters.ids.tolist() == [ids[0], ids[1], ids[3]]
    assert clusters.mass[1] == mass[1] + mass[2]
    np.testing.assert_allclose(clusters.means[1], (mass[1] * means[1] + mass[2] * means[2]) / (mass[1] + mass[2]))
    np.testing.assert_array_equal(clusters.points, clusters.space.place(clusters.means))


def test_the_arrays_stay_of_one_length_and_ids_are_never_reused() -> None:
    """After clusters were removed and added every array has a row for each, and the new one has a new id."""
    clusters = four(Cosine(5))
    gone = clusters.remove(np.array([True, False, True, False]))
    assert [(change.type, change.cluster_id, change.size) for change in gone] == [("death", 8, 2.0), ("death", 10, 4.0)]
    new = clusters.add(np.ones(5), 0.0, 3.0, 0.2, adopted=True, born=200)
    assert clusters.ids.tolist() == [7, 9, new] == [7, 9, 11]
    assert clusters.adopted.tolist() == [False, False, True]
    assert {len(getattr(clusters, name)) for name in (*NAMES, *PLACES)} == {len(clusters)} == {3}
    np.testing.assert_array_equal(clusters.points, clusters.space.place(clusters.means))
