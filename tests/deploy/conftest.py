"""Programs of the system that these tests need: each missing one is named with the command that installs it."""

import shutil
from collections.abc import Iterator

import pytest
from tests.deploy.observed import Observed, observed

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
}


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """Fail, not skip, where a program is missing."""
    missing = {program: package for program, package in PACKAGES.items() if not shutil.which(program)}
    if missing:
        lines = "\n".join(f"  {program}: apt-get install {package}" for program, package in missing.items())
        pytest.exit(f"`make test-deploy` needs programs that are not here:\n{lines}", returncode=1)


@pytest.fixture(scope="session")
def seen(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Run a worker under load, Prometheus and Alertmanager for all tests; who kills the worker starts another."""
    with observed(kafka, tmp_path_factory.mktemp("observed")) as running:
        yield running
