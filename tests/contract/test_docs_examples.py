"""What the pages show people to type: commands, settings, records, targets and files that really exist."""

import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from farpoint.cli import cli
from farpoint.settings import settings_table
from farpoint.wire import RecordRef, read_embeddings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [
    (page.name, language, block)
    for page in PAGES
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8"))
]
KNOWN = {variable for variable, _, _ in settings_table()}


def lines(languages: tuple[str, ...] = ("", "console", "sh", "bash")) -> Iterator[tuple[str, str]]:
    """Give each shell line of the pages, continued lines joined, comments gone, as (page, line)."""
    for page, language, block in BLOCKS:
        if language in languages:
            for line in block.replace("\\\n", " ").splitlines():
                yield page, re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).strip()


def farpoint_lines() -> Iterator[tuple[str, str]]:
    """Give each command line of Farpoint, without what stands before it, as (page, arguments)."""
    for page, line in lines():
        if not line.isascii():  # a drawing
            continue
        words = line.partition(" | ")[0].split()
        for at, word in enumerate(words):
            alone = word == "farpoint" and all("=" in before for before in words[:at])
            if alone or (word == "tools" and "compose" in words):
                yield page, " ".join(words[at + 1 :])


COMMANDS = sorted(set(farpoint_lines()))


def parse(arguments: list[str]) -> None:
    """Parse a command line of Farpoint as far as it goes without running it."""
    context = cli.make_context("farpoint", list(arguments))
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        context, command = found.make_context(name or "", rest, parent=context), found


def test_there_are_commands() -> None:
    """The pages show commands, and this test finds them."""
    assert len(COMMANDS) > 5


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda text: text[:60])
def test_each_command_exists_and_takes_its_options(page: str, command: str) -> None:
    """Every `farpoint ...` of a page is parsed by the command line without complaint."""
    parse(shlex.split(command))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_setting_exists(page: Path) -> None:
    """Every setting that a page names is one."""
    named = set(re.findall(r"FARPOINT_[A-Z_]+__[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    assert named <= KNOWN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """Every link within the repository leads to a file, and to a heading where it names one."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, target


def test_each_target_of_make_exists() -> None:
    """Every `make ...` that a page names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"demo", "test", "audit"} <= named
    assert named <= targets


def test_each_record_is_one_that_is_read() -> None:
    """Every EmbeddingBatch that a page writes out is read by the worker."""
    found = [block for _, _, block in BLOCKS if block.startswith('{"model"')]
    assert found
    for block in found:
        read_embeddings(RecordRef("t", 0, 0, 0), b"d", json.dumps(json.loads(block)).encode(), [])


def test_each_file_of_settings_parses() -> None:
    """TOML, YAML and systemd units of the pages are such, and their TOML keys are settings."""
    kinds = {language for _, language, _ in BLOCKS}
    assert {"toml", "yaml"} <= kinds
    for _, language, block in BLOCKS:
        if language == "toml":
            for group, members in tomllib.loads(block).items():
                assert {f"FARPOINT_{group}__{name}".upper() for name in members} <= KNOWN
        elif language == "yaml":
            assert yaml.safe_load(block)
        elif block.startswith("[Service]"):
            unit = configparser.ConfigParser()
            unit.read_string(block)
            assert unit["Service"]["ExecStart"].endswith("farpoint worker")


def test_docker_and_helm_are_given_files_that_exist() -> None:
    """What `docker` and `helm` are pointed at is in the repository, and what is set is a value of the chart."""
    found = [line for _, line in lines() if line.startswith(("docker ", "helm "))]
    assert len(found) >= 3
    values = yaml.safe_load((ROOT / "deploy/helm/farpoint/values.yaml").read_text(encoding="utf-8"))
    for line in found:
        for path in re.findall(r"\bdeploy/\S+", line):
            assert (ROOT / path).exists(), line
        for setting in re.findall(r"--set (\S+)=", line):
            part = values
            for step in setting.split("."):
                part = part[step]
