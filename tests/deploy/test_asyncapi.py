"""deploy/asyncapi.json judged by AsyncAPI's own parser: its JSON schema, its rules, and every reference followed."""

import json
import subprocess

from tests.deploy.deploy_programs import ROOT, node_environment, program

from farpoint.asyncapi import asyncapi_document

SCRIPT = """
const { NODE_PATH, DOCUMENT } = process.env;
const { Parser, fromFile } = require(`${NODE_PATH}/@asyncapi/parser`);
fromFile(new Parser(), DOCUMENT).parse().then(({ document, diagnostics }) => {
  const said = diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path, message }));
  console.log(JSON.stringify({ operations: document ? document.operations().length : 0, said }));
});
"""
ERROR, WARNING = 0, 1


def test_the_parser_takes_it() -> None:
    """No error and no warning, and every operation is found; that 3.1 exists is no fault."""
    done = subprocess.run(
        [program("node"), "-e", SCRIPT],
        capture_output=True,
        text=True,
        env=node_environment() | {"DOCUMENT": str(ROOT / "deploy/asyncapi.json")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one for one in found["said"] if one["severity"] in (ERROR, WARNING)] == []
    assert found["operations"] == len(asyncapi_document()["operations"]) > 10
