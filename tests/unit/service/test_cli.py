"""The command line: helpful at once, and with exit statuses that scripts can rely on."""

import os
import subprocess
import sys

import pytest

from farpoint.cli import COMMANDS


def farpoint(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a stranger would, with no settings but these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARPOINT_")}
    return subprocess.run(
        [sys.executable, "-m", "farpoint.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean | env,
        check=False,
    )


def test_help_lists_every_command() -> None:
    """`farpoint --help` names each command with a line on it."""
    done = farpoint("--help")
    assert done.returncode == 0
    for name, line in COMMANDS.items():
        assert f"{name} " in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """Each command says what it does, with no Kafka and even with a bad setting in the environment."""
    done = farpoint(name, "--help", FARPOINT_TOPICS__PARTITIONS="none")
    assert done.returncode == 0, done.stderr
    assert f"Usage: farpoint {name}" in done.stdout.replace("python -m farpoint.cli", "farpoint").replace(
        "cli.py", "farpoint"
    )
    assert done.stderr == ""


def test_help_answers_without_the_heavy_libraries() -> None:
    """Help loads neither Kafka's clients nor Faust nor ONNX Runtime nor OpenCV."""
    code = (
        "import sys, importlib\n"
        "from farpoint.cli import cli, COMMANDS\n"
        "for name in COMMANDS: cli.get_command(None, name)\n"
        "print(*sorted({'kafka', 'faust', 'onnxruntime', 'cv2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("settings", "--no-such-option"),
        ("settings", "--json", "--markdown"),
        ("alerts", "--max-records", "0"),
        ("dead-letters", "show", "--topic", "vision.assignments.v1"),
        ("dead-letters", "replay", "--max-records", "x"),
    ],
)
def test_bad_usage_exits_2(arguments: tuple[str, ...]) -> None:
    """Bad usage ends at once with 2, says why on stderr, and prints no result."""
    done = farpoint(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


@pytest.mark.parametrize("name", ["settings", "alerts", "clusters", "check"])
def test_a_bad_setting_exits_2(name: str) -> None:
    """A bad setting ends any command with 2 and one line that names it."""
    done = farpoint(name, FARPOINT_TOPICS__PARTITIONS="none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "FARPOINT_TOPICS__PARTITIONS" in done.stderr


def test_settings_are_printed_masked() -> None:
    """`farpoint settings` shows what is in force, and no secret."""
    env = {"FARPOINT_KAFKA__SASL_PASSWORD": "hunter2", "FARPOINT_TOPICS__PARTITIONS": "3"}
    done = farpoint("settings", **env)
    assert done.returncode == 0
    assert "hunter2" not in done.stdout + done.stderr
    assert any(line.split()[:2] == ["FARPOINT_TOPICS__PARTITIONS", "3"] for line in done.stdout.splitlines())


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    """`farpoint settings | head -1` ends quietly."""
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m farpoint.cli settings --markdown | head -c 1"],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (piped.returncode, piped.stderr) == (0, "")
