"""Vectors: the worker's detect stage against the script that anybody would write first, in the same run."""

import subprocess
import sys
import time

import kafka
import msgspec
import numpy as np

from farpoint import kafka_clients
from farpoint.wire import embeddings_headers
from tests.bench.harness import Bench, bench, print_table

DIMENSION = 1280
PER_RECORD = 64
RECORDS = 2000
PEER_VECTORS = 20_000


def mixture(count: int, seed: int = 0) -> np.ndarray:
    """Draw from 100 Gaussians on the sphere, (count, 1280) float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((100, DIMENSION)).astype(np.float32)
    noise = rng.standard_normal((count, DIMENSION)).astype(np.float32)
    return centres[rng.integers(100, size=count)] + np.float32(0.5) * noise


def payload(vectors: np.ndarray) -> bytes:
    """Write a record of vectors, (N, 1280) float32."""
    packed = {"dim": DIMENSION, "dtype": "float32", "data": vectors.tobytes()}
    return msgspec.msgpack.encode({"model": "bench@1", "vectors": packed})


def ours(run: Bench, **environment: str) -> float:
    """Return vectors per second of the worker, from the first decision to the last."""
    producer = run.producer()
    block = mixture(PER_RECORD * 100)
    payloads = [payload(block[start : start + PER_RECORD]) for start in range(0, len(block), PER_RECORD)]
    for number in range(RECORDS):
        producer.send(
            run.names.embeddings, key=b"shared", value=payloads[number % 100], headers=embeddings_headers("shared")
        )
    producer.flush()
    producer.close()
    with run.worker("detect", **environment):
        run.wait_for_records(run.names.assignments, RECORDS)
    times = sorted(record.timestamp / 1000 for record in run.records(run.names.assignments))
    skip = RECORDS // 10
    return (RECORDS - skip - 1) * PER_RECORD / (times[-1] - times[skip])


PEER = """
import sys, json, time
import kafka, numpy as np
from sklearn.cluster import MiniBatchKMeans
servers, vectors, results, count, size = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
consumer = kafka.KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
consumer.assign([kafka.TopicPartition(vectors, 0)])
producer = kafka.KafkaProducer(bootstrap_servers=servers, linger_ms=5)
model, batch, done, began = MiniBatchKMeans(n_clusters=100, n_init=1), [], 0, None
for record in consumer:
    batch.append(np.frombuffer(record.value, np.float32))
    if len(batch) < (size if began else max(size, 256)):
        continue
    if began:
        for row, label in enumerate(model.predict(np.stack(batch))):
            producer.send(results, value=json.dumps({"index": done + row, "cluster": int(label)}).encode())
        done += len(batch)
    model.partial_fit(np.stack(batch))
    began = began or time.perf_counter()
    batch = []
    if done >= count - 256 - size:
        break
producer.flush()
print(done / (time.perf_counter() - began))
"""


def obvious_script(run: Bench) -> list[float]:
    """Return vectors per second of kafka-python and scikit-learn, one vector a record, one assignment each.

    Twice: with batches as large as our records, and four times as large.
    """
    admin = kafka_clients.admin(run.settings.kafka)
    for topic in ("peer-vectors", "peer-results"):
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    time.sleep(1)
    producer: kafka.KafkaProducer = run.producer()
    for row in mixture(PEER_VECTORS):
        producer.send("peer-vectors", value=row.tobytes())
    producer.flush()
    producer.close()
    command = [sys.executable, "-c", PEER, run.settings.kafka.bootstrap_servers, "peer-vectors", "peer-results"]
    return [
        float(
            subprocess.run([*command, str(PEER_VECTORS), str(size)], check=True, capture_output=True, text=True).stdout
        )
        for size in (PER_RECORD, 4 * PER_RECORD)
    ]


def main() -> None:
    """Measure and print."""
    rows = []
    for number in range(3):
        with bench("bench") as run:
            small, large = obvious_script(run)
            rate = ours(run)
        rows.append(
            [number + 1, f"{rate:,.0f}", f"{small:,.0f}", f"{rate / small:.1f}", f"{large:,.0f}", f"{rate / large:.1f}"]
        )
    print_table(
        f"Vectors, {DIMENSION}-d, {PER_RECORD} to a record, broker on the same cores",
        rows,
        ["run", "worker, vectors/s", "script, batches of 64", "ratio", "script, batches of 256", "ratio"],
    )


if __name__ == "__main__":
    main()
