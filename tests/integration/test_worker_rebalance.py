"""A second worker joins and leaves while vectors flow: partitions move, and the detectors with them."""

from tests.integration.streams import Publishing, Stream, alerted, decided, decided_vectors
from tests.integration.worker_process import StartWorker, Topics, wait_for


def test_a_worker_joins_and_leaves(topics: Topics, start_worker: StartWorker) -> None:
    """Every vector is decided as if there had been one worker only; work done twice is the same byte for byte."""
    stream = Stream([f"detector-{number}" for number in range(6)], seed=3)
    first = start_worker(topics.domain, stages="detect")
    with Publishing(topics, stream, seconds=12.0):
        wait_for(lambda: decided_vectors(topics) >= stream.vectors // 6, "the first decisions")
        second = start_worker(topics.domain, stages="detect")
        assert decided_vectors(topics) < stream.vectors, "it joined too late to prove anything"
        wait_for(lambda: "farpoint_vectors_assigned_total 0.0" not in second.get("/metrics")[2], "work for the second")
        assert second.stop() == 0
        wait_for(lambda: decided_vectors(topics) == stream.vectors, "all decisions")
    assert first.running
    numbers, _ = decided(topics)
    assert numbers == stream.expected()
    assert alerted(topics) == set(topics.alerts()) != set()
    assert first.stop() == 0
