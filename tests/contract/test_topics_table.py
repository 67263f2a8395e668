"""The topics as the contract lists them."""

from farpoint.settings import MediaSettings, TopicsSettings
from farpoint.topics import TopicNames, topics_table

TABLE = {topic.name: topic for topic in topics_table(TopicsSettings(), MediaSettings())}
INPUTS = ("vision.images.v1", "vision.frames.v1", "vision.embeddings.v1")


def test_the_names_are_the_contracts() -> None:
    """The topics are those that others have subscribed to, no more and no fewer."""
    assert set(TABLE) == {
        *INPUTS,
        "vision.assignments.v1",
        "vision.outlier-alerts.v1",
        "vision.cluster-events.v1",
        "vision.detector-state.v1",
        *(f"{name}.dlq" for name in INPUTS),
    }
    assert TopicNames("vision").inputs == INPUTS


def test_all_have_the_same_partitions() -> None:
    """Decisions and checkpoints lie on the partition of the embeddings they are about, so the counts agree."""
    assert {topic.partitions for topic in TABLE.values()} == {8}


def test_only_checkpoints_are_compacted() -> None:
    """Checkpoints are kept for ever, the last of each detector; everything else by time."""
    compacted = {name for name, topic in TABLE.items() if topic.config.get("cleanup.policy") == "compact"}
    assert compacted == {"vision.detector-state.v1"}
    assert all("retention.ms" in topic.config for name, topic in TABLE.items() if name not in compacted)


def test_media_is_kept_by_bytes_too() -> None:
    """Frames fill disks: their topics are bounded in bytes."""
    assert all("retention.bytes" in TABLE[name].config for name in INPUTS)


def test_alerts_outlive_what_they_are_about() -> None:
    """Alerts are kept longer than media, dead letters longer than the inputs they came from."""
    kept = {name: int(topic.config.get("retention.ms", -1)) for name, topic in TABLE.items()}
    assert kept["vision.outlier-alerts.v1"] > kept["vision.frames.v1"]
    assert all(kept[f"{name}.dlq"] > kept[name] for name in INPUTS)
