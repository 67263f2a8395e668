"""A real broker with every kind of door: plain, TLS, TLS with a client certificate, SASL/SCRAM, and bad certificates.

One broker, a listener for each door. It is made of the same properties and the same storage tool as `farpoint kafka`,
which itself never listens on anything but the loopback and has no need of them.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from farpoint.child_process import ChildProcess
from farpoint.local_kafka.node import NodeAddress, properties
from farpoint.local_kafka.runtime import KafkaRuntime
from farpoint.ports import accepts, free_ports

HOST = "127.0.0.1"
USER, PASSWORD = "farpoint", "correct horse; battery=staple"
CLIENT = "farpoint-worker"
LIMITED = "limited"  # the same password, and no right to anything before it is given
CLUSTER_ID = "Farpoint-secured-test1"
READY_SECONDS = 90.0
DOORS = {
    "PLAIN": "PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "FOREIGN": "SSL",
    "NAMELESS": "SSL",
    "SCRAM": "SASL_SSL",
}
"""Listeners and their protocols; MUTUAL asks for a client certificate, three have one that nobody may trust."""


@dataclass
class SecuredKafka:
    """The broker's addresses by door, and the files that clients are given."""

    ports: Mapping[str, int]
    authority: Path
    client_certificate: Path
    client_key: Path

    def address(self, door: str) -> str:
        """Return HOST:PORT of a door."""
        return f"{HOST}:{self.ports[door]}"

    def environment(self, door: str, **changes: str) -> dict[str, str]:
        """Return the settings by which a client comes in at a door; `changes` are of the group `kafka`."""
        settings = {"BOOTSTRAP_SERVERS": self.address(door), "SECURITY_PROTOCOL": DOORS[door]}
        if "SSL" in DOORS[door]:
            settings["SSL_CAFILE"] = str(self.authority)
        if "SASL" in DOORS[door]:
            settings |= {"SASL_USERNAME": USER, "SASL_PASSWORD": PASSWORD}
        if door == "MUTUAL":
            settings |= {"SSL_CERTFILE": str(self.client_certificate), "SSL_KEYFILE": str(self.client_key)}
        return {f"FARPOINT_KAFKA__{name.upper()}": value for name, value in (settings | changes).items()}


def _keystore(path: Path, certificate: trustme.LeafCert) -> Path:
    # Kafka reads keys in PKCS #8 alone.
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(text + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return path


def start_secured_kafka(stack: ExitStack, folder: Path) -> SecuredKafka:
    """Make certificates, storage with a SCRAM user in it, and start the broker."""
    ours, foreign = trustme.CA(), trustme.CA()
    now = datetime.now(UTC)
    certificates = {
        "TLS": ours.issue_cert(HOST),
        "MUTUAL": ours.issue_cert(HOST),
        "EXPIRED": ours.issue_cert(HOST, not_before=now - timedelta(days=30), not_after=now - timedelta(days=1)),
        "FOREIGN": foreign.issue_cert(HOST),
        "NAMELESS": ours.issue_cert("kafka.elsewhere.example"),
        "SCRAM": ours.issue_cert(HOST),
    }
    authority = folder / "ca.pem"
    ours.cert_pem.write_to_path(str(authority))
    client = ours.issue_cert("worker@clients.example", common_name=CLIENT)
    files = {"certificate": folder / "client.pem", "key": folder / "client.key"}
    client.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    client.private_key_pem.write_to_path(str(files["key"]))

    *ports, controller = free_ports(len(DOORS) + 1)
    listen = dict(zip(DOORS, ports, strict=True))
    address = NodeAddress(1, HOST, listen["PLAIN"], controller)
    doors = ",".join(f"{door}://{HOST}:{port}" for door, port in listen.items())
    protocols = ",".join(f"{door}:{protocol}" for door, protocol in DOORS.items())
    config = properties(address, [address]) | {
        "listeners": f"{doors},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": doors,
        "listener.security.protocol.map": f"{protocols},CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAIN",
        # Who comes in without a name may do everything, as may the first user; any other what it is given.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:{CLIENT}",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram."
        "ScramLoginModule required;",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for door, certificate in certificates.items():
        config[f"listener.name.{door.lower()}.ssl.keystore.type"] = "PEM"
        config[f"listener.name.{door.lower()}.ssl.keystore.location"] = str(
            _keystore(folder / f"{door.lower()}.pem", certificate)
        )
    (folder / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in config.items()))

    runtime = KafkaRuntime.find()
    options = ["-Xmx384m", "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    formatting = ["format", "-t", CLUSTER_ID, "-c", "server.properties"]
    users = [f"SCRAM-SHA-512=[name={user},password={PASSWORD}]" for user in (USER, LIMITED)]
    formatted = subprocess.run(
        runtime.command(
            "kafka.tools.StorageTool",
            [*formatting, *(part for user in users for part in ("--add-scram", user))],
            options,
        ),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    process = ChildProcess(
        runtime.command("kafka.Kafka", ["server.properties"], options),
        name="the secured Kafka",
        output=folder / "console.log",
        cwd=folder,
    )
    stack.enter_context(process)
    _wait_until_it_serves(address, process, folder / "console.log")
    return SecuredKafka(listen, authority, files["certificate"], files["key"])


def _wait_until_it_serves(address: NodeAddress, process: ChildProcess, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if accepts(address.host, address.port):
            try:
                with KafkaAdminClient(bootstrap_servers=address.clients, bootstrap_timeout_ms=5_000) as admin:
                    if admin.describe_cluster()["brokers"]:
                        return
            except KafkaError:
                pass
        time.sleep(0.2)
    pytest.fail(f"the secured Kafka does not serve:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="module")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Start the broker for one module of tests."""
    with ExitStack() as stack:
        yield start_secured_kafka(stack, tmp_path_factory.mktemp("secured-kafka"))
