"""The JSON Schemas under deploy/schemas: generated from the wire types, committed, and true of what is written."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from farpoint.schemas import json_schemas, schema_text
from farpoint.wire import (
    Assignment,
    AssignmentBatch,
    ClusterEvent,
    EmbeddingsRef,
    MediaRef,
    NearCluster,
    OutlierAlert,
    RecordRef,
    data_url,
    read_embeddings,
    write_json,
)
from farpoint_models.errors import InvalidRecord

SCHEMAS = Path(__file__).parents[2] / "deploy" / "schemas"
MEDIA = MediaRef("vision.frames.v1", 3, 1042, "image/jpeg", 1_767_225_600_000)
TIME = "2026-01-01T00:00:00.000Z"
ITEM = {
    "id": "a",
    "source": "cam-1",
    "time": TIME,
    "subject": None,
    "media": {"topic": "vision.frames.v1", "partition": 3, "offset": 1042, "content_type": "image/jpeg"},
    "region": [0, 0, 10.5, 20],
    "thumbnail": base64.b64encode(b"jpeg").decode(),
    "metadata": {"any": "flat", "map": 1},
}
EMBEDDINGS: dict[str, Any] = {"model": "m@1", "vectors": [[0.1, 0.2]], "items": [ITEM]}


def validator(name: str) -> Draft202012Validator:
    """Return the validator of a committed schema."""
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8")))


def test_the_committed_schemas_are_not_stale() -> None:
    """Each file is what the types say now; `python -m farpoint.schemas` writes them."""
    assert sorted(path.name for path in SCHEMAS.iterdir()) == sorted(json_schemas())
    for name, schema in json_schemas().items():
        assert (SCHEMAS / name).read_text(encoding="utf-8") == schema_text(schema), f"{name} is stale"


@pytest.mark.parametrize("name", json_schemas())
def test_each_is_a_schema_of_2020_12(name: str) -> None:
    """Each schema is valid, says its dialect, and has an id and a title of its own."""
    schema = json_schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].startswith("urn:farpoint:schema:")
    assert schema["title"]
    assert schema["description"]


def test_ids_and_titles_are_their_own() -> None:
    """No two schemas share an id or a title."""
    schemas = json_schemas().values()
    assert len({schema["$id"] for schema in schemas}) == len({schema["title"] for schema in schemas}) == len(schemas)


def test_assignments_fit_their_schema() -> None:
    """Both states of a decision, as written, are valid."""
    scored = Assignment("a", "cam-1", TIME, MEDIA, None, "scored", 17, 0.31, 0.93, 0.004, False)
    warming = Assignment("b", "cam-1", TIME, None, "s", "warming_up", None, None, None, None, False)
    batch = AssignmentBatch("shared", "m@1", EmbeddingsRef("vision.embeddings.v1", 3, 77), [scored, warming])
    validator("assignment-batch").validate(json.loads(write_json(batch)))


@pytest.mark.parametrize("whole", [True, False])
def test_alerts_fit_their_schema(whole: bool) -> None:
    """An alert with everything and one with the least, as written, are valid."""
    alert = OutlierAlert(
        id="a",
        detector="shared",
        source="cam-1",
        time=TIME,
        detected_at=TIME,
        subject="s" if whole else None,
        media=MEDIA if whole else None,
        region=(0, 0, 1, 1) if whole else None,
        outlier_score=0.97,
        p_value=0.0002,
        threshold=0.95,
        nearest_clusters=[NearCluster(17, 0.61, 4021)] if whole else [],
        thumbnail=data_url(b"jpeg") if whole else None,
        model="m@1",
        metadata={"any": "flat", "n": None} if whole else {},
    )
    validator("outlier-alert").validate(json.loads(write_json(alert)))


def test_cluster_events_fit_their_schema() -> None:
    """A merge, as written, is valid and says where it came `from`."""
    event = ClusterEvent("e", "merge", TIME, "shared", 17, [3, 17], 4021, ["a"])
    written = json.loads(write_json(event))
    assert written["from"] == [3, 17]
    validator("cluster-event").validate(written)


@pytest.mark.parametrize("batch", [EMBEDDINGS, {"model": "m@1", "vectors": [[1]]}, EMBEDDINGS | {"items": None}])
def test_embeddings_by_hand_fit_their_schema(batch: dict[str, Any]) -> None:
    """What the schema allows is read."""
    validator("embedding-batch").validate(batch)
    record = read_embeddings(RecordRef("t", 0, 0, 0), b"d", json.dumps(batch).encode(), [])
    assert record.vectors.dtype == np.float32


@pytest.mark.parametrize(
    "batch",
    [
        {"vectors": [[1]]},
        {"model": "m@1"},
        EMBEDDINGS | {"extra": 1},
        EMBEDDINGS | {"vectors": [["1"]]},
        EMBEDDINGS | {"vectors": []},
        EMBEDDINGS | {"items": [ITEM | {"unknown": 1}]},
        EMBEDDINGS | {"items": [ITEM | {"id": ""}]},
    ],
)
def test_what_the_schema_refuses_is_refused(batch: dict[str, Any]) -> None:
    """Schema and reader agree on what is no EmbeddingBatch."""
    with pytest.raises(ValidationError):
        validator("embedding-batch").validate(batch)
    with pytest.raises(InvalidRecord, match="schema_mismatch"):
        read_embeddings(RecordRef("t", 0, 0, 0), b"d", msgspec.json.encode(batch), [])
