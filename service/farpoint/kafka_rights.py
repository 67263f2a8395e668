"""The rights that Kafka's access lists must give the worker, and which of them are missing.

A client whose group may not be joined waits for it for ever; so the worker asks before it starts.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    NotCoordinatorError,
)

from farpoint.topics import TopicNames


def needed_rights(names: TopicNames, stages: Iterable[str]) -> dict[str, set[str]]:
    """Return what the stages do with each topic: READ, WRITE or both.

    Examples
    --------
    >>> needed_rights(TopicNames("vision"), ["embed"])["vision.frames.v1"]
    {'READ'}
    """
    reads: dict[str, list[str]] = {"embed": [*names.media], "detect": [names.embeddings, names.detector_state]}
    writes: dict[str, list[str]] = {
        "embed": [names.embeddings, *map(names.dead_letters, names.media)],
        "detect": [
            names.assignments,
            names.alerts,
            names.cluster_events,
            names.detector_state,
            names.dead_letters(names.embeddings),
        ],
    }
    needed: dict[str, set[str]] = {}
    for right, topics in (("READ", reads), ("WRITE", writes)):
        for stage in stages:
            for topic in topics[stage]:
                needed.setdefault(topic, set()).add(right)
    return needed


def missing_rights(admin: Any, needed: dict[str, set[str]], groups: Sequence[str]) -> list[str]:
    """Name the rights that we lack, such as `READ on topic vision.frames.v1`; none where Kafka keeps no access lists.

    Parameters
    ----------
    admin
        A `KafkaAdminClient`.
    needed
        By topic, all of which exist.
    groups
        The consumer groups to be joined.
    """
    missing = []
    for topic in admin.describe_topics(list(needed)):
        have = {operation.upper() for operation in topic.get("authorized_operations") or ()}
        if have:  # an older broker does not say
            missing += [f"{right} on topic {topic['name']}" for right in sorted(needed[topic["name"]] - have)]
    for group in groups:
        try:
            admin.list_group_offsets({group: None})
        except GroupAuthorizationFailedError:
            missing.append(f"READ on group {group}")
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            pass  # the first group of a new cluster: whoever may not use it is told so before this
    return missing
