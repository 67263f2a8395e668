"""State that outlives its writers: paused and replaced ones, damaged checkpoints, large ones."""

import signal

import numpy as np
from tests.integration.streams import NUMBERS, Publishing, Stream, decided, decided_vectors
from tests.integration.worker_process import StartWorker, Topics, wait_for

from farpoint.checkpoint import load_checkpoints
from farpoint.fold import DetectorFold
from farpoint.settings import DetectorSettings, KafkaSettings
from farpoint.wire import Item, RecordRef, embeddings_headers, read_embeddings, write_embeddings


def publish(topics: Topics, records: list[tuple[str, bytes]]) -> None:
    """Publish records of vectors and wait until they are acknowledged."""
    topics.publish_all(topics.names.embeddings, [(detector, value, ()) for detector, value in records])


def positions(topics: Topics) -> dict[tuple[int, str], int]:
    """Return how far the checkpoint of each detector goes that a restart would take."""
    settings = KafkaSettings(bootstrap_servers=topics.bootstrap)
    found = load_checkpoints(settings, topics.names.detector_state)
    return {at: checkpoint.next_offset for at, checkpoint in found.items()}


def test_a_paused_and_replaced_writer_does_no_harm(topics: Topics, start_worker: StartWorker) -> None:
    """Paused past the session timeout in the middle of work, replaced, continued: state and decisions are as if alone.

    What it still delivers is the same as its successor's, id by id; checkpoints it writes no more; it works on as a
    member like any other.
    """
    stream = Stream(["north", "south", "west"], seed=5)
    with Publishing(topics, stream, seconds=18.0):
        first = start_worker(topics.domain, stages="detect")
        wait_for(lambda: decided_vectors(topics) >= stream.vectors // 8, "the first decisions")
        first.send(signal.SIGSTOP)
        paused_at = decided_vectors(topics)
        second = start_worker(topics.domain, stages="detect")
        wait_for(lambda: decided_vectors(topics) > paused_at + 100, "the successor's decisions")
        first.send(signal.SIGCONT)
        wait_for(lambda: decided_vectors(topics) == stream.vectors, "all decisions")
    assert first.stop() == 0, first.log
    assert second.stop() == 0, second.log
    numbers, _ = decided(topics)
    assert numbers == stream.expected()
    ends = topics.ends([topics.names.embeddings])
    folded: dict[int, int] = {}
    for (partition, _), position in positions(topics).items():
        folded[partition] = max(position, folded.get(partition, 0))
    assert folded == {partition: end for (_, partition), end in ends.items() if end}


def test_a_damaged_checkpoint_and_the_way_out(topics: Topics, start_worker: StartWorker) -> None:
    """A checkpoint nobody can read stops the worker with a line that says so; --rebuild-state makes it from the log.

    Nothing is decided again, and what comes is decided as if nothing had happened, also after the next restart.
    """
    stream = Stream(["north", "south"], seed=6)
    half = len(stream.records) // 2
    publish(topics, stream.records[:half])
    first = start_worker(topics.domain, stages="detect")
    wait_for(lambda: decided_vectors(topics) == stream.vectors // 2, "the first half")
    assert first.stop() == 0
    before = positions(topics)
    partition = next(partition for partition, detector in before if detector == "south")
    topics.publish(topics.names.detector_state, b"no checkpoint", "south", partition=partition).get(30)

    refused = start_worker(topics.domain, stages="detect", ready=False)
    assert refused.wait() == 1
    assert "detector 'south'" in refused.log
    assert "farpoint worker --rebuild-state" in refused.last_line
    assert "Traceback" not in refused.log

    rebuilt = start_worker(topics.domain, "--rebuild-state", stages="detect")
    wait_for(lambda: _readable(topics) == before, "the rebuilt state")
    publish(topics, stream.records[half : half + 20])
    wait_for(lambda: decided_vectors(topics) == stream.vectors // 2 + 200, "decisions of the rebuilt detectors")
    assert rebuilt.stop() == 0
    publish(topics, stream.records[half + 20 :])
    last = start_worker(topics.domain, stages="detect")
    wait_for(lambda: decided_vectors(topics) == stream.vectors, "all decisions")
    assert last.stop() == 0
    numbers, repeated = decided(topics)
    assert repeated == 0
    assert numbers == stream.expected()


def _readable(topics: Topics) -> object:
    try:
        return positions(topics)
    except Exception:
        return None


def test_a_large_detector_is_restored(topics: Topics, start_worker: StartWorker) -> None:
    """A thousand clusters of 1,280 dimensions, several megabytes, survive a restart bit for bit."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(1000, 1280)).astype(np.float32)
    records = []
    for start in range(0, 64 * 300, 64):
        vectors = centres[np.arange(start, start + 64) % 1000] + rng.normal(0, 0.3, (64, 1280)).astype(np.float32)
        records.append(write_embeddings("big@1", vectors, [Item(id=f"{start}-{row}") for row in range(64)]))
    many = {"FARPOINT_DETECTOR__CLUSTERS": "1000"}

    def send(some: list[bytes]) -> None:
        topics.publish_all(topics.names.embeddings, [("big", value, embeddings_headers("big")) for value in some])

    send(records[:260])
    first = start_worker(topics.domain, stages="detect", **many)
    wait_for(lambda: decided_vectors(topics) == 260 * 64, "decisions")
    assert first.stop() == 0
    size = max(len(record.value) for record in topics.records(topics.names.detector_state))
    assert size > 2_000_000, "too small to prove anything"
    send(records[260:])
    second = start_worker(topics.domain, stages="detect", **many)
    wait_for(lambda: decided_vectors(topics) == len(records) * 64, "decisions after the restart")
    assert second.stop() == 0
    chosen = DetectorSettings(clusters=1000)
    fold = None
    expected = []
    for number, value in enumerate(records):
        record = read_embeddings(RecordRef("t", 0, number, 0), b"big", value, embeddings_headers("big"))
        fold = fold or DetectorFold.begin(record, chosen)
        decisions = fold.apply(record)
        assert decisions is not None
        expected += [tuple(getattr(item, name) for name in NUMBERS) for item in decisions.assignments.items]
    assert decided(topics)[0] == {"big": expected}
