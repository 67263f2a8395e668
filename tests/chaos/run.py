"""One run: publish, disrupt, let it settle, compare."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.brokers import Brokers
from tests.chaos.disruptions import Disruptor
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import Problems, check, check_vectors, is_from_media
from tests.chaos.publishing import Publishing
from tests.integration.worker_process import Topics

SETTLE_SECONDS = 240.0
WARM_RECORDS = 200


@dataclass(frozen=True)
class Report:
    """What a run did and found."""

    disruptions: Counter[str]
    accepted: int
    decided: int
    repeated: int
    alerts: int
    dead_letters: int
    ended: list[str]
    problems: Problems
    seconds: float


def run(
    seed: int,
    disruptions: int,
    folder: Path,
    *,
    brokers: int = 3,
    records_a_second: float = 60.0,
    say: Callable[[str], None] = print,
) -> Report:
    """Publish a seeded script, disrupt workers and brokers, and compare what came out with what must."""
    began = time.monotonic()
    with Brokers(folder / "kafka", brokers) as cluster:
        topics = Topics(cluster.bootstrap, "chaos", replication_factor=brokers)
        with Fleet(cluster.bootstrap, "chaos", folder / "workers") as fleet:
            for _ in range(2):
                fleet.start()
            with Publishing(topics, seed, records_a_second) as publishing:
                disruptor = Disruptor(seed, cluster, fleet, tick=lambda: None)
                while publishing.count < WARM_RECORDS:
                    disruptor.wait(0.5)
                for number in range(1, disruptions + 1):
                    kind = disruptor.next()
                    say(f"{number:4d}/{disruptions}  {kind:32s} {publishing.count:7d} records published")
                accepted = publishing.accepted()
            say(f"settling: {len(accepted)} records were accepted")
            _settle(topics, disruptor)
            codes = fleet.stop_all()
        problems = check(topics, accepted)
        problems += [f"a worker that was asked to stop ended with exit code {code}" for code in codes if code]
        say("comparing with an undisturbed run over the same vectors")
        with Topics(cluster.bootstrap, "calm", replication_factor=brokers) as calm:
            _undisturbed(calm, topics, folder / "calm")
            problems += check_vectors(calm, topics)
        batches = topics.records(topics.names.assignments)
        report = Report(
            disruptions=disruptor.done,
            accepted=len(accepted),
            decided=len(topics.decided()),
            repeated=len(batches) - len({record.value for record in batches}),
            alerts=len(topics.alerts()),
            dead_letters=sum(len(topics.dead_letters(topic)) for topic in topics.names.inputs),
            ended=fleet.ended,
            problems=problems,
            seconds=time.monotonic() - began,
        )
        topics.close()
    return report


def _settle(topics: Topics, disruptor: Disruptor) -> None:
    """Wait until both groups have committed all there is."""
    names = topics.names
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (_is_done(topics, "embed", names.media) and _is_done(topics, "detect", [names.embeddings])):
        if time.monotonic() > deadline:
            raise TimeoutError("lag did not go back to zero")
        disruptor.wait(1.0)


def _is_done(topics: Topics, stage: str, inputs: Iterable[str]) -> bool:
    inputs = list(inputs)
    committed = topics.committed(stage, inputs)
    return all(committed[at] == end for at, end in topics.ends(inputs).items() if end)


def _undisturbed(calm: Topics, topics: Topics, folder: Path) -> None:
    """Publish the vectors of the disturbed log again, in its order and with its times, to a worker left in peace."""
    for record in sorted(topics.records(topics.names.embeddings), key=lambda one: (one.partition, one.offset)):
        if not is_from_media(record):
            calm.publish(
                calm.names.embeddings, record.value, record.key, record.headers, timestamp_ms=record.timestamp
            )  # fmt: skip
    calm.flush()
    with Fleet(calm.bootstrap, calm.domain, folder, stages="detect") as fleet:
        fleet.start().wait_until_ready()
        deadline = time.monotonic() + SETTLE_SECONDS
        while not _is_done(calm, "detect", [calm.names.embeddings]):
            if time.monotonic() > deadline:
                raise TimeoutError("the undisturbed run does not end")
            time.sleep(0.5)
        fleet.stop_all()
