"""The broker goes away and comes back; `make chaos` does it to a cluster of three, at random."""

import json
import time
from pathlib import Path

import pytest
from tests.chaos.brokers import Brokers
from tests.integration.streams import Publishing, Stream, decided, decided_vectors
from tests.integration.worker_process import Topics, WorkerProcess, unique_name, wait_for

AWAY_SECONDS = 125.0


@pytest.mark.timeout(600)
def test_the_worker_waits_for_its_broker(tmp_path: Path) -> None:
    """Killed in the middle of work: the worker says so, is alive and not ready, and goes on when the broker is back."""
    stream = Stream(["north", "south"], seed=8)
    domain = unique_name("t")
    with (
        Brokers(tmp_path / "kafka", 1) as brokers,
        Topics(brokers.bootstrap, domain) as topics,
        WorkerProcess(brokers.bootstrap, domain, tmp_path / "worker", "detect", {}) as worker,
    ):
        worker.wait_until_ready()
        with Publishing(topics, stream, seconds=6.0):
            wait_for(lambda: decided_vectors(topics) >= stream.vectors // 4, "the first decisions")
            brokers.kill(0)
            wait_for(lambda: worker.get("/readyz")[0] == 503, "the worker to notice")
            [check] = [one for one in json.loads(worker.get("/readyz")[2]) if one["name"] == "kafka"]
            assert not check["ok"]
            assert worker.get("/livez")[0] == 200
            assert "Kafka does not answer: waiting for it" in worker.log
            time.sleep(AWAY_SECONDS)
            assert worker.running, worker.log
            brokers.start(0)
            brokers.wait_until_serving()
        wait_for(lambda: decided_vectors(topics) == stream.vectors, "all decisions")
        wait_for(lambda: worker.get("/readyz")[0] == 200, "the worker to be ready again")
        assert "Kafka answers again" in worker.log
        assert worker.stop() == 0, worker.log
        assert decided(topics)[0] == stream.expected()
