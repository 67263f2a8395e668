"""JSON Schemas of the wire and the AsyncAPI document, generated: `python -m farpoint.schemas [FOLDER]`.

The schemas go into `schemas/` of the folder, the document that refers to them beside it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from farpoint.asyncapi import FILE, asyncapi_document
from farpoint.wire import wire_types

DEFAULT_FOLDER = Path("deploy")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every published type by the name of its file.

    Examples
    --------
    >>> json_schemas()["outlier-alert.schema.json"]["title"]
    'OutlierAlert'
    """
    return {f"{name}.schema.json": _schema(name, kind) for name, kind in wire_types().items()}


def _schema(name: str, kind: Any) -> dict[str, Any]:
    described = msgspec.json.schema(kind)
    definitions: dict[str, Any] = described["$defs"]
    root = definitions.pop(described["$ref"].rpartition("/")[2])
    schema = {
        "$schema": _DIALECT,
        "$id": f"urn:farpoint:schema:{name}:v1",
        **root,
        # The wire's name: how a type is spelt in our code is nobody's business.
        "title": "".join(part.capitalize() for part in name.split("-")),
    }
    return {**schema, "$defs": definitions} if definitions else schema


def schema_text(schema: dict[str, Any]) -> str:
    """Write a schema or document as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schemas and the document into a folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    documents = {f"schemas/{name}": schema for name, schema in json_schemas().items()} | {FILE: asyncapi_document()}
    for name, document in documents.items():
        (folder / name).write_text(schema_text(document), encoding="utf-8")
        click.echo(str(folder / name))


if __name__ == "__main__":
    main()
