"""Review: which two clusters are merged so that another can be split, and when."""

import numpy as np

from .geometry import Array

REVIEW = 64
"""Once there is no room to grow, the clusters are reviewed after so many vectors, ..."""
REVIEW_LEAST = 8192
"""... and ever more rarely, at least after so many, while that changes nothing for the better."""
SWELLING = 1.5
"""A cluster that has come to hold so many times more excess inertia than any did is a reason to review at once."""
YOUNG = 384
"""A cluster is not merged, nor a split judged, before so many vectors had a chance to reach it."""
GAIN = 2.0
"""A split was worth while when undoing it would cost this many times what the merge before it did."""
WORTH = 4.0
"""A merge must cost at most a quarter of the excess inertia of the cluster that is split in its stead: of what it has
beyond what the median spread would give it."""


class Review:
    """Decides when two clusters make room for a split, and judges later whether that was worth while.

    Split and merge as in ISODATA (Ball & Hall, 1965). What a merge costs is Ward's criterion (1963). A split that did
    not gain more than the merge before it had cost is a sign that the clusters are as they should be: then the next
    review is twice as far away. Of a useless split the two parts are the cheapest pair of the next review.

    Attributes
    ----------
    due : int
        Vectors seen at the next review.
    pause : int
        Vectors from one review to the next.
    largest : float
        Share of the inertia that was the most excess of a cluster when nothing was to be gained.
    trials
        (T, 3) float64, splits not judged yet: ids of the new cluster and of the one it was split from, and what the
        merge before had cost.
    """

    def __init__(self) -> None:
        self.due = 0
        self.pause = REVIEW
        self.largest = 1.0
        self.trials = np.zeros((0, 3))

    def begin(self, n_seen: int) -> None:
        """Look for the first time some vectors after the first clusters."""
        self.due = n_seen + REVIEW

    def is_due(self, n_seen: int, share: float) -> bool:
        """Whether it is time: because it was so agreed, or because one cluster has swollen to that share."""
        return n_seen >= self.due or share >= SWELLING * self.largest

    def judge(self, ids: Array, cost: Array, young: Array) -> None:
        """Judge the splits made long enough ago by what undoing them would cost: review sooner, or later.

        Parameters
        ----------
        ids
            (K,) of the live clusters.
        cost
            (K, K), of merging any two of them.
        young
            (K,) bool, those that came too late to be judged.
        """
        open_trials = []
        for child, parent, paid in self.trials:
            pair = np.flatnonzero((ids == child) | (ids == parent))
            if len(pair) == 2 and young[pair].any():
                open_trials.append((child, parent, paid))
            elif len(pair) == 2 and cost[pair[0], pair[1]] > GAIN * paid:
                self.pause = REVIEW
            else:
                self._wait_longer()
        self.trials = np.array(open_trials).reshape(-1, 3)

    def note_split(self, n_seen: int, child: int, parent: int, paid: float) -> None:
        """Remember a split, made after a merge that cost `paid`: it is to be judged."""
        self.trials = np.append(self.trials, [[child, parent, paid]], axis=0)
        self.due = n_seen + self.pause

    def leave(self, n_seen: int, share: float) -> None:
        """Leave all as it is: nothing was gained, although one cluster's excess had that share of the inertia."""
        self._wait_longer()
        self.largest = share
        self.due = n_seen + self.pause

    def _wait_longer(self) -> None:
        self.pause = min(2 * self.pause, REVIEW_LEAST)


def most_excess(weight: Array, spread: Array) -> tuple[int, float, float]:
    """Find the cluster whose inertia exceeds most what the median spread would give it.

    Parameters
    ----------
    weight, spread
        (K,) vectors, and their mean squared distance to the mean; the product is the inertia.

    Returns
    -------
    position, excess, share
        Of that cluster; its excess, and that over all inertia.

    Examples
    --------
    >>> most_excess(np.array([10.0, 10.0, 10.0]), np.array([0.1, 0.1, 0.3]))
    (2, 2.0, 0.4)
    """
    excess = weight * (spread - np.median(spread))
    position = int(np.argmax(excess))
    most = float(excess[position])
    return position, most, float(most / max(float((weight * spread).sum()), 1e-30))


def cheapest_pair(cost: Array, barred: Array) -> tuple[int, int, float]:
    """Find the two clusters that lose least by being merged.

    Parameters
    ----------
    cost
        (K, K), of merging any two.
    barred
        (K,) bool, clusters that are not merged.

    Returns
    -------
    one, other, cost
        Positions, and what the merge costs; infinite where there is no such pair.

    Examples
    --------
    >>> cost = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 3.0], [5.0, 3.0, 0.0]])
    >>> cheapest_pair(cost, np.array([True, False, False]))
    (1, 2, 3.0)
    """
    allowed = cost.copy()
    allowed[barred] = allowed[:, barred] = np.inf
    np.fill_diagonal(allowed, np.inf)
    one, other = divmod(int(np.argmin(allowed)), len(allowed))
    return one, other, float(allowed[one, other])


def ward_cost(squared: Array, mass: Array) -> Array:
    """Return by how much merging two clusters raises the inertia (Ward, 1963), for all pairs.

    Parameters
    ----------
    squared
        (K, K) squared distances between centroids.
    mass
        (K,), above zero.

    Examples
    --------
    >>> ward_cost(np.array([[0.0, 9.0], [9.0, 0.0]]), np.array([2.0, 1.0]))
    array([[0., 6.],
           [6., 0.]])
    """
    return squared * (mass[:, None] * mass / (mass[:, None] + mass))
