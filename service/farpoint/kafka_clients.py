"""Connections of the tools to Kafka, by kafka-python; the worker's are Faust's (`stage_app`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kafka
from kafka.errors import AuthorizationError, KafkaConnectionError, KafkaError, KafkaTimeoutError

from farpoint.errors import FarpointError
from farpoint.kafka_credentials import kafka_python_credentials
from farpoint.settings import KafkaSettings

# How long a tool waits for a first answer before it says that there is no Kafka.
BOOTSTRAP_MS = 10_000


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments by which any kafka-python client reaches the cluster.

    Raises
    ------
    FarpointError
        A secured cluster refuses us; clients would try again until their time is up.
    """
    if settings.security_protocol != "PLAINTEXT":
        # Imported here: a command that only prints its help, or comes in by a plain door, has no need of it.
        from farpoint.kafka_diagnosis import require_welcome

        require_welcome(settings)
    return {
        "bootstrap_servers": settings.servers,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
        **kafka_python_credentials(settings),
    }


@contextmanager
def kafka_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn what kafka-python raises into one line that says what to do."""
    try:
        yield
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        from farpoint.kafka_diagnosis import obstacle

        found = obstacle(settings)
        if found and found.lasting:
            raise FarpointError(found.said) from None
        why = found.said if found else type(error).__name__
        raise FarpointError(
            f"no Kafka answers at {settings.bootstrap_servers} ({why}): start one with "
            "`farpoint kafka`, or set FARPOINT_KAFKA__BOOTSTRAP_SERVERS to your own"
        ) from None
    except AuthorizationError as error:
        raise FarpointError(
            f"Kafka at {settings.bootstrap_servers} does not let "
            f"{settings.sasl_username or 'whoever comes in there'} do this: {error}; the rights are in docs/security.md"
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
