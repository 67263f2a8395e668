"""One look at everything a deployment needs, each thing for itself: what fails does not hide what else does."""

import errno
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import kafka

from farpoint.embedders import EmbedderError, open_and_try_embedder
from farpoint.errors import FarpointError
from farpoint.kafka_clients import connection, kafka_errors
from farpoint.kafka_rights import missing_rights, needed_rights
from farpoint.settings import CONFIG_VARIABLE, HttpSettings, KafkaSettings, Settings, settings_table
from farpoint.topic_admin import topic_statuses
from farpoint.topics import TopicNames, topics_table
from farpoint_models.card import ModelCardError, load_card, load_model_file

# A person waits for the answer; a broker that takes longer is not fit for work either.
_KAFKA_MS = 5_000
_STAGES = ("embed", "detect")
_HTTP_SECONDS = 3.0


@dataclass(frozen=True)
class Finding:
    """What one check found; `remedy` says what to do where it is not as it should be."""

    check: str
    ok: bool
    message: str
    remedy: str | None = None


class _NotAsItShouldBeError(Exception):
    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def check_deployment(settings: Settings) -> Iterator[Finding]:
    """Look at the settings, Kafka, its topics, the model, the execution provider and the HTTP port, one by one."""
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("settings", _settings),
        ("kafka", _kafka),
        ("topics", _topics),
        ("model", _model),
        ("execution provider", _execution_provider),
        ("http port", _http_port),
    ]
    failed: set[str] = set()
    for name, look in checks:
        if name == "topics" and "kafka" in failed:  # no second wait for the same brokers
            yield Finding(name, False, "cannot be looked at without Kafka", "see the check of Kafka")
            continue
        try:
            yield Finding(name, True, look(settings))
        except _NotAsItShouldBeError as error:
            failed.add(name)
            yield Finding(name, False, error.message, error.remedy)
        except FarpointError as error:
            failed.add(name)
            yield Finding(name, False, str(error), "see FARPOINT_KAFKA__* in `farpoint settings`")


def _settings(settings: Settings) -> str:
    defaults = Settings.model_construct().model_dump()
    changed = sum(
        value != defaults[group][name]
        for group, members in settings.model_dump().items()
        for name, value in members.items()
    )
    file = os.environ.get(CONFIG_VARIABLE)
    return f"{len(settings_table())} settings, {changed} of them not the default; file: {file or 'none'}"


def _admin(settings: KafkaSettings) -> kafka.KafkaAdminClient:
    with kafka_errors(settings):
        options = connection(settings) | {"bootstrap_timeout_ms": _KAFKA_MS, "request_timeout_ms": _KAFKA_MS}
        return kafka.KafkaAdminClient(**options, client_id="farpoint-tools")


def _kafka(settings: Settings) -> str:
    with _admin(settings.kafka) as client, kafka_errors(settings.kafka):
        brokers = client.describe_cluster()["brokers"]
    there = ", ".join(f"{broker['host']}:{broker['port']}" for broker in brokers)
    return f"{len(brokers)} broker{'s' if len(brokers) != 1 else ''}: {there}"


def _topics(settings: Settings) -> str:
    table = topics_table(settings.topics, settings.media)
    lacking: list[str] = []
    with _admin(settings.kafka) as client, kafka_errors(settings.kafka):
        statuses = topic_statuses(client, table)
        missing = [status.wanted.name for status in statuses if status.found is None]
        if not missing:
            rights = needed_rights(TopicNames(settings.topics.domain), _STAGES)
            lacking = missing_rights(client, rights, [settings.kafka.group_of(stage) for stage in _STAGES])
    differ = [status for status in statuses if status.differences]
    if missing:
        raise _NotAsItShouldBeError(f"missing: {', '.join(missing)}", "farpoint topics apply")
    if lacking:
        raise _NotAsItShouldBeError(f"rights missing: {', '.join(lacking)}", "see docs/security.md")
    if differ:
        raise _NotAsItShouldBeError(
            f"{len(differ)} not as they should be, the first is {differ[0].wanted.name}: "
            f"{'; '.join(differ[0].differences)}",
            "see `farpoint topics show`, then farpoint topics apply",
        )
    return f"all {len(table)} as they should be, {settings.topics.partitions} partitions each"


def _model(settings: Settings) -> str:
    folder = settings.embedder.model
    try:
        card = load_card(folder)
        for file in card.files.values():
            load_model_file(folder, file)
    except ModelCardError as error:
        raise _NotAsItShouldBeError(str(error), "set FARPOINT_EMBEDDER__MODEL to the folder of a model") from None
    unproven = [file.file for file in card.files.values() if file.sha256 is None]
    proven = f"no sha256 for {', '.join(unproven)}" if unproven else "sha256 of every file as in its card"
    return f"{card.id}, {card.dimension} numbers a vector; {proven}"


def _execution_provider(settings: Settings) -> str:
    try:
        embedder, cosine = open_and_try_embedder(settings.embedder)
    except EmbedderError as error:
        raise _NotAsItShouldBeError(str(error), error.remedy) from None
    provider = embedder.provider
    return (
        f"{provider.name}, asked for: {provider.requested}; {provider.note}; "
        f"{embedder.file.file}: {provider.placement}; canary {cosine:.4f}"
    )


def _http_port(settings: Settings) -> str:
    http = settings.http
    if http.port == 0:
        return "any free one"
    family, *_, address = _resolved(http)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and _worker_lives(http):
                return f"{http.host}:{http.port} is a live worker's"
            raise _NotAsItShouldBeError(
                f"{http.host}:{http.port} cannot be listened on: {error.strerror}",
                "stop what listens there, or set FARPOINT_HTTP__HOST and FARPOINT_HTTP__PORT",
            ) from None
    return f"{http.host}:{http.port} is free"


def _resolved(http: HttpSettings) -> tuple[int, int, int, str, tuple[str, int]]:
    try:
        found: list[tuple[int, int, int, str, tuple[str, int]]] = list(
            socket.getaddrinfo(http.host, http.port, type=socket.SOCK_STREAM)  # type: ignore[arg-type]
        )
    except OSError as error:
        raise _NotAsItShouldBeError(
            f"there is no address {http.host}: {error.strerror}", "set FARPOINT_HTTP__HOST"
        ) from None
    return found[0]


def _worker_lives(http: HttpSettings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(http.host, http.host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{shown}:{http.port}/livez", timeout=_HTTP_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.HTTPError):
        return False
