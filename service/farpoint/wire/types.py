"""What travels, field by field: these types are also the JSON Schemas under `deploy/schemas`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from farpoint.wire.text import MAX_ATTRIBUTES, MAX_NAME, MAX_TEXT

MAX_VECTORS = 8192
_MAX_THUMBNAIL_BYTES = 512 * 1024

# `gc=False`: these are made by the thousand and hold no cycles, so the garbage collector need not look through them.

Time = Annotated[str, Meta(description="RFC 3339, such as 2026-01-01T00:00:00.000Z")]
ItemId = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, description="stays the same when work is redone")]
Subject = Annotated[str, Meta(max_length=MAX_TEXT, description="a name or address to show people")]


class MediaRef(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """The record a picture came in."""

    topic: Annotated[str, Meta(max_length=249)]
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    content_type: Annotated[str, Meta(max_length=MAX_NAME)] | None = None
    timestamp: Annotated[int, Meta(ge=0, description="of the record, milliseconds since 1970 UTC")] | None = None


Region = Annotated[
    tuple[float, float, float, float], Meta(description="x0, y0, x1, y1 in pixels of the original picture")
]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=MAX_NAME)],
        Annotated[str, Meta(max_length=MAX_TEXT)] | int | float | bool | None,
    ],
    Meta(max_length=MAX_ATTRIBUTES, description="any flat map"),
]


class Item(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What is known of one vector besides its numbers."""

    id: ItemId | None = None
    source: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)] | None = None
    time: Time | None = None
    subject: Subject | None = None
    media: MediaRef | None = None
    region: Region | None = None
    thumbnail: Annotated[bytes, Meta(max_length=_MAX_THUMBNAIL_BYTES, description="JPEG; base64 in JSON")] | None = None
    metadata: Metadata = {}


class PackedVectors(Struct, forbid_unknown_fields=True):
    """Vectors as little-endian numbers, row after row."""

    dim: Annotated[int, Meta(ge=1, le=65536)]
    dtype: Literal["float32", "float16"]
    data: bytes


class EmbeddingBatchJson(Struct, forbid_unknown_fields=True):
    """Vectors of one detector, as people write them by hand."""

    model: Annotated[
        str, Meta(min_length=1, max_length=MAX_NAME, description="the vector space; one detector serves one")
    ]
    vectors: Annotated[
        list[Annotated[list[float], Meta(min_length=1, max_length=65536)]], Meta(min_length=1, max_length=MAX_VECTORS)
    ]
    items: list[Item] | None = None


class EmbeddingBatchMsgpack(Struct, forbid_unknown_fields=True):
    """Vectors of one detector, as Farpoint writes them."""

    model: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    vectors: PackedVectors
    items: list[Item] | None = None


class EmbeddingsRef(Struct, frozen=True):
    """The record of the embeddings topic that a decision is about."""

    topic: str
    partition: int
    offset: int


class Assignment(Struct, gc=False):
    """The decision about one vector."""

    id: ItemId
    source: str
    time: Time
    media: MediaRef | None
    subject: str | None
    state: Literal["warming_up", "scored"]
    cluster_id: Annotated[int, Meta(description="never reused within a detector")] | None
    distance: Annotated[float, Meta(ge=0, description="to that cluster's centroid")] | None
    outlier_score: Annotated[float, Meta(ge=0, le=1, description="high = outlier")] | None
    p_value: Annotated[float, Meta(ge=0, le=1, description="share of recent normal scores at least this high")] | None
    is_outlier: bool


class AssignmentBatch(Struct):
    """The decisions about one EmbeddingBatch record: same key, same partition, same order."""

    detector: str
    model: str
    embeddings: EmbeddingsRef
    items: list[Assignment]


class NearCluster(Struct):
    """A cluster near an outlier."""

    cluster_id: int
    distance: Annotated[float, Meta(ge=0)]
    size: Annotated[int, Meta(ge=0, description="vectors it has taken in, older ones weighing less")]


class OutlierAlert(Struct):
    """One vector far from where the mass of the stream lies."""

    id: Annotated[str, Meta(description="the item's id: the same when work is redone after a crash")]
    detector: str
    source: str
    time: Time
    detected_at: Annotated[Time, Meta(description="when the vector entered the embeddings log")]
    subject: str | None
    media: MediaRef | None
    region: Region | None
    outlier_score: Annotated[float, Meta(ge=0, le=1)]
    p_value: Annotated[float, Meta(ge=0, le=1)]
    threshold: Annotated[float, Meta(ge=0, le=1, description="the score from which a vector is an outlier")]
    nearest_clusters: Annotated[list[NearCluster], Meta(max_length=3, description="nearest first")]
    thumbnail: Annotated[str, Meta(description="data:image/jpeg;base64,...")] | None
    model: str
    metadata: Metadata


class ClusterEvent(Struct):
    """A change in the set of clusters."""

    id: str
    type: Literal["birth", "death", "merge", "split"]
    time: Time
    detector: str
    cluster_id: int
    from_: Annotated[list[int], Meta(description="clusters it came from")] = msgspec.field(name="from")
    size: int
    exemplars: Annotated[list[str], Meta(description="ids of items near the centroid")]


def wire_types() -> Mapping[str, Any]:
    """Return the types whose JSON Schemas are published under `deploy/schemas`."""
    return {
        "embedding-batch": EmbeddingBatchJson,
        "assignment-batch": AssignmentBatch,
        "outlier-alert": OutlierAlert,
        "cluster-event": ClusterEvent,
    }
