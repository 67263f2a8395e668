"""Where outliers wait: they move no centroid until they have recurred often enough, over enough time."""

import numpy as np

from .geometry import Array, Cosine, Standardized

CANDIDATES = 24
OCCURRENCES = 40
SLOT = 32
SLOTS = 4
"""A candidate founds a cluster after 40 occurrences in 4 different stretches of 32 vectors: a burst of frames, however
alike among themselves, does not; what stays, or comes back, does."""
LIKENESS = 0.7
"""An outlier is like a candidate when that is this much nearer to it than any normal cluster."""


class Quarantine:
    """A bounded list of candidates for new clusters, each the mean of outliers that resemble each other.

    Outliers are led to the nearest candidate (the leader algorithm: Hartigan, 1975) or begin one; when the list is full
    the one not seen for longest makes room.

    Parameters
    ----------
    space
        The geometry.
    patience
        A candidate not seen for so many vectors is forgotten.
    """

    def __init__(self, space: Cosine | Standardized, patience: float) -> None:
        self.space = space
        self.patience = patience
        self.means: Array = np.zeros((0, space.dimension), space.rows(np.zeros((0, space.dimension), np.float32)).dtype)
        self.counts = np.zeros(0)
        self.slots = np.zeros(0)
        self.last = np.zeros(0)

    def __len__(self) -> int:
        return len(self.counts)

    def admit(self, row: Array, point: Array, distance: float, radius: float, now: int) -> int | None:
        """Let one outlier in.

        Parameters
        ----------
        row, point
            (D,) row and its grid point.
        distance
            To what is normal (`scoring.distance_to_mass`).
        radius
            What is nearer than this to a candidate belongs to it anyway.
        now
            Vectors seen when it came.

        Returns
        -------
        ready
            Position of the candidate that has now recurred enough, or None.
        """
        if len(self):
            away = self.space.distances(point[None], self.space.place(self.means))[0]
            at = int(np.argmin(away))
            if away[at] <= max(radius, LIKENESS * distance):
                self.counts[at] += 1.0
                self.means[at] += (row - self.means[at]) / row.dtype.type(self.counts[at])
                self.slots[at] += float(now // SLOT != self.last[at] // SLOT)
                self.last[at] = now
                return at if self.counts[at] >= OCCURRENCES and self.slots[at] >= SLOTS else None
        if len(self) >= CANDIDATES:
            self.forget(np.arange(len(self)) != int(np.argmin(self.last)))
        self.means = np.concatenate([self.means, row[None]])
        self.counts = np.append(self.counts, 1.0)
        self.slots = np.append(self.slots, 1.0)
        self.last = np.append(self.last, float(now))
        return None

    def expire(self, now: int) -> None:
        """Forget who has not been seen for long."""
        if len(self):
            self.forget(now - self.last <= self.patience)

    def forget(self, keep: Array) -> None:
        """Keep the candidates of a mask."""
        if not keep.all():
            for name in ("means", "counts", "slots", "last"):
                setattr(self, name, getattr(self, name)[keep])

    def take(self, at: int) -> tuple[Array, float]:
        """Mean (D,) and count of a candidate, which leaves."""
        mean, count = self.means[at], float(self.counts[at])
        self.forget(np.arange(len(self)) != at)
        return mean, count

    def state(self) -> dict[str, Array]:
        """Arrays that restore this quarantine."""
        return {"means": self.means, "counts": self.counts, "slots": self.slots, "last": self.last}

    def restore(self, state: dict[str, Array]) -> None:
        """Take over what `state` gave."""
        for name in ("means", "counts", "slots", "last"):
            setattr(self, name, state[name])
