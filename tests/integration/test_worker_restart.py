"""Workers that are stopped, killed and started again, in the middle of the work."""

import json
from collections import defaultdict

import numpy as np
import pytest
from tests.integration.streams import Decided, Publishing, Stream, alerted, decided, decided_vectors
from tests.integration.worker_process import StartWorker, Topics, wait_for
from tests.pictures import jpeg

STREAM = Stream(["north", "south", "west"], seed=1)
SECONDS = 6.0


@pytest.fixture(scope="module")
def uninterrupted(shared_topics: Topics, start_shared_worker: StartWorker) -> Decided:
    """Return what one worker decides that nobody disturbs."""
    worker = start_shared_worker(shared_topics.domain, stages="detect")
    with Publishing(shared_topics, STREAM, seconds=0.1):
        wait_for(lambda: decided_vectors(shared_topics) == STREAM.vectors, "all decisions")
    assert worker.stop() == 0
    numbers, repeated = decided(shared_topics)
    assert repeated == 0
    return numbers


def check_committed(topics: Topics, stage: str, inputs: list[str]) -> None:
    """Check that a stage's group has committed all there is."""
    ends = {at: end for at, end in topics.ends(inputs).items() if end}
    committed = topics.committed(stage, inputs)
    assert {at: committed[at] for at in ends} == ends


def test_a_worker_decides_what_the_fold_alone_decides(uninterrupted: Decided) -> None:
    """State is a function of the log: the bare fold over the same records gives the same numbers, bit for bit."""
    assert uninterrupted == STREAM.expected()


def test_sigterm_and_restart(topics: Topics, start_worker: StartWorker, uninterrupted: Decided) -> None:
    """Stopped in the middle and started again: nothing lost, nothing decided twice, every number as if undisturbed."""
    with Publishing(topics, STREAM, SECONDS):
        first = start_worker(topics.domain, stages="detect")
        wait_for(lambda: decided_vectors(topics) >= STREAM.vectors // 3, "a third of the decisions")
        assert first.stop() == 0
        so_far = decided_vectors(topics)
        assert so_far < STREAM.vectors, "it was stopped too late to prove anything"
        second = start_worker(topics.domain, stages="detect")
        wait_for(lambda: decided_vectors(topics) == STREAM.vectors, "all decisions")
    assert second.stop() == 0
    numbers, repeated = decided(topics)
    assert repeated == 0
    assert numbers == uninterrupted
    assert alerted(topics) == set(topics.alerts()) != set()
    check_committed(topics, "detect", [topics.names.embeddings])


def test_kill_9_and_restart(topics: Topics, start_worker: StartWorker, uninterrupted: Decided) -> None:
    """Killed in the middle and started again: every vector decided, what is done twice is the same byte for byte."""
    with Publishing(topics, STREAM, 2 * SECONDS):
        # After its first checkpoint it writes no other: what it commits beyond that would be lost.
        first = start_worker(topics.domain, stages="detect", FARPOINT_DETECTOR__CHECKPOINT_SECONDS="600")
        wait_for(lambda: max(topics.committed("detect", [topics.names.embeddings]).values()) > 0, "the first commit")
        assert first.kill() == 128 + 9
        assert 0 < decided_vectors(topics) < STREAM.vectors, "it was killed too late to prove anything"
        second = start_worker(topics.domain, stages="detect")
        wait_for(lambda: decided_vectors(topics) == STREAM.vectors, "all decisions")
    assert second.stop() == 0
    numbers, _ = decided(topics)
    assert numbers == uninterrupted
    assert alerted(topics) == set(topics.alerts()) != set()
    check_committed(topics, "detect", [topics.names.embeddings])


def test_cluster_ids_go_on_after_a_restart(shared_topics: Topics, uninterrupted: Decided) -> None:
    """Cluster ids are never used twice: each is born once."""
    born: dict[str, list[int]] = defaultdict(list)
    for record in shared_topics.records(shared_topics.names.cluster_events):
        event = json.loads(record.value)
        if event["type"] in ("birth", "split"):
            born[event["detector"]].append(event["cluster_id"])
    assert all(len(ids) == len(set(ids)) for ids in born.values())
    for detector, decisions in uninterrupted.items():
        assert {cluster for _, cluster, *_ in decisions} - {None}, detector


def test_kill_9_among_frames(topics: Topics, start_worker: StartWorker) -> None:
    """Every frame is decided, and about one vector only, also where a frame was embedded a second time."""
    rng = np.random.default_rng(2)
    frames = 600
    names = [f"{source}/{index}" for index in range(frames // 4) for source in ("a", "b", "c", "d")]
    pictures = [jpeg(rng) for _ in range(20)]
    first = start_worker(topics.domain)
    topics.publish_all(
        topics.names.frames,
        [
            (name.partition("/")[0], pictures[index % 20], [("ce_id", name.encode())])
            for index, name in enumerate(names)
        ],
    )
    inputs = [topics.names.images, topics.names.frames]
    wait_for(lambda: max(topics.committed("embed", inputs).values()) > 0, "the first commit")
    assert first.kill() == 128 + 9
    assert len(topics.decided()) < frames, "it was killed too late to prove anything"
    second = start_worker(topics.domain)
    wait_for(lambda: set(topics.decided()) == set(names), "all decisions")
    assert second.stop() == 0
    about: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for batch, item in topics.decisions():
        about[item["id"]].add((batch["embeddings"]["offset"], json.dumps(item)))
    assert all(len(found) == 1 for found in about.values())
    check_committed(topics, "embed", inputs)
    check_committed(topics, "detect", [topics.names.embeddings])
