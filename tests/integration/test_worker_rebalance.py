"""A second worker joins and leaves while vectors flow: partitions move, and the detectors with them."""

from prometheus_client.parser import text_string_to_metric_families
from tests.integration.streams import Publishing, Stream, alerted, decided, decided_vectors
from tests.integration.worker_process import StartWorker, Topics, WorkerProcess, wait_for


def lags(worker: WorkerProcess) -> dict[int, float]:
    """Return the lag that a worker shows, by partition."""
    return {
        int(sample.labels["partition"]): sample.value
        for family in text_string_to_metric_families(worker.get("/metrics")[2])
        for sample in family.samples
        if sample.name == "farpoint_consumer_lag_records"
    }


def shared_out(first: dict[int, float], second: dict[int, float]) -> bool:
    """Say whether both show partitions, none of them twice, and all together."""
    return bool(first and second) and not first.keys() & second.keys() and first.keys() | second.keys() == set(range(8))


def test_a_worker_joins_and_leaves(topics: Topics, start_worker: StartWorker) -> None:
    """Every vector is decided as if there had been one worker only; work done twice is the same byte for byte."""
    stream = Stream([f"detector-{number}" for number in range(6)], seed=3)
    first = start_worker(topics.domain, stages="detect")
    with Publishing(topics, stream, seconds=12.0):
        wait_for(lambda: decided_vectors(topics) >= stream.vectors // 6, "the first decisions")
        second = start_worker(topics.domain, stages="detect")
        assert decided_vectors(topics) < stream.vectors, "it joined too late to prove anything"
        wait_for(lambda: "farpoint_vectors_assigned_total 0.0" not in second.get("/metrics")[2], "work for the second")
        wait_for(
            lambda: shared_out(lags(first), lags(second)), "each partition's lag at one of the workers, and only there"
        )
        assert second.stop() == 0
        wait_for(lambda: decided_vectors(topics) == stream.vectors, "all decisions")
    wait_for(lambda: lags(first) == dict.fromkeys(range(8), 0.0), "no lag of any partition at the first")
    assert first.running
    numbers, _ = decided(topics)
    assert numbers == stream.expected()
    assert alerted(topics) == set(topics.alerts()) != set()
    assert first.stop() == 0
