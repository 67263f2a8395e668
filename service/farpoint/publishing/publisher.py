"""Pictures to Kafka: every one acknowledged by the broker, or named as lost.

`Publisher` is what `farpoint publish` stands on, and is meant to be used from programs just so.
"""

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError

from farpoint import kafka_clients
from farpoint.errors import FarpointError
from farpoint.publishing.picture import MediaTopic, Picture
from farpoint.settings import Settings
from farpoint.topics import TopicNames

__all__ = ["Lost", "MediaTopic", "Picture", "Publisher", "RecordTooLargeError", "check_size"]

_CLOSE_SECONDS = 10
_DELIVERY_SECONDS = 60  # long enough for a cluster of three to elect new leaders
_IN_FLIGHT_BYTES = 32 * 2**20
_BATCH_BYTES = 2**18
_BATCH_OVERHEAD = 2**14  # what Kafka's own framing adds to a record and its headers, amply
# What the broker may hold against one record; anything else it says is true of the next record as well.
_ONE_RECORD = (MessageSizeTooLargeError, InvalidTimestampError)


class RecordTooLargeError(FarpointError):
    """A record is over `FARPOINT_MEDIA__MAX_RECORD_BYTES`; it was not sent."""


@dataclass(frozen=True)
class Lost:
    """A picture that the broker did not acknowledge, and why."""

    name: str
    reason: str


class Publisher:
    """Publish pictures; on leaving, all are acknowledged or an error says that they are not.

    Memory is bounded: `publish` waits while too much is on its way. It may be called from several threads.
    Pictures published to `frames` carry their source as key and stay in order; those published to `images` have no
    key and spread over all partitions.

    Parameters
    ----------
    settings
        Where Kafka is, what the topics are called, how large a record may be.

    Attributes
    ----------
    acknowledged
        How many pictures the broker has, by topic.
    lost
        The pictures that it refused or never answered for.
    in_flight
        How many are sent and not answered for.
    max_record_bytes
        The size limit.

    Raises
    ------
    FarpointError
        There is no Kafka; from `publish` the topic is missing; from `publish`, `flush` and on leaving, the broker
        went away.

    Examples
    --------
    ::

        from farpoint.publishing.publisher import Picture, Publisher
        from farpoint.settings import load_settings

        with Publisher(load_settings()) as publisher:
            for index, jpeg in enumerate(jpegs):
                publisher.publish(Picture(jpeg, source="cam-1", frame_index=index))
        print(publisher.acknowledged["frames"])
    """

    def __init__(self, settings: Settings) -> None:
        names = TopicNames(settings.topics.domain)
        self._topics: dict[MediaTopic, str] = {"images": names.images, "frames": names.frames}
        self._kafka = settings.kafka
        self.max_record_bytes = settings.media.max_record_bytes
        self._max_in_flight = max(_IN_FLIGHT_BYTES, self.max_record_bytes)
        self._change = threading.Condition()
        self.in_flight = 0
        self._bytes_in_flight = 0
        self._broken: KafkaError | None = None
        self.acknowledged: Counter[MediaTopic] = Counter()
        self.lost: list[Lost] = []
        self._producer = kafka_clients.producer(
            settings.kafka,
            request_timeout_ms=15_000,
            delivery_timeout_ms=_DELIVERY_SECONDS * 1000,
            linger_ms=10,
            # The broker's limit is on the batch: one record may fill it, several together may not exceed it.
            batch_size=min(_BATCH_BYTES, self.max_record_bytes),
            max_request_size=self.max_record_bytes + _BATCH_OVERHEAD,
            compression_type=None,  # encoded pictures do not get smaller
            allow_auto_create_topics=False,
        )
        try:
            self._existing = self._existing_topics()
        except BaseException:
            self._producer.close(timeout=0)
            raise

    def _existing_topics(self) -> set[str]:
        # Asked beforehand: kafka-python would wait a minute for a topic to appear, and then speak of metadata.
        admin = kafka_clients.admin(self._kafka)
        try:
            with kafka_clients.kafka_errors(self._kafka):
                return set(admin.list_topics())
        finally:
            admin.close()

    def publish(self, picture: Picture, topic: MediaTopic = "frames", *, name: str | None = None) -> None:
        """Send a picture; returns as soon as there is room for it on the way.

        Parameters
        ----------
        picture
            What to send.
        topic
            `frames` for what comes in order per source, `images` for lone pictures.
        name
            What it is called in `lost`; default: its subject or source.

        Raises
        ------
        RecordTooLargeError
            It is over the size limit, and was not sent.
        FarpointError
            The topic is missing, or the broker went away.
        """
        key = picture.source.encode() if topic == "frames" else None
        headers = picture.headers(topic)
        size = len(picture.data) + len(key or b"") + sum(len(header) + len(value) for header, value in headers)
        check_size(size, self.max_record_bytes)
        if self._topics[topic] not in self._existing:
            raise FarpointError(f"there is no topic {self._topics[topic]}: run `farpoint topics apply`")
        with self._change:
            self._change.wait_for(lambda: self._broken or self._bytes_in_flight + size <= self._max_in_flight)
            self._check()
            self.in_flight += 1
            self._bytes_in_flight += size
        try:
            # The record's timestamp stays the time of sending: by an old one, Kafka would delete it at once.
            with kafka_clients.kafka_errors(self._kafka):
                future = self._producer.send(self._topics[topic], picture.data, key, headers)
        except BaseException:
            self._settle(size)
            raise
        future.add_callback(self._on_acknowledged, topic, size)
        future.add_errback(self._on_lost, name or picture.subject or picture.source, size)

    def _on_acknowledged(self, topic: MediaTopic, size: int, _metadata: Any) -> None:
        with self._change:
            self.acknowledged[topic] += 1
        self._settle(size)

    def _on_lost(self, name: str, size: int, error: BaseException) -> None:
        with self._change:
            too_large = isinstance(error, MessageSizeTooLargeError)
            reason = "Kafka's own limit, max.message.bytes of the topic, is smaller" if too_large else str(error)
            self.lost.append(Lost(name, " ".join(reason.split())))
            if not isinstance(error, _ONE_RECORD) and isinstance(error, KafkaError):
                self._broken = self._broken or error
        self._settle(size)

    def _settle(self, size: int) -> None:
        with self._change:
            self.in_flight -= 1
            self._bytes_in_flight -= size
            self._change.notify_all()

    def _check(self) -> None:
        if self._broken:
            with kafka_clients.kafka_errors(self._kafka):
                raise self._broken

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the broker has answered for everything sent so far.

        Parameters
        ----------
        timeout
            Seconds to wait at most; by default as long as delivery may take.

        Raises
        ------
        FarpointError
            The broker went away, or the time was not enough.
        """
        with self._change:
            done = self._change.wait_for(lambda: not self.in_flight, timeout)
            self._check()
            if not done:
                raise FarpointError(f"{self.in_flight} pictures are not acknowledged yet")

    def close(self, timeout: float | None = None) -> None:
        """Flush and disconnect."""
        try:
            self.flush(timeout)
        finally:
            with suppress(KafkaError):  # it cannot flush what is still unanswered; `in_flight` says how much
                self._producer.close(timeout=0 if self.in_flight else _CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(FarpointError):  # the error on its way out came first
            self.close(timeout=_CLOSE_SECONDS)  # what was sent before it still counts


def check_size(size: int, limit: int) -> None:
    """Refuse a record over the limit.

    >>> check_size(9_000_000, 8_388_608)
    Traceback (most recent call last):
    ...
    farpoint.publishing.publisher.RecordTooLargeError: a record of 9,000,000 bytes; at most 8,388,608 ...
    """
    if size > limit:
        raise RecordTooLargeError(f"a record of {size:,} bytes; at most {limit:,} (FARPOINT_MEDIA__MAX_RECORD_BYTES)")
