"""docs/security.md claims nothing that no test holds."""

import ast
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
THREATS = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.partition("## Threats")[2], re.MULTILINE)[2:]
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)))


def test_there_are_threats() -> None:
    """Hostile publishers, consumers, networks, operators' slips and the supply chain are all looked at."""
    assert len(THREATS) > 15
    assert {who for who, *_ in THREATS} == {"publisher", "consumer", "network", "operator", "supply chain"}


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat[1][:60])
def test_each_threat_names_its_test_or_says_that_there_is_none(threat: tuple[str, ...]) -> None:
    """A line either names a test or admits openly that nothing holds it."""
    assert re.search(r"`tests/\S+\.py::test_\w+`", threat[3]) or threat[3].startswith("not held: ")


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_named_test_exists(file: str, name: str) -> None:
    """The tests that the page names are there, and have a docstring that says what they hold."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    assert len(found) == 1
    assert ast.get_docstring(found[0])


def test_every_installed_package_is_pinned() -> None:
    """What is installed here is what constraints.txt names, version by version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {_plain(name): version for name, version in pins.items()}
    own = {"farpoint", "pip", "setuptools", "wheel"}
    found = {_plain(one.metadata["Name"]): one.version for one in distributions()}
    wrong = {name: version for name, version in found.items() if name not in own and pinned.get(name) != version}
    assert not wrong


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
