"""The AsyncAPI 3 document of the topics, written from the table of topics, the wire's types and the settings.

`python -m farpoint.schemas` writes it beside the JSON Schemas that it refers to. "receive" and "send" are said of
Farpoint: what it receives is what others publish.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from farpoint.settings import KafkaSettings, MediaSettings, TopicsSettings
from farpoint.topics import DLQ_SUFFIX, Topic, topics_table
from farpoint.wire import (
    ALERT_TYPE,
    DLQ_HEADERS,
    EMBEDDINGS_TYPE,
    Assignment,
    AssignmentBatch,
    ClusterEvent,
    EmbeddingBatchJson,
    EmbeddingsRef,
    Item,
    MediaRef,
    NearCluster,
    OutlierAlert,
)
from farpoint_models.errors import InvalidReason

FILE = "asyncapi.json"
_BINDING = "0.5.0"
_SCHEMA_FORMAT = "application/schema+json;version=draft-07"
_TEXT: dict[str, Any] = {"type": "string"}

# Dataset of a topic: what it is for, and its message.
_CHANNELS: dict[str, tuple[str, str]] = {
    "images": ("Lone pictures: photos, scans, crops.", "media"),
    "frames": ("Frames of cameras and videos, in order for each source.", "media"),
    "embeddings": ("Vectors, many to a record: the way in for any vector.", "embeddingBatch"),
    "assignments": ("Every decision: cluster, distance, score.", "assignmentBatch"),
    "outlier-alerts": ("What people and pagers subscribe to.", "outlierAlert"),
    "cluster-events": ("Births, deaths, merges and splits of clusters.", "clusterEvent"),
    "detector-state": ("Checkpoints: a private format, for Farpoint itself.", "checkpoint"),
}
# Stage: what it reads, what it writes.
_STAGES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "embed": (("images", "frames"), ("embeddings", "images.dlq", "frames.dlq")),
    "detect": (
        ("embeddings", "detector-state"),
        ("assignments", "outlier-alerts", "cluster-events", "detector-state", "embeddings.dlq"),
    ),
}


def asyncapi_document() -> dict[str, Any]:
    """Return the document.

    Examples
    --------
    >>> asyncapi_document()["channels"]["frames"]["address"]
    'vision.frames.v1'
    """
    topics, kafka = TopicsSettings(), KafkaSettings()
    table = {_dataset(topic.name): topic for topic in topics_table(topics, MediaSettings())}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:farpoint",
        "info": {
            "title": "Farpoint",
            "version": version("farpoint"),
            "description": "Pictures and vectors in; what lies far from the mass of its stream out. Names begin with "
            f"the setting FARPOINT_TOPICS__DOMAIN, here `{topics.domain}`; partitions and copies are those of the "
            "default settings. Delivery is at least once: keep the ids you have seen.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": kafka.bootstrap_servers,
                "protocol": "kafka",
                "description": "What `farpoint kafka` starts.",
            },
            "secured": {
                "host": "{broker}",
                "protocol": "kafka-secure",
                "description": "A Kafka of your own, with TLS and SASL.",
                "variables": {"broker": {"description": "HOST:PORT"}},
                "security": [{"$ref": "#/components/securitySchemes/scram"}],
            },
        },
        "channels": {_camel(dataset): _channel(dataset, topic) for dataset, topic in table.items()},
        "operations": dict(_operations(kafka)),
        "components": {
            "messages": _messages(),
            "securitySchemes": {"scram": {"type": "scramSha512", "description": "or scramSha256, or plain over TLS"}},
        },
    }


def _dataset(topic: str) -> str:
    suffix = DLQ_SUFFIX if topic.endswith(DLQ_SUFFIX) else ""
    return topic.removesuffix(suffix).split(".")[1] + suffix


def _camel(name: str) -> str:
    first, *others = name.replace(".", "-").split("-")
    return first + "".join(other.capitalize() for other in others)


def _channel(dataset: str, topic: Topic) -> dict[str, Any]:
    if dataset.endswith(DLQ_SUFFIX):
        summary, message = f"Dead letters of {topic.name.removesuffix(DLQ_SUFFIX)}, as they came.", "deadLetter"
    else:
        summary, message = _CHANNELS[dataset]
    return {
        "address": topic.name,
        "summary": summary,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "topicConfiguration": {name: _config(name, value) for name, value in topic.config.items()},
                "bindingVersion": _BINDING,
            }
        },
    }


def _config(name: str, value: str) -> Any:
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.isdigit() else value


def _operations(kafka: KafkaSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    for stage, (reads, writes) in _STAGES.items():
        for dataset in reads:
            # Checkpoints are read back by partition, in no group.
            group = (
                {} if dataset == "detector-state" else {"groupId": {"type": "string", "enum": [kafka.group_of(stage)]}}
            )
            yield f"{stage}Receives{_camel('-' + dataset)}", _operation("receive", dataset, group)
        for dataset in writes:
            yield f"{stage}Sends{_camel('-' + dataset)}", _operation("send", dataset, {})


def _operation(action: str, dataset: str, binding: dict[str, Any]) -> dict[str, Any]:
    channel = {"action": action, "channel": {"$ref": f"#/channels/{_camel(dataset)}"}}
    return channel | {"bindings": {"kafka": {**binding, "bindingVersion": _BINDING}}} if binding else channel


def _messages() -> dict[str, Any]:
    alert_headers = {"ce_specversion": _TEXT, "ce_id": _TEXT, "ce_time": _TEXT, "ce_source": _TEXT}
    return {
        "media": {
            "summary": "An encoded picture; nothing but a value is needed.",
            "contentType": "image/jpeg",
            "headers": _headers(
                {
                    "content-type": {**_TEXT, "description": "image/*; what a picture is, is told from its bytes"},
                    "ce_id": {**_TEXT, "maxLength": 1024},
                    "ce_source": {**_TEXT, "maxLength": 1024, "description": "default: the key, else `unknown`"},
                    "ce_type": _TEXT,
                    "ce_time": {**_TEXT, "format": "date-time", "description": "default: the record's timestamp"},
                    "ce_subject": {**_TEXT, "maxLength": 4096, "description": "a name or address to show people"},
                    "ce_frameindex": {**_TEXT, "pattern": "^[0-9]{1,18}$"},
                }
            ),
            "payload": {**_TEXT, "format": "binary", "description": "JPEG, PNG, WebP, BMP or TIFF"},
            "bindings": _key("source id, UTF-8; may be null"),
        },
        "embeddingBatch": _json_message(
            "embedding-batch",
            "Vectors of one detector. As application/msgpack `vectors` is {dim, dtype, data}, far faster.",
            "detector id, UTF-8",
            {"content-type": {"type": "string", "enum": ["application/json", "application/msgpack"]}},
            ("ce_type", EMBEDDINGS_TYPE),
        ),
        "assignmentBatch": _json_message(
            "assignment-batch", "The decisions about one record of vectors.", "detector id", {}
        ),
        "outlierAlert": _json_message(
            "outlier-alert",
            "One vector far from where the mass of the stream lies.",
            "source id",
            alert_headers,
            ("ce_type", ALERT_TYPE),
        ),
        "clusterEvent": _json_message("cluster-event", "A change in the set of clusters.", "detector id", {}),
        "checkpoint": {
            "summary": "A detector and how far it has read; the last of each is kept.",
            "contentType": "application/octet-stream",
            "payload": {**_TEXT, "format": "binary", "description": "private"},
            "bindings": _key("detector id"),
        },
        "deadLetter": {
            "summary": "A record that cannot be processed: key, value and headers as they came, and six more headers.",
            "contentType": "application/octet-stream",
            "headers": _headers(
                dict.fromkeys(DLQ_HEADERS, _TEXT)
                | {"dlq.reason": {**_TEXT, "enum": [str(reason) for reason in InvalidReason]}},
                required=list(DLQ_HEADERS),
            ),
            "payload": {**_TEXT, "format": "binary"},
            "bindings": _key("as the original"),
        },
    }


def _json_message(
    schema: str, summary: str, key: str, headers: Mapping[str, Any], constant: tuple[str, str] | None = None
) -> dict[str, Any]:
    named = {"content-type": {"type": "string", "enum": ["application/json"]}, **headers}
    if constant is not None:
        named[constant[0]] = {"type": "string", "enum": [constant[1]]}
    return {
        "summary": summary,
        "contentType": "application/json",
        "headers": _headers(named),
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"schemas/{schema}.schema.json"}},
        "bindings": _key(key),
        "examples": [{"name": schema, "payload": msgspec.to_builtins(example_records()[schema])}],
    }


def _headers(properties: Mapping[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties)} | ({"required": required} if required else {})


def _key(description: str) -> dict[str, Any]:
    return {"kafka": {"key": {**_TEXT, "description": description}, "bindingVersion": _BINDING}}


def example_records() -> dict[str, Any]:
    """Return one example of each published type, by the name of its schema."""
    time, model = "2026-01-01T00:00:00.000Z", "efficientnet-lite0@1"
    media = MediaRef("vision.frames.v1", 3, 1042, "image/jpeg", 1_767_225_600_000)
    return {
        "embedding-batch": EmbeddingBatchJson(
            "flows@1", [[0.1, 0.7], [0.2, 0.6]], [Item("flow-1", "router-1", time), Item("flow-2", "router-1", time)]
        ),
        "assignment-batch": AssignmentBatch(
            "shared",
            model,
            EmbeddingsRef("vision.embeddings.v1", 3, 77),
            [Assignment("a-1", "cam-1", time, media, None, "scored", 17, 0.31, 0.6, 0.03, False)],
        ),
        "outlier-alert": OutlierAlert(
            id="a-2",
            detector="shared",
            source="cam-1",
            time=time,
            detected_at=time,
            subject="gate, north side",
            media=media,
            region=None,
            outlier_score=0.79,
            p_value=0.0002,
            threshold=0.75,
            nearest_clusters=[NearCluster(17, 0.61, 4021)],
            thumbnail=None,
            model=model,
            metadata={"frameindex": 1042},
        ),
        "cluster-event": ClusterEvent("e-1", "birth", time, "shared", 18, [], 40, ["a-3", "a-4"]),
    }
