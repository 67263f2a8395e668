"""Why Kafka cannot be reached, in one line that says what to do.

Clients retry what will never work, a wrong password or a foreign certificate, until their time is up, and then say that
it was. Here one connection is made, as far as it goes, and what stopped it is named. It is made by aiokafka, the client
of the worker, whose errors keep apart what kafka-python's throw together.
"""

import asyncio
import functools
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from farpoint.errors import FarpointError
from farpoint.kafka_credentials import secret, ssl_context
from farpoint.settings import KafkaSettings

_SECONDS = 5.0


class _RefusedError(Exception):
    """Something that no waiting mends."""


class _SilentError(Exception):
    """Nobody there, or nobody who answers: may be mended by waiting."""


@functools.lru_cache(maxsize=8)  # a welcome is remembered; a refusal is not, since it raises
def require_welcome(settings: KafkaSettings) -> None:
    """Try the door of a secured Kafka before a client does.

    Raises
    ------
    FarpointError
        The first broker that answers refuses us. Brokers that do not answer are left for the client to wait for.
    """
    for server in settings.servers:
        try:
            _try(settings, server)
        except _SilentError:
            continue
        except _RefusedError as error:
            raise FarpointError(str(error)) from None
        return


@dataclass(frozen=True)
class Obstacle:
    """What stands between us and a broker; `lasting` where no waiting mends it."""

    said: str
    lasting: bool


def obstacle(settings: KafkaSettings) -> Obstacle | None:
    """Say why no broker can be reached, refusals before silence; None where one welcomes us. Blocks, at most 5 s a try.

    Examples
    --------
    >>> obstacle(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    Obstacle(said='Kafka at 127.0.0.1:1: nobody listens there', lasting=False)
    """
    found: list[Obstacle] = []
    for server in settings.servers:
        try:
            _try(settings, server)
        except _RefusedError as error:
            found.append(Obstacle(str(error), lasting=True))
        except _SilentError as error:
            found.append(Obstacle(str(error), lasting=False))
        else:
            return None
    return max(found, key=lambda one: one.lasting, default=None)


def _try(settings: KafkaSettings, server: str) -> None:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        if not host or not port.isdigit():
            raise _RefusedError("no HOST:PORT")
        with ThreadPoolExecutor(1) as other:  # this thread may run a loop of its own, as in a notebook
            other.submit(asyncio.run, _connect(settings, host, int(port))).result()
    except _RefusedError as error:
        raise _RefusedError(f"Kafka at {server}: {error}") from None
    except _SilentError as error:
        raise _SilentError(f"Kafka at {server}: {error}") from None


async def _connect(settings: KafkaSettings, host: str, port: int) -> None:
    tls = "SSL" in settings.security_protocol
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await create_conn(
                host,
                port,
                client_id="farpoint-tools",
                security_protocol=settings.security_protocol,
                ssl_context=ssl_context(settings) if tls else None,
                sasl_mechanism=settings.sasl_mechanism,
                sasl_plain_username=settings.sasl_username,
                sasl_plain_password=secret(settings.sasl_password),
            )
            try:
                await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except ssl.SSLCertVerificationError as error:
        raise _RefusedError(f"its certificate is refused: {_refused_certificate(error)}") from None
    except UnsupportedSaslMechanismError:
        raise _RefusedError(
            f"it does not know {settings.sasl_mechanism}: set FARPOINT_KAFKA__SASL_MECHANISM to one that it has"
        ) from None
    except SaslAuthenticationFailed:
        raise _RefusedError(
            f"it refuses the user {settings.sasl_username!a} or the password: see FARPOINT_KAFKA__SASL_USERNAME and "
            "__SASL_PASSWORD"
        ) from None
    except IllegalSaslStateError:
        raise _RefusedError(
            "it does not ask for a user: set FARPOINT_KAFKA__SECURITY_PROTOCOL to "
            f"{settings.security_protocol.replace('SASL_', '')}, or use its SASL port"
        ) from None
    except socket.gaierror as error:
        raise _SilentError(f"there is no such host ({error.strerror})") from None
    except ConnectionRefusedError:
        raise _SilentError("nobody listens there") from None
    except (OSError, KafkaError, ValueError) as error:  # ValueError: what came was no answer of Kafka's
        await _explain(settings, host, port, error)


async def _explain(settings: KafkaSettings, host: str, port: int, error: Exception) -> None:
    # Both ends hung up on each other, or waited in vain: do they speak different languages?
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
        said = (cause.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
        raise _RefusedError(
            f"it ends the TLS handshake ({said}): does it ask for a client certificate? See "
            "FARPOINT_KAFKA__SSL_CERTFILE and __SSL_KEYFILE"
        )
    if "SSL" in settings.security_protocol:
        if await _answers_in_the_clear(host, port):
            raise _RefusedError(
                "it does not speak TLS on this port: use its TLS port, or set FARPOINT_KAFKA__SECURITY_PROTOCOL to "
                f"{settings.security_protocol.replace('SSL', 'PLAINTEXT')}"
            )
    elif await _speaks_tls(host, port):
        raise _RefusedError(
            "it speaks TLS on this port: set FARPOINT_KAFKA__SECURITY_PROTOCOL to "
            f"{settings.security_protocol.replace('PLAINTEXT', 'SSL')}"
        )
    if isinstance(error, KafkaConnectionError) and "SASL" not in settings.security_protocol:
        raise _SilentError(
            "it hangs up at the first question: where it asks for a user, set FARPOINT_KAFKA__SECURITY_PROTOCOL to "
            f"SASL_{settings.security_protocol}"
        )
    raise _SilentError(" ".join(str(error).split()) or f"no answer within {_SECONDS:g} s ({type(error).__name__})")


async def _answers_in_the_clear(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await create_conn(host, port, client_id="farpoint-tools")
    except (OSError, KafkaError, ValueError):
        return False
    connection.close()
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    # Nothing is said and nothing believed on this connection: it is only seen to be TLS.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, ValueError):
        return False
    writer.transport.abort()
    return True


_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_*
_OTHER_NAME = (62, 64)


def _refused_certificate(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code == _EXPIRED:
        return f"{said}; it is the broker's that must be renewed"
    if error.verify_code == _NOT_YET:
        return f"{said}; see the clocks of both machines"
    if error.verify_code in _OTHER_NAME:
        return f"{said}; name the broker as its certificate does in FARPOINT_KAFKA__BOOTSTRAP_SERVERS"
    return f"{said}; set FARPOINT_KAFKA__SSL_CAFILE to the authority that signed it"
