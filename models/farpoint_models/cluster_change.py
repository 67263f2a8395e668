"""What happened to the list of clusters."""

from dataclasses import dataclass
from typing import Literal

ChangeType = Literal["birth", "death", "merge", "split"]


@dataclass(frozen=True)
class ClusterChange:
    """Something happened to the list of clusters.

    Parameters
    ----------
    type
        `birth`, `death`, `merge` (into `cluster_id`) or `split` (`cluster_id` is the new one).
    cluster_id
        The cluster concerned; never reused.
    from_ids
        Clusters it came from.
    size
        Its effective number of vectors at that moment.
    members
        Rows of the batch just learned that lie nearest to its centroid, nearest first, three at most.
    """

    type: ChangeType
    cluster_id: int
    from_ids: tuple[int, ...] = ()
    size: float = 0.0
    members: tuple[int, ...] = ()
