"""What must be on the topics after a run, found out without anything that was disturbed.

For everything: a refold of the embeddings log that was written, by the detect stage itself with neither Kafka nor
interruption. For what was published as vectors besides: an undisturbed worker over the same records.
"""

import asyncio
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from farpoint.checkpoint import Checkpoint, load_checkpoints, read_checkpoint
from farpoint.detect_stage import DetectStage
from farpoint.metrics import Metrics
from farpoint.records import IncomingRecord, OutgoingRecord
from farpoint.settings import KafkaSettings, Settings, TopicsSettings
from farpoint.wire import DLQ_HEADERS, Headers, RecordRef, read_embeddings
from tests.chaos.publishing import Place
from tests.chaos.script import DETECTORS, PER_RECORD, Scripted
from tests.integration.worker_process import Topics
from tests.unit.service.stage_kit import FakeClock, NotedDelivery

STATE = ("snapshot", "next_offset", "media_high_water", "clusters", "model")
_SHOWN = 5


class Problems(list[str]):
    """What is not as it must be."""

    def compare(self, what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
        """Note which keys are missing, too many or of another value."""
        for name, keys in (
            ("missing", expected.keys() - found.keys()),
            ("too many", found.keys() - expected.keys()),
            ("different", {key for key in expected.keys() & found.keys() if expected[key] != found[key]}),
        ):
            if keys:
                self.append(f"{what}: {len(keys)} {name}, such as {sorted(keys, key=str)[:_SHOWN]}")


def check(topics: Topics, accepted: Mapping[Place, Scripted]) -> Problems:
    """Compare what the topics hold with the records that were accepted and with a refold of the embeddings log."""
    problems = Problems()
    refold = _refold(topics)
    names = topics.names
    _check_inputs(problems, topics, accepted)
    for topic, key in ((names.assignments, _embeddings_place), (names.alerts, _id), (names.cluster_events, _id)):
        expected = {key(record.value or b""): record.value for record in refold.to(topic)}
        problems.compare(topic, _each_once(problems, topics.records(topic), key), expected)
    letters = {
        _origin(record.headers): _as_written(record) for record in refold.to(names.dead_letters(names.embeddings))
    }
    problems.compare("dead letters of embeddings", _letters(problems, topics, names.embeddings), letters)
    newest = _newest(read_checkpoint(record.value or b"") for record in refold.to(names.detector_state))
    problems.compare("final state", _states(checkpoints(topics)), _states(newest))
    return problems


def check_vectors(calm: Topics, topics: Topics) -> Problems:
    """Compare what was decided about the vectors with what an undisturbed worker decides about the same records."""
    problems = Problems()
    for what, of in (("decisions", _vector_decisions), ("alerts", _vector_alerts)):
        problems.compare(f"{what} beside the undisturbed run's", of(topics), of(calm))
    found, expected = checkpoints(topics), checkpoints(calm)
    problems.compare(
        "final state beside the undisturbed run's",
        {key: checkpoint.snapshot for key, checkpoint in found.items() if key[1] in DETECTORS},
        {key: checkpoint.snapshot for key, checkpoint in expected.items()},
    )
    return problems


def checkpoints(topics: Topics) -> dict[tuple[int, str], Checkpoint]:
    """Return the state that a restart would go on from."""
    return load_checkpoints(KafkaSettings(bootstrap_servers=topics.bootstrap), topics.names.detector_state)


def is_from_media(record: Any) -> bool:
    """Say whether a record of the embeddings topic was written by the embed stage."""
    return dict(record.headers).get("ce_type") == b"farpoint.embeddings.v1"


def _check_inputs(problems: Problems, topics: Topics, accepted: Mapping[Place, Scripted]) -> None:
    """Every accepted record lies where the broker said; every picture is embedded, or a dead letter, and decided once.

    A publisher may repeat itself when a broker dies (at least once): what counts is the log.
    """
    names = topics.names
    logs = {(one.topic, one.partition, one.offset): one for topic in names.inputs for one in topics.records(topic)}
    problems.compare(
        "accepted records",
        {place: logs[place].value for place in accepted if place in logs},
        {place: one.value for place, one in accepted.items()},
    )
    script: dict[tuple[str, bytes, Headers], Scripted] = {
        (one.dataset, one.value, one.headers): one for one in accepted.values()
    }
    good: dict[Place, str] = {}
    bad: dict[Place, tuple[bytes | None, bytes]] = {}
    ids: Counter[str] = Counter()
    for place, record in logs.items():
        if is_from_media(record):
            continue
        dataset = next(name for name in ("frames", "images", "embeddings") if getattr(names, name) == record.topic)
        one = script[dataset, record.value, tuple(record.headers)]
        if dataset == "embeddings":
            ids.update(f"vector-{one.number}-{row}" for row in range(PER_RECORD) if one.good)
        elif one.good:
            good[place] = f"picture-{one.number}"
            ids[good[place]] += 1
        else:
            bad[place] = (record.key, record.value)
    problems.compare("embedded pictures", _embedded(topics), good)
    decided: dict[str, set[str]] = defaultdict(set)
    for decisions, decision in topics.decisions():
        decided[decision["id"]].add(json.dumps([decisions["embeddings"], decision]))
    problems.compare("decisions", {name: len(found) for name, found in decided.items()}, ids)
    for topic in names.media:
        problems.compare(
            f"dead letters of {topic}",
            {at: (key, value) for at, (key, value, _) in _letters(problems, topics, topic).items()},
            {place: pair for place, pair in bad.items() if place[0] == topic},
        )


def _embedded(topics: Topics) -> dict[Place, str]:
    found: dict[Place, str] = {}
    for record in topics.records(topics.names.embeddings):
        if is_from_media(record):
            ref = RecordRef(record.topic, record.partition, record.offset, record.timestamp)
            for item in read_embeddings(ref, record.key, record.value, record.headers).items:
                if item.media is not None:
                    found[item.media.topic, item.media.partition, item.media.offset] = item.id or ""
    return found


def _refold(topics: Topics) -> NotedDelivery:
    settings = Settings(topics=TopicsSettings(domain=topics.domain))
    delivery = NotedDelivery()

    async def fold() -> None:
        stage = DetectStage(settings, delivery, Metrics(topics.names, ["detect"]), FakeClock())
        task = asyncio.create_task(stage.run())
        for record in sorted(topics.records(topics.names.embeddings), key=lambda one: (one.partition, one.offset)):
            ref = RecordRef(record.topic, record.partition, record.offset, record.timestamp)
            await stage.put(IncomingRecord(ref, record.key, record.value, record.headers))
        await stage.flush()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(fold())
    structlog.reset_defaults()
    return delivery


def _each_once(problems: Problems, records: Iterable[Any], key: Any) -> dict[Any, bytes]:
    """Return records by what names them; what was written twice must be the same twice."""
    found: dict[Any, bytes] = {}
    for record in records:
        name = key(record.value)
        if found.setdefault(name, record.value) != record.value:
            problems.append(f"{record.topic}: {name} came twice, and not the same")
    return found


def _letters(problems: Problems, topics: Topics, topic: str) -> dict[Place, tuple[bytes | None, bytes, list[Any]]]:
    found: dict[Place, tuple[bytes | None, bytes, list[Any]]] = {}
    for record in topics.records(topics.names.dead_letters(topic)):
        place, written = _origin(record.headers), _as_written(record)
        if found.setdefault(place, written) != written:
            problems.append(f"the dead letter of {place} came twice, and not the same")
    return found


def _origin(headers: Iterable[tuple[str, bytes]]) -> Place:
    named = {name: (value or b"").decode() for name, value in headers if name in DLQ_HEADERS}
    return named["dlq.topic"], int(named["dlq.partition"]), int(named["dlq.offset"])


def _as_written(record: Any | OutgoingRecord) -> tuple[bytes | None, bytes, list[Any]]:
    # The time of failing is the one thing that may differ.
    return record.key, record.value or b"", [header for header in record.headers if header[0] != "dlq.failed-at"]


def _embeddings_place(value: bytes) -> tuple[int, int]:
    at = json.loads(value)["embeddings"]
    return at["partition"], at["offset"]


def _id(value: bytes) -> str:
    return str(json.loads(value)["id"])


def _newest(all_of_them: Iterable[Checkpoint]) -> dict[tuple[int, str], Checkpoint]:
    newest: dict[tuple[int, str], Checkpoint] = {}
    for checkpoint in all_of_them:
        newest[checkpoint.partition, checkpoint.detector] = checkpoint
    return newest


def _states(newest: Mapping[tuple[int, str], Checkpoint]) -> dict[tuple[int, str], dict[str, Any]]:
    return {key: {name: getattr(one, name) for name in STATE} for key, one in newest.items()}


def _vector_decisions(topics: Topics) -> dict[str, Any]:
    return {name: item for name, item in topics.decided().items() if name.startswith("vector-")}


def _vector_alerts(topics: Topics) -> dict[str, Any]:
    alerts = {name: json.loads(record.value) for name, record in topics.alerts().items()}
    return {name: alert for name, alert in alerts.items() if name.startswith("vector-")}
