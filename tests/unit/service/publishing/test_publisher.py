"""The publisher's bookkeeping, on a stand-in for kafka-python's producer that answers when the test says so."""

import threading
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from kafka.future import Future

from farpoint import kafka_clients
from farpoint.errors import FarpointError
from farpoint.publishing import publisher
from farpoint.publishing.publisher import Lost, Picture, Publisher, RecordTooLargeError
from farpoint.settings import MediaSettings, Settings

PICTURE = Picture(b"\xff\xd8\xff" + bytes(1000), source="cam-1", subject="lobby.mp4")


class Wire:
    """What the publisher sent, and the broker's answers to it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes | None, dict[str, bytes]]] = []
        self.answers: list[Future] = []
        self.topics = ["vision.images.v1", "vision.frames.v1"]
        self.options: dict[str, Any] = {}
        self.closed = False

    def send(self, topic: str, value: bytes, key: bytes | None, headers: list[tuple[str, bytes]]) -> Future:
        """Take a record; the answer comes later."""
        self.sent.append((topic, value, key, dict(headers)))
        self.answers.append(Future())
        return self.answers[-1]

    def list_topics(self) -> list[str]:
        """Name the topics there are."""
        return self.topics

    def close(self, timeout: float | None = None) -> None:
        """Note that the connection was closed."""
        del timeout
        self.closed = True


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Stand in for producer and admin client."""
    wire = Wire()

    def producer(settings: object, **options: Any) -> Wire:
        wire.options = options
        return wire

    monkeypatch.setattr(kafka_clients, "producer", producer)
    monkeypatch.setattr(kafka_clients, "admin", lambda _: wire)
    return wire


def test_only_what_is_acknowledged_counts(wire: Wire) -> None:
    """A picture counts when the broker has it, and not when it was sent."""
    sender = Publisher(Settings())
    sender.publish(PICTURE, "images")
    sender.publish(PICTURE, "frames")
    assert (sender.acknowledged.total(), sender.in_flight) == (0, 2)
    wire.answers[0].success(None)
    assert (dict(sender.acknowledged), sender.in_flight) == ({"images": 1}, 1)
    with pytest.raises(FarpointError, match="1 pictures are not acknowledged yet"):
        sender.flush(timeout=0)
    wire.answers[1].success(None)
    sender.close()
    assert dict(sender.acknowledged) == {"images": 1, "frames": 1}


def test_frames_are_keyed_and_images_are_not(wire: Wire) -> None:
    """Frames carry their source as key, so that they stay in order; images have none, so that they spread."""
    sender = Publisher(Settings())
    sender.publish(PICTURE, "images")
    sender.publish(PICTURE, "frames")
    assert [(topic, key) for topic, _, key, _ in wire.sent] == [
        ("vision.images.v1", None),
        ("vision.frames.v1", b"cam-1"),
    ]
    assert all(value is PICTURE.data for _, value, _, _ in wire.sent)
    assert all(headers["ce_source"] == b"cam-1" for _, _, _, headers in wire.sent)


def test_size_limit_is_told_before_sending(wire: Wire) -> None:
    """A record over the limit is refused before it is sent, and the next one goes through."""
    sender = Publisher(Settings(media=MediaSettings(max_record_bytes=2**21)))
    with pytest.raises(RecordTooLargeError, match=r"at most 2,097,152 \(FARPOINT_MEDIA__MAX_RECORD_BYTES\)"):
        sender.publish(Picture(bytes(2**21), source="s"))
    sender.publish(PICTURE)
    assert [value for _, value, _, _ in wire.sent] == [PICTURE.data]
    assert wire.options["batch_size"] <= 2**21 < wire.options["max_request_size"]


def test_missing_topic_says_what_to_run(wire: Wire) -> None:
    """A topic that is not there is named at once, with the command that makes it; the other one works."""
    wire.topics = ["vision.frames.v1"]
    sender = Publisher(Settings())
    with pytest.raises(FarpointError, match=r"no topic vision\.images\.v1: run `farpoint topics apply`"):
        sender.publish(PICTURE, "images")
    sender.publish(PICTURE, "frames")
    assert sender.in_flight == 1


def test_one_refused_record_is_lost_by_name(wire: Wire) -> None:
    """What the broker has against one record is that record's loss only."""
    sender = Publisher(Settings())
    for _ in range(3):
        sender.publish(PICTURE, name="videos/lobby.mp4")
    wire.answers[0].success(None)
    wire.answers[1].failure(MessageSizeTooLargeError())
    wire.answers[2].success(None)
    sender.close()
    [lost] = sender.lost
    assert lost.name == "videos/lobby.mp4"
    assert "max.message.bytes" in lost.reason
    assert sender.acknowledged["frames"] == 2


def test_broker_that_goes_away_ends_it(wire: Wire) -> None:
    """When delivery times out, publishing, flushing and leaving all say that no Kafka answers."""
    sender = Publisher(Settings())
    with sender:
        sender.publish(PICTURE)
        wire.answers[0].success(None)
    sender.publish(PICTURE)
    wire.answers[1].failure(KafkaTimeoutError("batch expired"))
    with pytest.raises(FarpointError, match="no Kafka answers"), sender:
        pass
    assert sender.lost == [Lost("lobby.mp4", "KafkaTimeoutError: batch expired")]
    with pytest.raises(FarpointError, match="no Kafka answers"):
        sender.publish(PICTURE)
    assert len(wire.sent) == 2
    assert wire.closed


def test_memory_is_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing waits while too much is on its way, and goes on as soon as the broker has taken some of it."""
    monkeypatch.setattr(publisher, "_IN_FLIGHT_BYTES", 3 * 10**6)
    sender = Publisher(Settings(media=MediaSettings(max_record_bytes=2**21)))
    held_up = threading.Event()
    done = threading.Event()

    def publish() -> None:
        for index in range(4):
            if index == 3:
                held_up.set()
            sender.publish(Picture(bytes(970_000), source="s"))
        done.set()

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    assert held_up.wait(30)
    assert not done.wait(0.2)
    assert len(wire.sent) == 3
    wire.answers[0].success(None)
    assert done.wait(30)
    assert len(wire.sent) == 4
    thread.join(30)
