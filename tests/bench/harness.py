"""What every benchmark stands on: a broker and a worker of its own, and a table that says what it was measured on."""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import kafka
import psutil

from farpoint import kafka_clients
from farpoint.child_process import ChildProcess
from farpoint.local_kafka.launcher import KafkaLauncher
from farpoint.ports import free_ports
from farpoint.settings import Settings
from farpoint.topic_admin import apply_topics
from farpoint.topics import TopicNames, topics_table
from tests.bench.pictures import SOURCES

VERSIONS = ("faust-streaming", "aiokafka", "kafka-python", "onnxruntime-gpu", "numpy", "scikit-learn")


def machine() -> str:
    """Describe the machine and the versions in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {_version(name)}" for name in VERSIONS)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, {memory:.0f} GiB; Python {platform.python_version()}, {packages}"


def _version(name: str) -> str:
    try:
        return version(name)
    except Exception:
        return "-"


def print_table(title: str, rows: Sequence[Sequence[object]], header: Sequence[str]) -> None:
    """Print a Markdown table, ready for docs/performance.md."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("| " + " | ".join("---" for _ in header) + " |")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def rate_after(share: float, counts: Iterable[tuple[float, int]]) -> float:
    """Return items a second of what `Bench.counts` found, but for the first `share` of the records."""
    found = sorted(counts)
    skip = int(len(found) * share)
    took = found[-1][0] - found[skip][0]
    return sum(items for _, items in found[skip + 1 :]) / took if took else 0.0


class Bench:
    """A broker, the topics, and workers on demand."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.names = TopicNames(settings.topics.domain)
        self.folder = folder

    @contextmanager
    def worker(
        self, stages: str = "embed,detect", arguments: Sequence[str] = (), **environment: str
    ) -> Iterator[ChildProcess]:
        """Run a worker inside the context; `arguments` are more of its command line."""
        env = os.environ | {
            "FARPOINT_KAFKA__BOOTSTRAP_SERVERS": self.settings.kafka.bootstrap_servers,
            "FARPOINT_TOPICS__DOMAIN": self.settings.topics.domain,
            "FARPOINT_HTTP__PORT": "0",
            **environment,
        }
        with ChildProcess(
            [sys.executable, "-m", "farpoint.cli", "worker", "--stages", stages, *arguments],
            name="the worker",
            error_output=self.folder / "worker.log",
            env=env,
        ) as child:
            child.wait_for_line("worker ready", 120)
            yield child

    def processor_seconds(self) -> tuple[float, float]:
        """Return the seconds of processor time that the running workers and the broker have taken."""
        workers = broker = 0.0
        mine = psutil.Process().children(recursive=True)
        for process in mine:
            try:
                command, times = process.cmdline(), process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds = times.user + times.system
            if "farpoint.cli" in command and "worker" in command and "-I" not in command:
                workers += seconds
            elif command and command[0].endswith("java"):
                broker += seconds
        return workers, broker

    def worker_rss(self) -> float:
        """Return the resident memory of the running worker, MiB."""
        rss = 0.0
        for process in psutil.process_iter(["cmdline", "memory_info"]):
            command = process.info["cmdline"] or []
            if "farpoint.cli" in command and "worker" in command and "-I" not in command:
                rss = max(rss, process.info["memory_info"].rss / 2**20)
        return rss

    def wait_for_records(self, topic: str, count: int) -> float:
        """Wait until a topic has that many records, without reading them; return the worker's largest memory, MiB."""
        rss = 0.0
        reader = self.reader(topic)
        deadline = time.monotonic() + 600
        while sum(reader.end_offsets(reader.assignment()).values()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError("the benchmark got no further")
            rss = max(rss, self.worker_rss())
            time.sleep(0.5)
        reader.close()
        return rss

    def records(self, topic: str) -> Iterator[Any]:
        """Read all records that a topic has now."""
        reader = self.reader(topic)
        ends = reader.end_offsets(reader.assignment())
        while any(reader.position(part) < end for part, end in ends.items()):
            for records in reader.poll(timeout_ms=500).values():
                yield from records
        reader.close()

    def publish(self, pictures: Sequence[bytes], count: int, *, evenly: bool = False) -> None:
        """Publish `count` frames of several sources; `evenly`: as many to each partition."""
        producer = self.producer()
        for number, data in enumerate(islice(cycle(pictures), count)):
            source = number % SOURCES
            partition = source % self.settings.topics.partitions if evenly else None
            producer.send(self.names.frames, key=b"cam-%d" % source, value=data, partition=partition)
            if number % 500 == 0:
                producer.flush()
        producer.flush()
        producer.close()

    def counts(
        self, topic: str, count: int, items_of: Callable[[bytes], Sequence[Any]]
    ) -> Iterator[list[tuple[float, int]]]:
        """Look twice a second until a topic's records hold `count` items; yield seconds and items of each so far."""
        # The records' timestamps tell the time: who looks often only takes the worker's cores away.
        reader = self.reader(topic, wait_ms=500)
        found: list[tuple[float, int]] = []
        deadline = time.monotonic() + 300
        while sum(items for _, items in found) < count:
            if time.monotonic() > deadline:
                raise TimeoutError("the worker got no further")
            time.sleep(0.5)
            for records in reader.poll(timeout_ms=500).values():
                found += [(record.timestamp / 1000, len(items_of(record.value))) for record in records]
            yield found
        reader.close()

    def reader_at_end(self, topic: str) -> kafka.KafkaConsumer:
        """Read a topic from now on; all that comes must be taken at once."""
        # Then no fetch leaves a partition out, and the broker may hold each for long.
        reader = self.reader(topic, wait_ms=500)
        reader.seek_to_end()
        for part in reader.assignment():
            reader.position(part)
        return reader

    def reader(self, topic: str, wait_ms: int = 5) -> kafka.KafkaConsumer:
        """Read a topic from its beginning, with no group; ask the broker again every `wait_ms` while nothing comes."""
        # A fetch under way holds back what comes for partitions that it leaves out (see farpoint/faust_app.py).
        consumer = kafka_clients.consumer(
            self.settings.kafka, auto_offset_reset="earliest", max_poll_records=5000, fetch_max_wait_ms=wait_ms
        )
        consumer.assign([kafka.TopicPartition(topic, number) for number in range(self.settings.topics.partitions)])
        return consumer

    def quick_producer(self) -> kafka.KafkaProducer:
        """Produce each record at once."""
        return kafka_clients.producer(
            self.settings.kafka, max_request_size=self.settings.media.max_record_bytes, linger_ms=0
        )

    def producer(self) -> kafka.KafkaProducer:
        """Produce in large batches."""
        return kafka_clients.producer(
            self.settings.kafka, max_request_size=self.settings.media.max_record_bytes, batch_size=2**20, linger_ms=20
        )


@contextmanager
def bench(domain: str) -> Iterator[Bench]:
    """Start a broker with empty topics."""
    with tempfile.TemporaryDirectory(prefix="farpoint-bench-") as name:
        folder = Path(name)
        [port] = free_ports(1)
        base = Settings()
        settings = base.model_copy(
            update={
                "kafka": type(base.kafka)(bootstrap_servers=f"127.0.0.1:{port}"),
                "topics": base.topics.model_copy(update={"domain": domain}),
            }
        )
        with KafkaLauncher(folder / "kafka", port=port):
            admin = kafka_clients.admin(settings.kafka)
            apply_topics(admin, topics_table(settings.topics, settings.media))
            admin.close()
            yield Bench(settings, folder)
