"""The device under a real worker: lost in the middle of its work, and shared by several processes."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from tests.integration.worker_process import StartWorker, Topics, wait_for
from tests.onnx_models import model_folder, projection
from tests.pictures import encode, jpeg

from farpoint.wire import RecordRef, read_embeddings


def embedded(topics: Topics) -> list[str | None]:
    """Return the ids of all vectors on the embeddings topic."""
    return [
        item.id
        for record in topics.embeddings()
        for item in read_embeddings(
            RecordRef(record.topic, record.partition, record.offset, record.timestamp),
            record.key,
            record.value,
            record.headers,
        ).items
    ]


def test_a_lost_device_loses_nothing(topics: Topics, start_worker: StartWorker, tmp_path: Path) -> None:
    """ONNX Runtime fails in the middle: exit 1, one line; a worker on a sound device embeds every frame."""
    sick = model_folder(tmp_path / "sick", projection(breaks_on_white=True))
    sound = model_folder(tmp_path / "sound", projection())
    rng = np.random.default_rng(0)
    white = encode(Image.new("RGB", (64, 48), (255, 255, 255)), "PNG")
    wanted = [f"frame/{number}" for number in range(61)]
    topics.publish_all(
        topics.names.frames,
        [("cam", white if n == 30 else jpeg(rng), [("ce_id", wanted[n].encode())]) for n in range(len(wanted))],
    )
    worker = start_worker(topics.domain, stages="embed", ready=False, FARPOINT_EMBEDDER__MODEL=str(sick))
    assert worker.wait(90) == 1
    assert "CPUExecutionProvider failed" in worker.last_line
    assert "Kafka redelivers" in worker.last_line
    assert "Traceback" not in worker.log
    assert "frame/30" not in embedded(topics)
    assert not topics.dead_letters(topics.names.frames)
    start_worker(topics.domain, stages="embed", FARPOINT_EMBEDDER__MODEL=str(sound))
    wait_for(lambda: set(wanted) <= set(embedded(topics)), "every frame to be embedded")


def test_two_processes_share_the_partitions(topics: Topics, start_worker: StartWorker, tmp_path: Path) -> None:
    """`--processes 2` is two members of the group with a port each; one signal stops both, with everything done."""
    model = model_folder(tmp_path / "model", projection())
    worker = start_worker(topics.domain, "--processes", "2", stages="embed", FARPOINT_EMBEDDER__MODEL=str(model))
    for port in (worker.port, worker.port + 1):
        status, _, body = worker.get("/readyz", port)
        assert status == 200
        details = {check["name"]: check["detail"] for check in json.loads(body)}
        assert "nodes on CPUExecutionProvider" in details["execution_provider"]
    rng = np.random.default_rng(0)
    wanted = [f"frame/{number}" for number in range(40)]
    topics.publish_all(
        topics.names.frames, [(f"cam-{n % 8}", jpeg(rng), [("ce_id", wanted[n].encode())]) for n in range(40)]
    )
    wait_for(lambda: sorted(map(str, embedded(topics))) == sorted(wanted), "every frame, once")
    received = [
        sum(
            float(line.rpartition(" ")[2])
            for line in worker.get("/metrics", port)[2].splitlines()
            if line.startswith("farpoint_records_received_total")
        )
        for port in (worker.port, worker.port + 1)
    ]
    assert sum(received) == 40
    assert all(received), "both had partitions"
    assert worker.stop() == 0
