"""Programs that tests/deploy/install-programs builds: found here, or the test fails with how to get them."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".cache/deploy"


def program(name: str) -> str:
    """Return a program's path; the test fails, and does not skip, where it is missing."""
    found = shutil.which(name, path=f"{INSTALLED / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.fail(f"there is no {name}: tests/deploy/install-programs builds it (Go and npm)", pytrace=False)
    return found


def node_environment() -> dict[str, str]:
    """Return an environment in which Node finds the packages."""
    if not (INSTALLED / "node_modules").is_dir():
        pytest.fail("Node's packages are missing: tests/deploy/install-programs fetches them", pytrace=False)
    return os.environ | {"NODE_PATH": str(INSTALLED / "node_modules")}
