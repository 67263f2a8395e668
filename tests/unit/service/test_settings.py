"""Settings: read from environment and file, refused loudly, never shown with their secrets."""

import json
from pathlib import Path

import pytest

from farpoint.errors import SettingsError
from farpoint.settings import Settings, effective_settings, load_settings, settings_table


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("FARPOINT_"):
            monkeypatch.delenv(name)


def test_defaults_are_the_contracts() -> None:
    """Without any variable the settings are those that the contract promises."""
    settings = load_settings()
    assert settings.kafka.servers == ["127.0.0.1:9092"]
    assert (settings.kafka.group_id, settings.kafka.security_protocol) == ("farpoint", "PLAINTEXT")
    assert (settings.topics.domain, settings.topics.partitions, settings.topics.replication_factor) == ("vision", 8, 1)
    assert (settings.embedder.device, settings.detector.scope, settings.detector.geometry) == (
        "auto",
        "shared",
        "cosine",
    )
    assert settings.detector.clusters == 100
    assert settings.detector.warm_up <= 256
    assert settings.detector.false_alarm_rate == 0.001
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)


def test_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable wins over the same key in the file; what only the file says holds."""
    file = tmp_path / "farpoint.toml"
    file.write_text('[topics]\npartitions = 3\ndomain = "file"\n', encoding="utf-8")
    monkeypatch.setenv("FARPOINT_CONFIG", str(file))
    monkeypatch.setenv("FARPOINT_TOPICS__PARTITIONS", "5")
    settings = load_settings()
    assert (settings.topics.partitions, settings.topics.domain) == (5, "file")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FARPOINT_TOPICS__PARTITIONS", "0"),
        ("FARPOINT_TOPICS__PARTITIONS", "many"),
        ("FARPOINT_TOPICS__DOMAIN", "a.b"),
        ("FARPOINT_TOPICS__DOMAIN", ""),
        ("FARPOINT_EMBEDDER__DEVICE", "tpu"),
        ("FARPOINT_HTTP__PORT", "65536"),
        ("FARPOINT_DETECTOR__FALSE_ALARM_RATE", "1"),
        ("FARPOINT_DETECTOR__HALF_LIFE_VECTORS", "0"),
        ("FARPOINT_KAFKA__BOOTSTRAP_SERVERS", ""),
        ("FARPOINT_KAFKA__BOOTSTRAP", "kafka:9092"),
        ("FARPOINT_TOPIC__PARTITIONS", "8"),
        ("FARPOINT_PARTITIONS", "8"),
        ("FARPOINT_DETECTOR", "8"),
    ],
)
def test_a_bad_or_unknown_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Every refusal is one line that names the variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as refused:
        load_settings()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[topics]\npartitionz = 3\n", "FARPOINT_TOPICS__PARTITIONZ"),
        ("[topix]\npartitions = 3\n", "FARPOINT_TOPIX"),
        ("[topics]\npartitions = -1\n", "FARPOINT_TOPICS__PARTITIONS"),
        ("topics = 3\n", "FARPOINT_TOPICS"),
        ("[topics\n", "farpoint.toml"),
        ("\x00", "farpoint.toml"),
    ],
)
def test_a_bad_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, named: str) -> None:
    """What is wrong in the file is one line that names the key, or the file where it is no TOML."""
    file = tmp_path / "farpoint.toml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("FARPOINT_CONFIG", str(file))
    with pytest.raises(SettingsError, match=named) as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A config file that does not exist is refused, not passed over."""
    monkeypatch.setenv("FARPOINT_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"FARPOINT_CONFIG.*absent\.toml"):
        load_settings()


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No password shows in what is logged, nor in the refusal of another setting."""
    monkeypatch.setenv("FARPOINT_KAFKA__SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("FARPOINT_KAFKA__SSL_PASSWORD", "hunter2")
    monkeypatch.setenv("FARPOINT_HTTP__TOKEN", "hunter2")
    settings = load_settings()
    assert "hunter2" not in json.dumps(effective_settings(settings)) + repr(settings)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"
    monkeypatch.setenv("FARPOINT_KAFKA__SECURITY_PROTOCOL", "tls")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(("username", "password"), [("", "hunter2"), ("me", ""), ("me", None), (None, None)])
def test_sasl_needs_a_user_and_a_password(
    monkeypatch: pytest.MonkeyPatch, username: str | None, password: str | None
) -> None:
    """Half of it is refused, with a line that names both settings and shows no secret."""
    monkeypatch.setenv("FARPOINT_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    for name, value in (("USERNAME", username), ("PASSWORD", password)):
        if value is not None:
            monkeypatch.setenv(f"FARPOINT_KAFKA__SASL_{name}", value)
    with pytest.raises(SettingsError, match="FARPOINT_KAFKA__SASL_USERNAME and __SASL_PASSWORD") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ['[http]\ntoken = ["hunter2"]\n', '[kafka]\nsasl_password = {a = "hunter2"}\n', 'kafka = ["hunter2"]\n']
)
def test_a_secret_of_the_wrong_kind_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Also what is refused as a secret is one."""
    file = tmp_path / "farpoint.toml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("FARPOINT_CONFIG", str(file))
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_an_empty_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that was not filled in does not leave the door open."""
    monkeypatch.setenv("FARPOINT_HTTP__TOKEN", "")
    with pytest.raises(SettingsError, match="FARPOINT_HTTP__TOKEN"):
        load_settings()


def test_bootstrap_servers_are_taken_apart() -> None:
    """Spaces and empty places between the commas do no harm."""
    assert Settings.model_validate({"kafka": {"bootstrap_servers": "a:1, b:2 ,,"}}).kafka.servers == ["a:1", "b:2"]


def test_the_table_has_every_setting_once() -> None:
    """The table for docs and help has a row with a meaning for each setting there is."""
    rows = settings_table()
    members = [(group, name) for group, values in effective_settings(load_settings()).items() for name in values]
    assert [variable for variable, _, _ in rows] == [f"FARPOINT_{group}__{name}".upper() for group, name in members]
    assert all(meaning for _, _, meaning in rows)


def test_allow_lists_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are split at commas, and a list so long that Prometheus would suffer is refused."""
    monkeypatch.setenv("FARPOINT_METRICS__SOURCES", "cam-1, cam-2,,")
    assert load_settings().metrics.source_names == ["cam-1", "cam-2"]
    assert load_settings().metrics.detector_names == ["shared"]
    monkeypatch.setenv("FARPOINT_METRICS__SOURCES", ",".join(f"cam-{number}" for number in range(101)))
    with pytest.raises(SettingsError, match=r"FARPOINT_METRICS__SOURCES.*at most 100 names"):
        load_settings()
