"""Records on the wire: the one place that knows their shape.

Reading turns **bytes** into checked values or raises `InvalidRecord`; writing turns values into bytes. The classes in
`types` are also the JSON Schemas under `deploy/schemas`, so a field is named, typed and explained there and nowhere
else.

    media record       bytes + headers -> MediaRecord
    EmbeddingBatch     msgpack or JSON -> EmbeddingRecord (float32 array and items)
    AssignmentBatch, OutlierAlert, ClusterEvent -> JSON
"""

from farpoint.wire.dead_letters import DLQ_HEADERS, dead_letter_headers
from farpoint.wire.decisions import ALERT_TYPE, JSON_HEADERS, alert_headers, data_url, picture_bytes, write_json
from farpoint.wire.embeddings import (
    EMBEDDINGS_TYPE,
    EmbeddingRecord,
    embeddings_headers,
    read_embeddings,
    write_embeddings,
)
from farpoint.wire.media import MediaRecord, read_media
from farpoint.wire.provenance import RecordRef, derived_id, rfc3339
from farpoint.wire.text import JSON, MSGPACK, Headers
from farpoint.wire.types import (
    Assignment,
    AssignmentBatch,
    ClusterEvent,
    EmbeddingBatchJson,
    EmbeddingBatchMsgpack,
    EmbeddingsRef,
    Item,
    MediaRef,
    NearCluster,
    OutlierAlert,
    wire_types,
)

__all__ = [
    "ALERT_TYPE",
    "DLQ_HEADERS",
    "EMBEDDINGS_TYPE",
    "JSON",
    "JSON_HEADERS",
    "MSGPACK",
    "Assignment",
    "AssignmentBatch",
    "ClusterEvent",
    "EmbeddingBatchJson",
    "EmbeddingBatchMsgpack",
    "EmbeddingRecord",
    "EmbeddingsRef",
    "Headers",
    "Item",
    "MediaRecord",
    "MediaRef",
    "NearCluster",
    "OutlierAlert",
    "RecordRef",
    "alert_headers",
    "data_url",
    "dead_letter_headers",
    "derived_id",
    "embeddings_headers",
    "picture_bytes",
    "read_embeddings",
    "read_media",
    "rfc3339",
    "wire_types",
    "write_embeddings",
    "write_json",
]
