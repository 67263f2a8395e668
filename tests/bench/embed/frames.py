"""Frames through Kafka: published, and waited for until they are embedded."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from farpoint.wire import EmbeddingBatchMsgpack
from tests.bench.harness import Bench, rate_after
from tests.bench.pictures import SOURCES


def embedded_rate(run: Bench, count: int) -> float:
    """Wait until `count` frames are embedded; return frames a second of the second half.

    The first may be of workers that still start, and share the partitions anew each time one has.
    """
    *_, found = run.counts(run.names.embeddings, count, _items)
    return rate_after(0.5, found)


def _items(value: bytes) -> Sequence[Any]:
    return msgspec.msgpack.decode(value, type=EmbeddingBatchMsgpack).items or ()


def lone_frames(run: Bench, pictures: Sequence[bytes], count: int) -> Iterator[float]:
    """Publish one frame after another, each when the one before is embedded; yield milliseconds."""
    reader = run.reader_at_end(run.names.embeddings)
    producer = run.quick_producer()
    for number in range(-5, count):  # a producer's first records wait for it to find its way to the broker
        time.sleep(0.02 + 0.0007 * (number % 31))  # not in step with anything
        began = time.perf_counter()
        producer.send(run.names.frames, key=b"lone", value=pictures[number % len(pictures)])
        while not any(_items(r.value) for records in reader.poll(timeout_ms=1000).values() for r in records):
            pass
        if number >= 0:
            yield (time.perf_counter() - began) * 1000
    producer.close()
    reader.close()


def loaded_frames(run: Bench, pictures: Sequence[bytes], per_second: float, seconds: float) -> Iterator[float]:
    """Publish at a fixed pace; yield milliseconds from a frame's timestamp to its vector being readable."""
    reader = run.reader_at_end(run.names.embeddings)
    producer = run.quick_producer()
    total = int(per_second * seconds)
    stop = threading.Event()

    def send() -> None:
        began = time.perf_counter()
        for sent in range(total):
            if stop.wait(max(0.0, began + sent / per_second - time.perf_counter())):
                return
            producer.send(run.names.frames, key=b"cam-%d" % (sent % SOURCES), value=pictures[sent % len(pictures)])

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    seen = 0
    deadline = time.monotonic() + seconds + 60
    while seen < total and time.monotonic() < deadline:
        for records in reader.poll(timeout_ms=500).values():
            now = time.time()
            for record in records:
                for item in _items(record.value):
                    seen += 1
                    if item.media and item.media.timestamp:
                        yield (now - item.media.timestamp / 1000) * 1000
    stop.set()
    sending.join()
    producer.close()
    reader.close()
