"""Frames and vectors, published as fast as the worker takes them: there is always enough, and never the whole disk."""

import itertools
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from farpoint.wire import Headers, embeddings_headers
from tests.integration.worker_process import Topics
from tests.pictures import encode, jpeg, stranger
from tests.vectors import as_msgpack, clustered, outlier

PER_RECORD = 16
DETECTORS = ("north", "south", "west", "east")
LOOK_SECONDS = 0.2

Record = tuple[bytes, bytes, Headers]


def frames() -> Iterator[Record]:
    """Yield frames of eight cameras without end, one in 500 strange."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng) for _ in range(50)]
    strange = [encode(stranger(rng)) for _ in range(4)]
    for number in itertools.count():
        value = strange[number // 500 % 4] if number % 500 == 499 else pictures[int(rng.integers(50))]
        yield b"cam-%d" % (number % 8), value, ()


def embeddings() -> Iterator[Record]:
    """Yield records of vectors of four detectors without end, with outliers, one record in 1,000 bad."""
    rng = np.random.default_rng(1)
    for number in itertools.count():
        detector = DETECTORS[number % len(DETECTORS)]
        vectors = clustered(rng, PER_RECORD)
        if number % 100 == 99:
            vectors[3] = outlier()[0]
        value = b"" if number % 1000 == 500 else as_msgpack(vectors)
        yield detector.encode(), value, embeddings_headers(detector)


class Load:
    """A publisher in a thread of its own, until the context is left; `published` counts records by stage."""

    def __init__(self, topics: Topics) -> None:
        names = topics.names
        self._topics = topics
        # By stage: where to, what, and how much may wait there. The detect stage also has what the embed stage writes.
        self._streams = {
            "embed": (names.frames, frames(), 2_000),
            "detect": (names.embeddings, embeddings(), 6_000),
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failed: BaseException | None = None
        self.published = dict.fromkeys(self._streams, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Publish no more; raises what the publisher failed with."""
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed

    def waiting(self, stage: str) -> int:
        """Return how many records of a stage's input are not committed yet; only for whoever uses the topics alone."""
        topic = self._streams[stage][0]
        committed = self._topics.committed(stage, [topic])
        return sum(end - max(0, committed[at]) for at, end in self._topics.ends([topic]).items())

    def _run(self) -> None:
        try:
            while not self._stop.wait(LOOK_SECONDS):
                for stage, (topic, stream, most) in self._streams.items():
                    room = most - self.waiting(stage)
                    if room < most // 4:
                        continue
                    for key, value, headers in itertools.islice(stream, room):
                        self._topics.publish(topic, value, key, headers)
                    self._topics.flush()
                    self.published[stage] += room
        except BaseException as error:
            self._failed = error
