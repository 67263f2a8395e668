"""Connections to Kafka: one set of settings, spelt for kafka-python (tools) and for Faust (the worker)."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kafka
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from farpoint.errors import FarpointError
from farpoint.settings import KafkaSettings

# How long a tool waits for a first answer before it says that there is no Kafka.
BOOTSTRAP_MS = 10_000


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments by which any kafka-python client reaches the cluster."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.servers,
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
    }
    if "SASL" in settings.security_protocol:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": _secret(settings.sasl_password),
        }
    if "SSL" in settings.security_protocol:
        options["ssl_context"] = ssl_context(settings)
    return options


def faust_credentials(settings: KafkaSettings) -> Any:
    """Return the same for Faust's `broker_credentials`; None in plain text."""
    # Imported here: Faust is slow to import, and reads options of its own from our command line while it is.
    import faust

    context = ssl_context(settings) if "SSL" in settings.security_protocol else None
    if "SASL" in settings.security_protocol:
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=_secret(settings.sasl_password),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Build the TLS context; raises FarpointError where a certificate or key cannot be read."""
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        if settings.ssl_certfile:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, _secret(settings.ssl_password))
    except (OSError, ssl.SSLError) as error:
        raise FarpointError(
            f"TLS to Kafka: {error}; see FARPOINT_KAFKA__SSL_CAFILE, __SSL_CERTFILE, __SSL_KEYFILE"
        ) from None
    return context


@contextmanager
def kafka_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn what kafka-python raises into one line that says what to do."""
    try:
        yield
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        raise FarpointError(
            f"no Kafka answers at {settings.bootstrap_servers} ({type(error).__name__}): start one with "
            "`farpoint kafka`, or set FARPOINT_KAFKA__BOOTSTRAP_SERVERS to your own"
        ) from None
    except KafkaError as error:
        raise FarpointError(f"Kafka at {settings.bootstrap_servers}: {error}") from error


def admin(settings: KafkaSettings) -> kafka.KafkaAdminClient:
    """Connect an admin client."""
    with kafka_errors(settings):
        return kafka.KafkaAdminClient(**connection(settings), client_id="farpoint-tools")


def consumer(settings: KafkaSettings, **options: Any) -> kafka.KafkaConsumer:
    """Connect a consumer that belongs to no group: tools assign themselves their partitions.

    kafka-python's group consumers sometimes never start to consume (the join races the metadata).
    """
    with kafka_errors(settings):
        return kafka.KafkaConsumer(
            **connection(settings), client_id="farpoint-tools", group_id=None, enable_auto_commit=False, **options
        )


def producer(settings: KafkaSettings, **options: Any) -> kafka.KafkaProducer:
    """Connect a producer that waits for all replicas."""
    with kafka_errors(settings):
        return kafka.KafkaProducer(**connection(settings), client_id="farpoint-tools", acks="all", **options)


def _secret(secret: Any) -> str | None:
    return None if secret is None else secret.get_secret_value()
