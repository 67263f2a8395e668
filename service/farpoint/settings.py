"""Settings: environment variables `FARPOINT_<GROUP>__<NAME>`, or the same keys in a TOML file.

`FARPOINT_CONFIG` names the file; the environment wins over it. A bad or unknown setting is a `SettingsError` that
names it: a misspelt setting that is silently ignored is worse than a refused start.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from farpoint.errors import SettingsError
from farpoint_models.card import shipped_model_folder

PREFIX = "FARPOINT_"
CONFIG_VARIABLE = "FARPOINT_CONFIG"
_LONGEST_SHOWN = 200
MOST_NAMES = 100
"""Longest allow-list of a metric's label values."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Group):
    """How to reach Kafka; the same for the worker (Faust) and the tools (kafka-python)."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="brokers to start from, comma separated", min_length=1)
    group_id: str = Field("farpoint", description="prefix of the consumer groups `-embed` and `-detect`", min_length=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="as Kafka clients name it"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="used with a SASL protocol"
    )
    sasl_username: str | None = Field(None, description="used with a SASL protocol")
    sasl_password: SecretStr | None = Field(None, description="used with a SASL protocol; masked wherever it is shown")
    ssl_cafile: Path | None = Field(None, description="certificate authority of the brokers; default: the system's")
    ssl_certfile: Path | None = Field(None, description="client certificate, where brokers ask for one")
    ssl_keyfile: Path | None = Field(None, description="key of the client certificate")
    ssl_password: SecretStr | None = Field(None, description="password of that key")
    ssl_check_hostname: bool = Field(True, description="whether the certificate must name the broker's host")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if "SASL" in self.security_protocol and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.security_protocol} needs FARPOINT_KAFKA__SASL_USERNAME and __SASL_PASSWORD")
        return self

    @property
    def servers(self) -> list[str]:
        """The bootstrap servers, one by one."""
        return [server.strip() for server in self.bootstrap_servers.split(",") if server.strip()]

    def group_of(self, stage: str) -> str:
        """Name the consumer group of a stage.

        >>> KafkaSettings().group_of("embed")
        'farpoint-embed'
        """
        return f"{self.group_id}-{stage}"


class TopicsSettings(_Group):
    """What the topics are called and how they are laid out."""

    domain: str = Field("vision", description="first part of every topic name", pattern=r"^[a-zA-Z0-9-]+$")
    partitions: int = Field(8, description="partitions of each topic", ge=1)
    replication_factor: int = Field(1, description="copies of each partition", ge=1)


class EmbedderSettings(_Group):
    """The model that turns pictures into vectors, and how it is fed."""

    model: Path = Field(
        shipped_model_folder(), description="folder with `model.onnx` and `card.json`; default: the shipped one"
    )
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="`cuda` and `tensorrt` fail at start where they cannot be had"
    )
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        "auto",
        description="which of the model's files runs; `auto`: what its card prefers and the processor is made for",
    )
    engine_cache: Path | None = Field(None, description="folder where TensorRT keeps the engines that it builds")
    library: Path = Field(
        Path("~/.local/share/farpoint/models"),
        description="where `farpoint models` keeps models; default: `~/.local/share/farpoint/models`",
    )
    max_batch: int = Field(32, description="most frames in one device batch", ge=1, le=1024)
    max_wait_seconds: float = Field(
        0.01, description="longest wait of an incomplete batch; it waits only while the device is busy", ge=0, le=10
    )
    threads: int = Field(
        0, description="decode and inference threads each; 0: as many as this process may use cores", ge=0
    )
    canary_seconds: float = Field(120.0, description="time between trials of the model on a known picture", ge=1)


class MediaSettings(_Group):
    """Bounds on what is taken in."""

    max_record_bytes: int = Field(8 * 2**20, description="largest record published or produced, bytes", ge=2**21)
    max_pixels: int = Field(50_000_000, description="largest picture decoded, width x height", ge=1)


class DetectorSettings(_Group):
    """The online clusterer and the outlier score. They shape a detector when its first vector arrives."""

    scope: Literal["shared", "source"] = Field("shared", description="one detector for all sources, or one for each")
    geometry: Literal["cosine", "standardized"] = Field(
        "cosine", description="`cosine` for embeddings; `standardized` for raw numeric features"
    )
    clusters: int = Field(100, description="most clusters a detector keeps", ge=1, le=1000)
    warm_up: int = Field(256, description="vectors before the first score", ge=2, le=1_000_000)
    half_life_vectors: float = Field(20_000, description="after so many vectors a vector weighs half", gt=0)
    false_alarm_rate: float = Field(0.001, description="share of normal vectors that may be flagged", gt=0, le=0.2)
    checkpoint_seconds: float = Field(5.0, description="time between checkpoints of the detectors", gt=0, le=3600)


class DeadLettersSettings(_Group):
    """When bad records stop being single records and become an outage."""

    max_in_a_row: int = Field(1000, description="so many bad records in a row, and no good one, stop the worker", ge=1)
    max_share: float = Field(
        0.5, description="a larger share of bad records among the last `share_of_records` stops the worker", gt=0, le=1
    )
    share_of_records: int = Field(5000, description="how many of the last records `max_share` looks at", ge=1)


class HttpSettings(_Group):
    """Health and metrics."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, description="port to listen on; 0: any free one, logged", ge=0, le=65535)
    token: SecretStr | None = Field(
        None,
        description="asked for as `Authorization: Bearer ...` by everything but `/livez` and `/readyz`; default: none",
        min_length=1,
    )


class MetricsSettings(_Group):
    """What is counted by names that others choose. Each name is a time series more, so it takes an allow-list."""

    detectors: str = Field(
        "shared", description="detectors counted by name, comma separated; all others together are `other`"
    )
    sources: str = Field("", description="sources counted by name, comma separated; all others together are `other`")

    @field_validator("detectors", "sources")
    @classmethod
    def _few(cls, names: str) -> str:
        if len(_names(names)) > MOST_NAMES:
            raise ValueError(f"at most {MOST_NAMES} names: each is a time series")
        return names

    @property
    def detector_names(self) -> list[str]:
        """The detectors, one by one."""
        return _names(self.detectors)

    @property
    def source_names(self) -> list[str]:
        """The sources, one by one."""
        return _names(self.sources)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class LogSettings(_Group):
    """What is logged to stderr, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line shown")
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto`: readable on a terminal, JSON lines otherwise"
    )


class Settings(BaseSettings):
    """All settings of Farpoint."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=False
    )

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    media: MediaSettings = MediaSettings()
    detector: DetectorSettings = DetectorSettings()
    dead_letters: DeadLettersSettings = DeadLettersSettings()
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; no `.env` files, which surprise people who did not write them."""
        del dotenv_settings, file_secret_settings
        config = os.environ.get(CONFIG_VARIABLE)
        file = (TomlConfigSettingsSource(settings_cls, Path(config)),) if config else ()
        return (init_settings, env_settings, *file)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and the file it names.

    Raises
    ------
    SettingsError
        A setting is unknown or bad, or the file cannot be read; the one-line message names it.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown_variables(environ)
    config = environ.get(CONFIG_VARIABLE)
    if config and not Path(config).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {config}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{_printable(name)}: there is no such setting") from None
        ours = first["type"] == "value_error"
        said = first["msg"].removeprefix("Value error, ") if ours else first["msg"][0].lower() + first["msg"][1:]
        raise SettingsError(f"{name}: {said}{_not(first)}") from None
    except (ValueError, OSError) as error:  # TOML syntax, a group given as text, an unreadable file
        raise SettingsError(f"{config or PREFIX + '*'}: {' '.join(str(error).split())}") from None


def _not(error: ErrorDetails) -> str:
    # A group has its secrets in it; a secret is one.
    group, *names = error["loc"]
    field = _groups()[str(group)].model_fields.get(str(names[0])) if names and str(group) in _groups() else None
    if field is None or "SecretStr" in str(field.annotation):
        return ""
    return f", not {error['input']!r}"


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    # pydantic-settings looks up the names it knows and never sees a misspelt one.
    groups = {name.upper(): model for name, model in _groups().items()}
    for variable in environ:
        if not variable.upper().startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        group, _, name = variable.upper().removeprefix(PREFIX).partition("__")
        if group not in groups or name.lower() not in groups[group].model_fields:
            raise SettingsError(f"{_printable(variable)}: there is no such setting")


def _printable(name: str) -> str:
    return name if name.isprintable() and len(name) < _LONGEST_SHOWN else ascii(name[:_LONGEST_SHOWN])


def _groups() -> dict[str, type[_Group]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Group)
    }


def effective_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data for the log, secrets masked."""
    return settings.model_dump(mode="json")


Row = Annotated[tuple[str, str, str], "variable, default, meaning"]


def settings_table() -> list[Row]:
    """Return every setting as (environment variable, default, meaning), in order, for docs and `--help`."""
    rows: list[Row] = []
    for group_name, model in _groups().items():
        for name, field in model.model_fields.items():
            # The shipped model's folder differs from machine to machine; its description says what it is.
            default = "" if field.default is None or isinstance(field.default, Path) else str(field.default)
            rows.append((f"{PREFIX}{group_name}__{name}".upper(), default, field.description or ""))
    return rows
