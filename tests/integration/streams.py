"""A stream of vectors for several detectors, published while workers come and go, and what must be decided about it."""

import json
import threading
import time
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

import numpy as np
from tests.integration.worker_process import Topics
from tests.vectors import as_json, clustered, outlier

from farpoint.fold import DetectorFold
from farpoint.settings import DetectorSettings
from farpoint.wire import RecordRef, read_embeddings

RECORDS = 80
PER_RECORD = 10
NUMBERS = ("state", "cluster_id", "distance", "outlier_score", "p_value", "is_outlier")

Decided = dict[str, list[tuple[Any, ...]]]
"""By detector the numbers of each decision, in the order of the log."""


class Stream:
    """`RECORDS` records for each of some detectors, in turn, now and then with an outlier in them.

    Parameters
    ----------
    detectors
        Their keys.
    seed
        Of the vectors.
    """

    def __init__(self, detectors: list[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.detectors = detectors
        self.records: list[tuple[str, bytes]] = []
        for number in range(RECORDS):
            for detector in detectors:
                vectors = clustered(rng, PER_RECORD)
                if number % 20 == 19:
                    vectors[3] = outlier()[0]
                self.records.append((detector, as_json(vectors)))

    @property
    def vectors(self) -> int:
        """How many there are."""
        return len(self.records) * PER_RECORD

    def expected(self) -> Decided:
        """Fold the records here, in one go, with nothing in between."""
        folds: dict[str, DetectorFold] = {}
        decided: Decided = defaultdict(list)
        for number, (detector, value) in enumerate(self.records):
            record = read_embeddings(RecordRef("t", 0, number, 0), detector.encode(), value, ())
            fold = folds.setdefault(detector, DetectorFold.begin(record, DetectorSettings()))
            decisions = fold.apply(record)
            assert decisions is not None
            decided[detector] += [
                tuple(getattr(item, name) for name in NUMBERS) for item in decisions.assignments.items
            ]
        return dict(decided)


class Publishing:
    """Publishes a stream in a thread, a record every few milliseconds, until the context is left or all is out."""

    def __init__(self, topics: Topics, stream: Stream, seconds: float) -> None:
        self._topics = topics
        self._stream = stream
        self._pause = seconds / len(stream.records)
        self._thread = threading.Thread(target=self._run)
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.join(timeout=300)
        if error is None and self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            futures = []
            for detector, value in self._stream.records:
                futures.append(self._topics.publish(self._topics.names.embeddings, value, detector))
                time.sleep(self._pause)
            for future in futures:
                future.get(300)
        except BaseException as error:
            self._failed = error


def decided(topics: Topics) -> tuple[Decided, int]:
    """Return what was decided and how many records were decided more than once, each time byte for byte the same.

    The same holds for alerts and cluster events: what has the same id has the same bytes.
    """
    values: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    count = 0
    for record in topics.records(topics.names.assignments):
        at = json.loads(record.value)["embeddings"]
        assert at["partition"] == record.partition
        values[at["partition"], at["offset"]].add(record.value)
        count += 1
    assert all(len(found) == 1 for found in values.values()), "work redone came out differently"
    numbers: Decided = defaultdict(list)
    for at_offset in sorted(values):
        batch = json.loads(next(iter(values[at_offset])))
        numbers[batch["detector"]] += [tuple(item[name] for name in NUMBERS) for item in batch["items"]]
    for topic in (topics.names.alerts, topics.names.cluster_events):
        by_id: dict[str, set[bytes]] = defaultdict(set)
        for record in topics.records(topic):
            by_id[json.loads(record.value)["id"]].add(record.value)
        assert all(len(found) == 1 for found in by_id.values()), f"{topic}: one id, several contents"
    return dict(numbers), count - len(values)


def decided_vectors(topics: Topics) -> int:
    """Count the vectors decided so far, each once."""
    return len(topics.decided())


def alerted(topics: Topics) -> set[str]:
    """Return the ids of all vectors that were decided to be outliers."""
    return {name for name, item in topics.decided().items() if item["is_outlier"]}
