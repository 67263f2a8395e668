"""A Kafka that asks who one is: what lets the tools and the worker in, and how each refusal is told."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kafka
import numpy as np
import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType
from kafka.structs import OffsetAndMetadata
from tests.integration.secured_kafka import LIMITED, PASSWORD, SecuredKafka, secured_kafka
from tests.integration.worker_process import StartWorker, Topics, unique_name, wait_for
from tests.pictures import jpeg
from tests.vectors import as_json, outlier

__all__ = ["secured_kafka"]

PAGE = Path(__file__).parents[2] / "docs/security.md"

# door, changed settings, what the one line must say
REFUSALS = {
    "wrong password": (
        "SCRAM",
        {"SASL_PASSWORD": "pa55-that-is-wrong"},
        r"refuses the user 'farpoint' or the password",
    ),
    "expired certificate": ("EXPIRED", {}, r"certificate has expired; it is the broker's"),
    "foreign authority": ("FOREIGN", {}, r"unable to get local issuer certificate; set FARPOINT_KAFKA__SSL_CAFILE"),
    "other host": ("NAMELESS", {}, r"not valid for '127\.0\.0\.1'; name the broker as its certificate does"),
    "plain to TLS": ("TLS", {"SECURITY_PROTOCOL": "PLAINTEXT"}, r"speaks TLS on this port: set \S+PROTOCOL to SSL$"),
    "TLS to plain": ("PLAIN", {"SECURITY_PROTOCOL": "SSL"}, r"does not speak TLS on this port: .* to PLAINTEXT$"),
}
MORE_REFUSALS = {
    "unknown user": ("SCRAM", {"SASL_USERNAME": "nobody"}, r"refuses the user 'nobody' or the password"),
    "other mechanism": ("SCRAM", {"SASL_MECHANISM": "SCRAM-SHA-256"}, r"does not know SCRAM-SHA-256"),
    "user where none is asked for": (
        "TLS",
        {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "u", "SASL_PASSWORD": PASSWORD},
        r"does not ask for a user: set \S+PROTOCOL to SSL",
    ),
    "no user where one is asked for": ("SCRAM", {"SECURITY_PROTOCOL": "SSL"}, r"set \S+PROTOCOL to SASL_SSL"),
    "password in the clear": ("SCRAM", {"SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, r"speaks TLS .* to SASL_SSL$"),
    "no authority file": ("TLS", {"SSL_CAFILE": "/nonexistent.pem"}, r"TLS to Kafka: .*FARPOINT_KAFKA__SSL_CAFILE"),
}
COMMANDS = ("check", "worker", "publish")


def farpoint(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")}
    command = [sys.executable, "-m", "farpoint.cli", *arguments]
    defaults = {"FARPOINT_HTTP__PORT": "0"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean | defaults | env, check=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a picture's file."""
    path = tmp_path_factory.mktemp("picture") / "one.jpg"
    path.write_bytes(jpeg(np.random.default_rng(1)))
    return path


@pytest.fixture(scope="module")
def refused(secured_kafka: SecuredKafka, picture: Path) -> dict[tuple[str, str], subprocess.CompletedProcess[str]]:
    """Run all commands that will be refused, several at a time."""
    arguments = {"publish": ["publish", str(picture)], "topics": ["topics", "show"]}
    runs = [(name, command) for name in REFUSALS for command in COMMANDS]
    runs += [(name, "topics") for name in MORE_REFUSALS]

    def run(case: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        name, command = case
        door, changes, _ = (REFUSALS | MORE_REFUSALS)[name]
        return farpoint(*arguments.get(command, [command]), **secured_kafka.environment(door, **changes))

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(runs, pool.map(run, runs), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_is_one_clear_line(refused: dict[Any, Any], name: str, command: str) -> None:
    """Exit 1 and a line that says what refuses us and what to do; no stack trace, no password."""
    done = refused[name, command]
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout if command == "check" else done.stderr.splitlines()[-1]
    (line,) = (line for line in told.splitlines() if line.startswith(("farpoint: ", "FAILED  kafka")))
    assert re.search(REFUSALS[name][2], line)
    for text in (done.stdout, done.stderr):
        assert "Traceback" not in text
        assert PASSWORD not in text
        assert "pa55-that-is-wrong" not in text


@pytest.mark.parametrize("name", MORE_REFUSALS)
def test_what_else_does_not_fit(refused: dict[Any, Any], name: str) -> None:
    """Users, mechanisms, protocols and files that do not fit the broker are told as clearly."""
    done = refused[name, "topics"]
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(MORE_REFUSALS[name][2], line), line


def test_a_client_certificate_lets_in(secured_kafka: SecuredKafka) -> None:
    """With it a mutual TLS door opens; without it the line says which settings are missing."""
    domain = {"FARPOINT_TOPICS__DOMAIN": unique_name("t"), "FARPOINT_TOPICS__PARTITIONS": "1"}
    env = secured_kafka.environment("MUTUAL") | domain
    assert farpoint("topics", "apply", **env).returncode == 0
    found = json.loads(farpoint("check", "--json", **env).stdout)
    assert all(check["ok"] for check in found["checks"]), found
    none = {name: value for name, value in env.items() if name not in _CLIENT_CERTIFICATE}
    done = farpoint("topics", "show", **none)
    assert done.returncode == 1
    assert "FARPOINT_KAFKA__SSL_CERTFILE" in done.stderr
    assert done.stderr.count("\n") == 1


_CLIENT_CERTIFICATE = {"FARPOINT_KAFKA__SSL_CERTFILE", "FARPOINT_KAFKA__SSL_KEYFILE"}


def rights_table() -> list[tuple[str, ResourceType, str, list[ACLOperation]]]:
    """Read the rights of docs/security.md: who, kind of resource, prefix, operations."""
    rows = re.findall(
        r"^\| (.+?) \| (topic|group) \| `(\S+)\*` \| ([A-Za-z, ]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) >= 4
    return [
        (who, ResourceType[kind.upper()], prefix, [ACLOperation[_snake(name)] for name in operations.split(", ")])
        for who, kind, prefix, operations in rows
    ]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def grant(secured: SecuredKafka, user: str, who: str, domain: str) -> None:
    """Give a user the rights that the page lists for somebody, in a domain of the test's own."""
    lists = [
        ACL(
            f"User:{user}",
            "*",
            operation,
            ACLPermissionType.ALLOW,
            ResourcePattern(
                kind,
                prefix.replace("vision.", f"{domain}.").replace("farpoint-", f"{domain}-"),
                ACLResourcePatternType.PREFIXED,
            ),
        )
        for row, kind, prefix, operations in rights_table()
        if row == who
        for operation in operations
    ]
    assert lists
    with kafka.KafkaAdminClient(bootstrap_servers=secured.address("PLAIN")) as admin:
        assert not admin.create_acls(lists)["failed"]


@pytest.fixture(scope="module")
def world(secured_kafka: SecuredKafka) -> Iterator[Topics]:
    """Make topics, looked at through the plain door."""
    with Topics(secured_kafka.address("PLAIN"), unique_name("m")) as topics:
        yield topics


def test_missing_rights_are_named_before_anything_starts(
    secured_kafka: SecuredKafka, world: Topics, start_worker: StartWorker
) -> None:
    """A user without rights is told each right; a client alone would wait for its group for ever."""
    env = secured_kafka.environment("SCRAM", SASL_USERNAME=LIMITED)
    with kafka.KafkaAdminClient(bootstrap_servers=secured_kafka.address("PLAIN")) as admin:
        pattern = ResourcePattern(ResourceType.TOPIC, f"{world.domain}.", ACLResourcePatternType.PREFIXED)
        operations = (ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS, ACLOperation.READ)
        lists = [ACL(f"User:{LIMITED}", "*", one, ACLPermissionType.ALLOW, pattern) for one in operations]
        admin.create_acls(lists)
    worker = start_worker(world.domain, ready=False, **env)
    assert worker.wait(60) == 1
    assert worker.last_line.startswith("farpoint: missing rights in Kafka: ")
    assert f"WRITE on topic {world.names.assignments}" in worker.last_line
    assert f"READ on group {world.domain}-embed" in worker.last_line
    assert f"READ on topic {world.names.frames}" not in worker.last_line
    assert "Traceback" not in worker.log


def test_the_worker_needs_no_more_than_the_page_lists(
    secured_kafka: SecuredKafka, world: Topics, start_worker: StartWorker, picture: Path
) -> None:
    """By SASL and TLS, with the page's rights alone: pictures and vectors in, decisions out, no secret in any log."""
    for who in ("worker", "publisher", "reader"):
        grant(secured_kafka, LIMITED, who, world.domain)
    env = secured_kafka.environment("SCRAM", SASL_USERNAME=LIMITED) | {
        "FARPOINT_LOG__LEVEL": "debug",
        "FARPOINT_HTTP__TOKEN": "a-token-of-the-test",
    }
    worker = start_worker(world.domain, **env)
    mine = env | {"FARPOINT_TOPICS__DOMAIN": world.domain}
    published = farpoint("publish", str(picture), **mine)
    assert published.returncode == 0, published.stderr
    with kafka.KafkaProducer(bootstrap_servers=world.bootstrap, compression_type="zstd") as zipped:
        zipped.send(world.names.embeddings, key=b"hand", value=as_json(outlier())).get(30)
    wait_for(lambda: len(world.decided()) == 2, "both decisions")
    assert farpoint("alerts", **mine).returncode == 0
    status, _, _ = worker.get("/metrics")
    assert status == 401
    assert worker.stop() == 0
    for text in (worker.log, published.stdout, published.stderr, farpoint("settings", **mine).stdout):
        assert PASSWORD not in text
        assert "a-token-of-the-test" not in text


def test_a_decompression_bomb_stops_the_worker_in_one_line(
    secured_kafka: SecuredKafka, start_worker: StartWorker
) -> None:
    """Kilobytes that unpack to more than the bound name their place; passed over as the page says, the rest goes on."""
    env = {"FARPOINT_MEDIA__MAX_RECORD_BYTES": "2097152"}
    with Topics(secured_kafka.address("PLAIN"), unique_name("b")) as topics:
        bomb = kafka.KafkaProducer(bootstrap_servers=topics.bootstrap, compression_type="gzip", max_request_size=2**25)
        with bomb:
            place = bomb.send(topics.names.embeddings, key=b"d", value=bytes(2**24 + 1)).get(30)
        topics.publish_all(topics.names.embeddings, [("d", as_json(outlier()), ())])
        worker = start_worker(topics.domain, stages="detect", ready=False, **_address(topics), **env)
        assert worker.wait(60) == 1
        where = f"{place.topic} partition {place.partition} offset {place.offset}"
        assert worker.last_line.startswith(f"farpoint: {where}: a compressed batch that unpacks to more than 16777216")
        with kafka.KafkaAdminClient(bootstrap_servers=topics.bootstrap) as admin:
            admin.alter_group_offsets(
                f"{topics.domain}-detect", {place.topic_partition: OffsetAndMetadata(place.offset + 1, "", -1)}
            )
        start_worker(topics.domain, stages="detect", **_address(topics), **env)
        wait_for(lambda: len(topics.decided("d")) == 1, "the record behind it")


def _address(topics: Topics) -> dict[str, str]:
    return {"FARPOINT_KAFKA__BOOTSTRAP_SERVERS": topics.bootstrap}
