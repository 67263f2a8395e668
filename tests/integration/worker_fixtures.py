"""Topics and workers of a test's or a module's own, as fixtures."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.worker_process import StartWorker, Topics, WorkerProcess, unique_name


def _starter(stack: ExitStack, bootstrap: str, folder: Path) -> StartWorker:
    numbers = itertools.count(1)

    def start(
        domain: str, *arguments: str, stages: str = "embed,detect", ready: bool = True, **environment: str
    ) -> WorkerProcess:
        at = folder / f"worker-{next(numbers)}"
        worker = stack.enter_context(WorkerProcess(bootstrap, domain, at, stages, environment, arguments))
        if ready:
            worker.wait_until_ready()
        return worker

    return start


@pytest.fixture
def start_worker(kafka: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker of the test's own: `start_worker(domain, *arguments, stages=..., ready=True, **environment)`."""
    with ExitStack() as stack:
        yield _starter(stack, kafka, tmp_path)


@pytest.fixture(scope="module")
def start_shared_worker(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWorker]:
    """Start a worker that all tests of a module use."""
    with ExitStack() as stack:
        yield _starter(stack, kafka, tmp_path_factory.mktemp("workers"))


@pytest.fixture
def topics(kafka: str) -> Iterator[Topics]:
    """Make topics of the test's own."""
    made = Topics(kafka, unique_name("t"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_topics(kafka: str) -> Iterator[Topics]:
    """Make topics that all tests of a module use."""
    made = Topics(kafka, unique_name("m"))
    yield made
    made.close()
