"""The topics table, and how a cluster is compared with it."""

from farpoint.settings import MediaSettings, TopicsSettings
from farpoint.topic_admin import FoundTopic, TopicStatus
from farpoint.topics import Topic, TopicNames, topics_table

WANTED = Topic("t", 8, 2, {"retention.ms": "1000"})


def test_names_follow_the_domain() -> None:
    """Every topic of a domain begins with it, so that several Farpoints share a cluster."""
    table = topics_table(TopicsSettings(domain="harbour"), MediaSettings())
    assert all(topic.name.startswith("harbour.") for topic in table)
    assert TopicNames("harbour").dead_letters("harbour.images.v1") == "harbour.images.v1.dlq"


def test_settings_lay_out_every_topic() -> None:
    """Partitions and copies are those of the settings, for every topic alike."""
    table = topics_table(TopicsSettings(partitions=3, replication_factor=2), MediaSettings())
    assert {(topic.partitions, topic.replication_factor) for topic in table} == {(3, 2)}


def test_a_record_of_the_largest_size_fits_every_topic() -> None:
    """The limit of each topic leaves room for the largest record and its headers."""
    table = topics_table(TopicsSettings(), MediaSettings(max_record_bytes=2**22))
    assert all(int(topic.config["max.message.bytes"]) > 2**22 for topic in table)


def test_a_missing_topic_is_missing() -> None:
    """A topic that is not there differs in just that."""
    assert TopicStatus(WANTED, None).differences == ["missing"]


def test_a_topic_as_it_should_be_has_no_differences() -> None:
    """Settings that our table has no opinion on do not matter, nor do more copies than asked."""
    found = FoundTopic(8, 3, {"retention.ms": "1000", "other": "x"})
    assert TopicStatus(WANTED, found).differences == []


def test_too_few_partitions_can_be_mended() -> None:
    """A narrow topic can be widened, so nothing about it is impossible."""
    status = TopicStatus(WANTED, FoundTopic(4, 2, {"retention.ms": "1000"}))
    assert status.too_few_partitions
    assert status.differences == ["4 partitions, not 8"]
    assert status.impossible == []


def test_too_many_partitions_cannot_be_mended() -> None:
    """Kafka takes no partition away; the sentence says which setting would agree."""
    status = TopicStatus(WANTED, FoundTopic(16, 2, {"retention.ms": "1000"}))
    assert not status.too_few_partitions
    assert "FARPOINT_TOPICS__PARTITIONS=16" in status.impossible[0]


def test_too_few_copies_cannot_be_mended() -> None:
    """Adding copies is a reassignment, which is for whoever runs the cluster."""
    status = TopicStatus(WANTED, FoundTopic(8, 1, {"retention.ms": "1000"}))
    assert "kafka-reassign-partitions" in status.impossible[0]


def test_settings_that_differ_are_listed() -> None:
    """A setting that is another or not there at all is a change to make."""
    status = TopicStatus(WANTED, FoundTopic(8, 2, {"retention.ms": "5"}))
    assert status.config_changes == {"retention.ms": ("5", "1000")}
    assert TopicStatus(WANTED, FoundTopic(8, 2, {})).config_changes == {"retention.ms": (None, "1000")}
