"""What lets us in at a Kafka: TLS context and SASL credentials, spelt for kafka-python (tools) and Faust (worker)."""

import ssl
from typing import Any

from pydantic import SecretStr

from farpoint.errors import FarpointError
from farpoint.settings import KafkaSettings


def kafka_python_credentials(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments by which any kafka-python client is let in."""
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if "SASL" in settings.security_protocol:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": secret(settings.sasl_password),
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
            password=secret(settings.sasl_password),
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
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, secret(settings.ssl_password))
    except (OSError, ssl.SSLError) as error:
        raise FarpointError(
            f"TLS to Kafka: {error}; see FARPOINT_KAFKA__SSL_CAFILE, __SSL_CERTFILE, __SSL_KEYFILE"
        ) from None
    return context


def secret(value: SecretStr | None) -> str | None:
    """Return a secret in the clear, for a client that is handed it."""
    return None if value is None else value.get_secret_value()
