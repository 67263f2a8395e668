"""Making a cluster's topics agree with our table, and saying where they do not."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import KafkaTimeoutError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from kafka.structs import TopicPartition

from farpoint.errors import FarpointError
from farpoint.topics import Topic

_VISIBLE_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class FoundTopic:
    """A topic as the cluster has it; `config` holds the settings that our table has an opinion on."""

    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class TopicStatus:
    """One topic of the table beside what the cluster has."""

    wanted: Topic
    found: FoundTopic | None

    @property
    def too_few_partitions(self) -> bool:
        """Whether it is there and can be widened."""
        return self.found is not None and self.found.partitions < self.wanted.partitions

    @property
    def config_changes(self) -> dict[str, tuple[str | None, str]]:
        """Settings that differ, as (found, wanted)."""
        if self.found is None:
            return {}
        found = self.found.config
        return {
            name: (found.get(name), value) for name, value in self.wanted.config.items() if found.get(name) != value
        }

    @property
    def impossible(self) -> list[str]:
        """What differs and cannot be brought in line by us, a sentence each."""
        said = []
        if self.found and self.found.partitions > self.wanted.partitions:
            said.append(
                f"it has {self.found.partitions} partitions and Kafka cannot take any away; set "
                f"FARPOINT_TOPICS__PARTITIONS={self.found.partitions}, or delete it, with its records, and apply again"
            )
        if self.found and self.found.replication_factor < self.wanted.replication_factor:
            said.append(
                f"copies of each partition: {self.found.replication_factor}, not {self.wanted.replication_factor}; "
                "Kafka's kafka-reassign-partitions adds copies"
            )
        return said

    @property
    def differences(self) -> list[str]:
        """All that differs, a few words each; empty where the topic is as it should be."""
        if self.found is None:
            return ["missing"]
        few = [f"{self.found.partitions} partitions, not {self.wanted.partitions}"] if self.too_few_partitions else []
        config = [f"{name} is {old}, not {new}" for name, (old, new) in self.config_changes.items()]
        return [*few, *self.impossible, *config]


@dataclass(frozen=True)
class Applied:
    """What was done to one topic, and what could not be."""

    topic: str
    changes: list[str]
    problems: list[str]
    widened: bool = False


def topic_statuses(admin: Any, table: Sequence[Topic]) -> list[TopicStatus]:
    """Compare the table with the cluster.

    Parameters
    ----------
    admin
        A `KafkaAdminClient`.
    table
        The topics as they should be.
    """
    layouts = {
        topic["name"]: topic["partitions"]
        for topic in admin.describe_topics([topic.name for topic in table])
        if _exists(topic)
    }
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, list(topic.config))
        for topic in table
        if topic.name in layouts
    ]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}
    return [
        TopicStatus(topic, _found(layouts[topic.name], configs.get(topic.name, {})) if topic.name in layouts else None)
        for topic in table
    ]


def _exists(topic: Mapping[str, Any]) -> bool:
    error = for_code(topic["error_code"])
    if error is UnknownTopicOrPartitionError:
        return False
    if topic["error_code"] and not topic["partitions"]:
        raise error(f"topic {topic['name']}")
    return True


def _found(partitions: Sequence[Mapping[str, Any]], config: Mapping[str, Mapping[str, Any]]) -> FoundTopic:
    return FoundTopic(
        partitions=len(partitions),
        replication_factor=min((len(partition["replica_nodes"]) for partition in partitions), default=0),
        config={name: entry["value"] for name, entry in config.items()},
    )


def apply_topics(admin: Any, table: Sequence[Topic]) -> list[Applied]:
    """Create what is missing, widen what is too narrow, bring settings in line; doing it twice changes nothing.

    What one topic cannot be given does not keep the others from being done. Returns when the cluster shows the result.
    """
    applied = [_apply(admin, status) for status in topic_statuses(admin, table)]
    if widened := [done.topic for done in applied if done.widened]:
        _log.warning(
            "topics_widened",
            topics=widened,
            note="Kafka finds a key's partition by their number: from now on many keys go to another one, "
            "and a detector whose key does begins anew there",
        )
    _wait_until_visible(admin, [topic for topic, done in zip(table, applied, strict=True) if done.changes])
    return applied


def _apply(admin: Any, status: TopicStatus) -> Applied:
    name, changes, problems, widened = status.wanted.name, [], status.impossible, False
    if status.found is None:
        problem = _create(admin, status.wanted)
        return Applied(name, [], [problem]) if problem else Applied(name, ["created"], [])
    if status.too_few_partitions:
        problem = _widen(admin, status.wanted)
        if problem:
            problems.append(problem)
        else:
            widened = True
            changes.append(f"widened {status.found.partitions} -> {status.wanted.partitions} partitions")
    if status.config_changes:
        problem = _configure(admin, status)
        if problem:
            problems.append(problem)
        else:
            changes += [f"{key} {old} -> {new}" for key, (old, new) in status.config_changes.items()]
    return Applied(name, changes, problems, widened)


def _create(admin: Any, topic: Topic) -> str | None:
    asked = {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "configs": dict(topic.config),
    }
    [answer] = admin.create_topics({topic.name: asked}, raise_errors=False)["topics"]
    error = for_code(answer["error_code"])
    if not answer["error_code"] or error is TopicAlreadyExistsError:  # somebody else applies at the same time
        return None
    if "replication" in error.__name__.lower():
        brokers = len(admin.describe_cluster()["brokers"])
        return (
            f"cannot be created with {topic.replication_factor} copies of each partition: the cluster has {brokers} "
            f"broker{'s' if brokers != 1 else ''}; set FARPOINT_TOPICS__REPLICATION_FACTOR to at most that"
        )
    return f"cannot be created: {answer['error_message'] or error.__name__}"


def _widen(admin: Any, topic: Topic) -> str | None:
    [answer] = admin.create_partitions({topic.name: topic.partitions}, raise_errors=False).results
    if not answer.error_code:
        return None
    return f"cannot be widened: {answer.error_message or for_code(answer.error_code).__name__}"


def _configure(admin: Any, status: TopicStatus) -> str | None:
    wanted = {key: new for key, (_, new) in status.config_changes.items()}
    resource = ConfigResource(ConfigResourceType.TOPIC, status.wanted.name, wanted)
    answer = admin.alter_configs([resource])["topic"][status.wanted.name]
    return None if answer == "OK" else f"its settings cannot be changed: {answer}"


def _wait_until_visible(admin: Any, topics: Sequence[Topic]) -> None:
    # The answer to a creation says that the controller agreed; the brokers learn of it a moment later.
    deadline = time.monotonic() + _VISIBLE_SECONDS
    missing = {topic.name: topic.partitions for topic in topics}
    while missing:
        for found in admin.describe_topics(list(missing)):
            led = [part for part in found["partitions"] if not part["error_code"] and part["leader_id"] >= 0]
            if len(led) >= missing[found["name"]]:
                del missing[found["name"]]
        if missing and time.monotonic() > deadline:
            raise FarpointError(f"Kafka does not show {', '.join(missing)} {_VISIBLE_SECONDS:.0f} s after the change")
        if missing:
            time.sleep(0.1)


def record_counts(admin: Any, statuses: Sequence[TopicStatus]) -> dict[str, int]:
    """Count the records that each topic holds, as offsets tell: in a compacted one some of them are gone."""
    parts = [
        TopicPartition(status.wanted.name, number)
        for status in statuses
        if status.found
        for number in range(status.found.partitions)
    ]
    counts: dict[str, int] = {}
    if not parts:
        return counts
    try:
        begins = admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.EARLIEST))
        ends = admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.LATEST))
    except KafkaTimeoutError:
        return counts  # a partition without a leader has no count, and the rest is worth showing
    for part in parts:
        counts[part.topic] = counts.get(part.topic, 0) + ends[part].offset - begins[part].offset
    return counts
