"""The topics: their names, and what each is configured for.

`farpoint topics apply` makes a cluster agree with this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from farpoint.settings import MediaSettings, TopicsSettings

DLQ_SUFFIX = ".dlq"

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True)
class Topic:
    """One topic as it should be.

    Attributes
    ----------
    name
        `<domain>.<dataset>.v1`, for dead letters with `.dlq` behind it.
    partitions, replication_factor
        How it is laid out.
    config
        Kafka's topic settings, as Kafka names them.
    """

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicNames:
    """The names of all topics of one domain."""

    domain: str

    def _name(self, dataset: str) -> str:
        return f"{self.domain}.{dataset}.v1"

    @property
    def images(self) -> str:
        """Lone pictures."""
        return self._name("images")

    @property
    def frames(self) -> str:
        """Pictures in order, per source."""
        return self._name("frames")

    @property
    def embeddings(self) -> str:
        """Vectors, many to a record; the log that detectors are a fold over."""
        return self._name("embeddings")

    @property
    def assignments(self) -> str:
        """Every decision."""
        return self._name("assignments")

    @property
    def alerts(self) -> str:
        """What people and pagers subscribe to."""
        return self._name("outlier-alerts")

    @property
    def cluster_events(self) -> str:
        """Births, deaths, merges and splits of clusters."""
        return self._name("cluster-events")

    @property
    def detector_state(self) -> str:
        """Checkpoints of the detectors, compacted."""
        return self._name("detector-state")

    @property
    def media(self) -> tuple[str, str]:
        """What the embed stage reads."""
        return (self.images, self.frames)

    @property
    def inputs(self) -> tuple[str, str, str]:
        """What people may publish to, and what therefore has dead letters."""
        return (*self.media, self.embeddings)

    def dead_letters(self, topic: str) -> str:
        """Name the topic that takes the dead letters of `topic`."""
        return topic + DLQ_SUFFIX


def largest_record(media: MediaSettings) -> int:
    """Return the largest record that the topics take, bytes: Kafka counts headers and framing as well."""
    return media.max_record_bytes + 2**16


def topics_table(settings: TopicsSettings, media: MediaSettings) -> list[Topic]:
    """Return every topic as it should be, inputs first.

    Media is kept for a day at most and by bytes, since frames fill disks; the embeddings log longer, since detectors
    can be refolded from it; decisions and alerts for weeks; checkpoints for ever, the last of each detector.
    """
    names = TopicNames(settings.domain)
    largest = str(largest_record(media))

    def topic(name: str, **config: str) -> Topic:
        plain = {key.replace("_", "."): value for key, value in config.items()}
        return Topic(name, settings.partitions, settings.replication_factor, {"max.message.bytes": largest, **plain})

    inputs = {
        names.images: topic(names.images, retention_ms=str(_DAY_MS), retention_bytes=str(4 * 2**30)),
        names.frames: topic(names.frames, retention_ms=str(_DAY_MS), retention_bytes=str(4 * 2**30)),
        names.embeddings: topic(names.embeddings, retention_ms=str(7 * _DAY_MS), retention_bytes=str(8 * 2**30)),
    }
    return [
        *inputs.values(),
        topic(names.assignments, retention_ms=str(30 * _DAY_MS)),
        topic(names.alerts, retention_ms=str(90 * _DAY_MS)),
        topic(names.cluster_events, retention_ms=str(90 * _DAY_MS)),
        # Checkpoints come every few seconds: clean early, in small segments, or a restart reads hours of them. But not
        # at once: a late writer's older checkpoint must not leave a newer one behind it alone.
        topic(
            names.detector_state,
            cleanup_policy="compact",
            segment_bytes=str(64 * 2**20),
            segment_ms=str(_HOUR_MS),
            min_cleanable_dirty_ratio="0.1",
            min_compaction_lag_ms=str(10 * 60_000),
        ),
        # A dead letter is its record and six headers more.
        *(
            topic(
                names.dead_letters(name),
                retention_ms=str(30 * _DAY_MS),
                max_message_bytes=str(largest_record(media) + 2**17),
            )
            for name in inputs
        ),
    ]
