"""Health, metrics and every way in which a worker refuses to start."""

import json
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.worker_process import (
    StartWorker,
    Topics,
    WorkerProcess,
    unique_name,
    wait_for,
)
from tests.pictures import jpeg
from tests.vectors import as_json, clustered, outlier

from farpoint_models.errors import InvalidReason

Running = tuple[WorkerProcess, Topics]
Labels = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def running(shared_topics: Topics, start_shared_worker: StartWorker) -> Running:
    """Run a worker that has seen pictures, vectors, an outlier and bad records."""
    names = shared_topics.names
    rng = np.random.default_rng(1)
    shared_topics.publish_all(names.images, [(None, jpeg(rng), ()) for _ in range(5)])
    shared_topics.publish_all(names.frames, [("cam-1", b"no picture", ())])
    shared_topics.publish_all(names.embeddings, [("d", as_json(clustered(rng, 20)), ()) for _ in range(15)])
    shared_topics.publish_all(names.embeddings, [("d", as_json(outlier()), ())])
    return start_shared_worker(shared_topics.domain), shared_topics


def samples(worker: WorkerProcess) -> dict[tuple[str, Labels], float]:
    """Return what `/metrics` shows by name and labels."""
    _, _, text = worker.get("/metrics")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_answers(running: Running) -> None:
    """A ready worker says so as JSON, check by check, the execution provider among them."""
    worker, _ = running
    for path in ("/livez", "/readyz"):
        status, content_type, body = worker.get(path)
        assert status == 200
        assert content_type.startswith("application/json")
        answer = json.loads(body)
        assert all(check["ok"] for check in answer)
    names = {check["name"]: check["detail"] for check in answer}
    assert set(names) == {"kafka", "partitions.embed", "partitions.detect", "model", "execution_provider"}
    assert "nodes on CPUExecutionProvider" in names["execution_provider"] or "CUDA" in names["execution_provider"]
    assert ".onnx" in names["model"]
    assert worker.get("/nothing")[0] == 404


def test_metrics_tell_what_was_done(running: Running) -> None:
    """Counters, histograms and gauges of the contract hold the numbers of what was published."""
    worker, topics = running
    names = topics.names
    wait_for(lambda: samples(worker)["farpoint_vectors_assigned_total", ()] == 306, "306 vectors")
    wait_for(lambda: samples(worker)["farpoint_outlier_alerts_total", ()] >= 1, "the alert")
    wait_for(lambda: samples(worker)["farpoint_detectors", ()] == 2, "both detectors")
    assert worker.get("/metrics")[1].startswith("text/plain; version=")
    shown = samples(worker)

    def of(name: str, **labels: str) -> float:
        return shown[f"farpoint_{name}", tuple(sorted(labels.items()))]

    assert of("records_received_total", topic=names.images) == 5
    assert of("records_received_total", topic=names.frames) == 1
    assert of("records_received_total", topic=names.embeddings) >= 17
    assert of("frames_embedded_total", topic=names.images) == 5
    assert of("frames_embedded_total", topic=names.frames) == 0
    assert of("frames_skipped_total", reason="redelivered") == 0
    for reason in InvalidReason:
        wanted = 1 if reason == InvalidReason.UNKNOWN_IMAGE_FORMAT else 0
        assert of("records_dead_lettered_total", topic=names.frames, reason=reason) == wanted
        assert of("records_dead_lettered_total", topic=names.embeddings, reason=reason) == 0
    assert of("batch_frames_sum") == 5
    for name in ("decode_seconds", "inference_seconds", "scoring_seconds", "outlier_score_ratio"):
        assert of(f"{name}_count") >= 1
    assert of("decision_latency_seconds_count", topic=names.images) == 5
    assert of("decision_latency_seconds_count", topic=names.embeddings) >= 17
    assert of("clusters") >= 4
    assert 0 < of("outlier_threshold_ratio") <= 1
    assert of("cluster_events_total", type="birth") >= 0
    now = time.time()
    for name in ("checkpoint_timestamp_seconds", "record_processed_timestamp_seconds"):
        assert now - 600 < of(name) <= now + 1
    infos = {name: dict(labels) for name, labels in shown if name.endswith("_info")}
    assert infos["farpoint_model_info"]["name"] == "efficientnet-lite0"
    assert infos["farpoint_model_info"]["revision"] == "1"
    assert len(infos["farpoint_model_info"]["sha256"]) == 64
    assert infos["farpoint_execution_provider_info"]["requested"] == "auto"
    assert sum(value for (name, _), value in shown.items() if name == "farpoint_model_nodes") > 10
    assert 0.99 < of("canary_similarity_ratio") <= 1
    assert infos["farpoint_execution_provider_info"]["provider"].endswith("ExecutionProvider")


def test_lag_is_shown_for_every_partition_and_goes_back_to_zero(running: Running) -> None:
    """Each partition of the three inputs has its gauge, and all are 0 once everything is decided."""
    worker, topics = running

    def lags() -> dict[Labels, float]:
        return {labels: value for (name, labels), value in samples(worker).items() if name.endswith("_lag_records")}

    wanted = {(("partition", str(number)), ("topic", topic)) for topic in topics.names.inputs for number in range(8)}
    wait_for(lambda: set(lags()) == wanted, "a gauge for each partition")
    wait_for(lambda: not any(lags().values()), "no lag")


def test_port_taken(topics: Topics, start_worker: StartWorker) -> None:
    """Exit 1 with a line that names the port and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        worker = start_worker(topics.domain, stages="detect", ready=False, FARPOINT_HTTP__PORT=port)
        assert worker.wait(90) == 1
    assert worker.last_line.startswith(f"farpoint: cannot listen on 127.0.0.1:{port}")
    assert "FARPOINT_HTTP__PORT" in worker.last_line
    assert "Traceback" not in worker.log


def test_topics_missing(start_worker: StartWorker) -> None:
    """Exit 1 with a line that names the missing topics and the command that makes them."""
    domain = unique_name("none")
    worker = start_worker(domain, ready=False)
    assert worker.wait(90) == 1
    assert f"{domain}.frames.v1" in worker.last_line
    assert "`farpoint topics apply`" in worker.last_line
    assert "Traceback" not in worker.log


def test_no_broker(start_worker: StartWorker) -> None:
    """Exit 1 within a bounded time, with a line that says what to do."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        worker = start_worker("t", ready=False, FARPOINT_KAFKA__BOOTSTRAP_SERVERS=address)
        assert worker.wait(120) == 1
    assert worker.last_line.startswith(f"farpoint: no Kafka answers at {address}")
    assert "FARPOINT_KAFKA__BOOTSTRAP_SERVERS" in worker.last_line
    assert "Traceback" not in worker.log


def test_unknown_stage(start_worker: StartWorker) -> None:
    """Exit 2 with the stages to choose from."""
    worker = start_worker("t", stages="nonsense", ready=False)
    assert worker.wait(60) == 2
    assert "embed, detect" in worker.log


def test_unknown_setting(start_worker: StartWorker) -> None:
    """Exit 2 with a line that names the setting."""
    worker = start_worker("t", ready=False, FARPOINT_DETECTOR__WARMUP="9")
    assert worker.wait(60) == 2
    assert "FARPOINT_DETECTOR__WARMUP" in worker.last_line


def test_cuda_that_cannot_be_had(topics: Topics, start_worker: StartWorker) -> None:
    """Asked for CUDA where there is none, exit 1 with the reason; never a silent CPU."""
    # An empty list hides every GPU, where there are some.
    worker = start_worker(topics.domain, ready=False, FARPOINT_EMBEDDER__DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    assert worker.wait(90) == 1
    assert worker.last_line.startswith("farpoint: ")
    assert "cuda" in worker.last_line.lower()
    assert "Traceback" not in worker.log


@pytest.fixture(scope="module", autouse=True)
def _ends_well(running: Running) -> Iterator[None]:
    """After all the tests the worker ends with 0 on SIGTERM."""
    yield
    worker, _ = running
    assert worker.stop() == 0
