"""Programs of the system that these tests need: each missing one is named with the command that installs it."""

import shutil

import pytest

PACKAGES = {"promtool": "prometheus"}


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """Fail, not skip, where a program is missing."""
    missing = {program: package for program, package in PACKAGES.items() if not shutil.which(program)}
    if missing:
        lines = "\n".join(f"  {program}: apt-get install {package}" for program, package in missing.items())
        pytest.exit(f"`make test-deploy` needs programs that are not here:\n{lines}", returncode=1)
