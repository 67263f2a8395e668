"""Pictures to Kafka: every one acknowledged by the broker, or named as lost.

`Publisher` is what `farpoint publish` stands on, and is meant to be used from programs just so.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from kafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError

from farpoint import kafka_clients
from farpoint.errors import FarpointError
from farpoint.settings import Settings
from farpoint.topics import TopicNames
from farpoint.wire import rfc3339
from farpoint_models.errors import InvalidRecord
from farpoint_models.image_header import recognise

MediaTopic = Literal["images", "frames"]

EVENT_TYPES: Mapping[MediaTopic, str] = {"images": "farpoint.image.v1", "frames": "farpoint.frame.v1"}

_CONNECT_SECONDS = 10
_DELIVERY_SECONDS = 60  # long enough for a cluster of three to elect new leaders
_IN_FLIGHT_BYTES = 32 * 2**20
_BATCH_BYTES = 2**18
_BATCH_OVERHEAD = 2**14  # what Kafka's own framing adds to a record and its headers, amply
# What the broker may hold against one record; anything else it says is true of the next record as well.
_ONE_RECORD = (MessageSizeTooLargeError, InvalidTimestampError)


class RecordTooLarge(FarpointError):
    """A record is over `FARPOINT_MEDIA__MAX_RECORD_BYTES`; it was not sent."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture and what is known about it. Only `data` is needed.

    Parameters
    ----------
    data
        The encoded picture; it travels byte for byte.
    source
        Where it comes from: a camera, a folder, a customer.
    id
        Stays the same when the same picture is published again; default: a new one.
    time
        When it was taken, RFC 3339; default: now.
    subject
        A name or address to show people.
    frame_index
        Its number in the video.
    content_type
        Default: told from the data.
    metadata
        Anything else that shall come back with an alert; names of lower-case letters and digits (CloudEvents).

    Examples
    --------
    >>> picture = Picture(b"\\xff\\xd8\\xff...", source="cam-1", id="1", time="2026-01-01T00:00:00Z", frame_index=7)
    >>> for name, value in picture.headers("frames"):
    ...     print(name, value.decode())
    content-type image/jpeg
    ce_specversion 1.0
    ce_id 1
    ce_source cam-1
    ce_type farpoint.frame.v1
    ce_time 2026-01-01T00:00:00Z
    ce_frameindex 7
    """

    data: bytes
    source: str
    id: str | None = None
    time: str | None = None
    subject: str | None = None
    frame_index: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def headers(self, topic: MediaTopic) -> list[tuple[str, bytes]]:
        """Return the CloudEvents headers, binary mode."""
        known = {
            "content-type": self.content_type or _content_type(self.data),
            "ce_specversion": "1.0",
            "ce_id": self.id or str(uuid.uuid4()),
            "ce_source": self.source,
            "ce_type": EVENT_TYPES[topic],
            "ce_time": self.time or rfc3339(time.time_ns() // 1_000_000),
            "ce_subject": self.subject,
            "ce_frameindex": None if self.frame_index is None else str(self.frame_index),
        }
        headers = {name: value for name, value in known.items() if value is not None}
        return [
            *((name, value.encode()) for name, value in headers.items()),
            *((f"ce_{name}", value.encode()) for name, value in self.metadata.items()),
        ]


def _content_type(data: bytes) -> str:
    try:
        return f"image/{recognise(data).lower()}"
    except InvalidRecord:
        return "application/octet-stream"


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

    Raises
    ------
    FarpointError
        There is no Kafka; from `publish` the topic is missing; from `publish`, `flush` and on leaving, the broker
        went away.

    Examples
    --------
    ::

        from farpoint.publisher import Picture, Publisher
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
        self._max_record = settings.media.max_record_bytes
        self._max_in_flight = max(_IN_FLIGHT_BYTES, self._max_record)
        self._change = threading.Condition()
        self._in_flight: Counter[str] = Counter()
        self._broken: KafkaError | None = None
        self.acknowledged: Counter[MediaTopic] = Counter()
        self.lost: list[Lost] = []
        self._producer = kafka_clients.producer(
            settings.kafka,
            bootstrap_timeout_ms=_CONNECT_SECONDS * 1000,
            request_timeout_ms=15_000,
            delivery_timeout_ms=_DELIVERY_SECONDS * 1000,
            linger_ms=10,
            # The broker's limit is on the batch: one record may fill it, several together may not exceed it.
            batch_size=min(_BATCH_BYTES, self._max_record),
            max_request_size=self._max_record + _BATCH_OVERHEAD,
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
        RecordTooLarge
            It is over the size limit, and was not sent.
        FarpointError
            The topic is missing, or the broker went away.
        """
        key = picture.source.encode() if topic == "frames" else None
        headers = picture.headers(topic)
        size = len(picture.data) + len(key or b"") + sum(len(name) + len(value) for name, value in headers)
        check_size(size, self._max_record)
        if self._topics[topic] not in self._existing:
            raise FarpointError(f"there is no topic {self._topics[topic]}: run `farpoint topics apply`")
        with self._change:
            self._change.wait_for(lambda: self._broken or self._bytes_in_flight + size <= self._max_in_flight)
            self._check()
            self._in_flight["records"] += 1
            self._in_flight["bytes"] += size
        try:
            # The record's timestamp stays the time of sending: by an old one, Kafka would delete it at once.
            with kafka_clients.kafka_errors(self._kafka):
                future = self._producer.send(self._topics[topic], picture.data, key, headers)
        except BaseException:
            self._settle(size)
            raise
        future.add_callback(self._on_acknowledged, topic, size)
        future.add_errback(self._on_lost, name or picture.subject or picture.source, size)

    @property
    def _bytes_in_flight(self) -> int:
        return self._in_flight["bytes"]

    def _on_acknowledged(self, topic: MediaTopic, size: int, _metadata: Any) -> None:
        with self._change:
            self.acknowledged[topic] += 1
        self._settle(size)

    def _on_lost(self, name: str, size: int, error: BaseException) -> None:
        with self._change:
            self.lost.append(Lost(name, f"not acknowledged: {' '.join(str(error).split())}"))
            if not isinstance(error, _ONE_RECORD) and isinstance(error, KafkaError):
                self._broken = self._broken or error
        self._settle(size)

    def _settle(self, size: int) -> None:
        with self._change:
            self._in_flight["records"] -= 1
            self._in_flight["bytes"] -= size
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
            done = self._change.wait_for(lambda: not self._in_flight["records"], timeout)
            self._check()
            if not done:
                raise FarpointError(f"{self._in_flight['records']} pictures are not acknowledged yet")

    def close(self, timeout: float | None = None) -> None:
        """Flush and disconnect."""
        try:
            self.flush(timeout)
        finally:
            self._producer.close(timeout=0 if self._in_flight["records"] else 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(timeout=_CONNECT_SECONDS)  # what was sent before the error still counts
        except FarpointError:
            pass  # the error on its way out came first


def check_size(size: int, limit: int) -> None:
    """Refuse a record over the limit.

    >>> check_size(9_000_000, 8_388_608)
    Traceback (most recent call last):
    ...
    farpoint.publisher.RecordTooLarge: a record of 9,000,000 bytes; at most 8,388,608 (FARPOINT_MEDIA__MAX_RECORD_BYTES)
    """
    if size > limit:
        raise RecordTooLarge(f"a record of {size:,} bytes; at most {limit:,} (FARPOINT_MEDIA__MAX_RECORD_BYTES)")
