"""deploy/asyncapi.json: generated, committed, and what the topics, the stages and the schemas say."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from farpoint.asyncapi import FILE, asyncapi_document, example_records
from farpoint.kafka_rights import needed_rights
from farpoint.schemas import json_schemas, schema_text
from farpoint.settings import KafkaSettings, MediaSettings, TopicsSettings
from farpoint.topics import TopicNames, topics_table
from farpoint.wire import DLQ_HEADERS, wire_types
from farpoint_models.errors import InvalidReason

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCUMENT = asyncapi_document()


def test_the_committed_document_is_not_stale() -> None:
    """The file is what the code says now; `make docs` writes it."""
    assert (DEPLOY / FILE).read_text(encoding="utf-8") == schema_text(DOCUMENT)


def test_its_channels_are_the_topics() -> None:
    """Every topic is a channel, laid out and configured as `farpoint topics apply` does."""
    found = {channel["address"]: channel["bindings"]["kafka"] for channel in DOCUMENT["channels"].values()}
    table = topics_table(TopicsSettings(), MediaSettings())
    assert list(found) == [topic.name for topic in table]
    for topic in table:
        binding = found[topic.name]
        assert (binding["topic"], binding["partitions"], binding["replicas"]) == (
            topic.name,
            topic.partitions,
            topic.replication_factor,
        )
        written = {
            name: ",".join(value) if isinstance(value, list) else str(value)
            for name, value in binding["topicConfiguration"].items()
        }
        assert written == dict(topic.config)


@pytest.mark.parametrize("stage", ["embed", "detect"])
def test_its_operations_are_the_stages(stage: str) -> None:
    """A stage receives what it has the right to read and sends what it may write, in its consumer group."""
    addresses = {f"#/channels/{name}": channel["address"] for name, channel in DOCUMENT["channels"].items()}
    rights: dict[str, set[str]] = {}
    for name, operation in DOCUMENT["operations"].items():
        if not name.startswith(stage):
            continue
        address = addresses[operation["channel"]["$ref"]]
        rights.setdefault(address, set()).add({"receive": "READ", "send": "WRITE"}[operation["action"]])
        if operation["action"] == "receive" and "state" not in address:
            assert operation["bindings"]["kafka"]["groupId"]["enum"] == [KafkaSettings().group_of(stage)]
    assert rights == needed_rights(TopicNames("vision"), [stage])


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in _references(value)]
    return [found for value in part for found in _references(value)] if isinstance(part, list) else []


def test_every_reference_leads_somewhere() -> None:
    """References within the document and to the schemas beside it are there."""
    found = _references(DOCUMENT)
    assert len(found) > 20
    for reference in found:
        file, _, path = reference.partition("#")
        target: Any = json.loads((DEPLOY / file).read_text(encoding="utf-8")) if file else DOCUMENT
        for step in path.strip("/").split("/"):
            target = target[step] if step else target
        assert target


@pytest.mark.parametrize("name", wire_types())
def test_the_examples_fit_their_schemas(name: str) -> None:
    """Each published type has an example that its schema accepts."""
    messages = DOCUMENT["components"]["messages"].values()
    (payload,) = [
        example["payload"] for message in messages for example in message.get("examples", ()) if example["name"] == name
    ]
    Draft202012Validator(json_schemas()[f"{name}.schema.json"]).validate(payload)
    assert name in example_records()


def test_dead_letters_have_their_headers_and_reasons() -> None:
    """All six headers are required, and the reasons are the closed list."""
    headers = DOCUMENT["components"]["messages"]["deadLetter"]["headers"]
    assert set(headers["required"]) == set(DLQ_HEADERS)
    assert headers["properties"]["dlq.reason"]["enum"] == [str(reason) for reason in InvalidReason]
