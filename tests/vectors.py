"""Embedding records for the tests: clustered vectors, and the bytes that carry them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farpoint.wire import Headers

MODEL = "numbers@1"
DIMENSION = 16
MSGPACK_HEADERS: Headers = [("content-type", b"application/msgpack")]

Vectors = NDArray[np.float32]


def clustered(rng: np.random.Generator, count: int) -> Vectors:
    """Return vectors around four directions, none of them near the last axis."""
    centres = np.eye(DIMENSION, dtype=np.float32)[:4]
    return (centres[rng.integers(0, 4, count)] + rng.normal(0, 0.05, (count, DIMENSION))).astype(np.float32)


def outlier() -> Vectors:
    """Return one vector far from all of them."""
    return np.eye(DIMENSION, dtype=np.float32)[-1:]


def as_json(vectors: Vectors, items: Sequence[dict[str, Any]] | None = None, model: str = MODEL) -> bytes:
    """Write a record as people do."""
    fields = {"model": model, "vectors": vectors.tolist()}
    return json.dumps(fields if items is None else fields | {"items": list(items)}).encode()


def as_msgpack(
    vectors: NDArray[Any], items: Sequence[dict[str, Any]] | None = None, dtype: str = "float32", model: str = MODEL
) -> bytes:
    """Write a record as programs do, by the contract alone."""
    data = vectors.astype({"float32": "<f4", "float16": "<f2"}[dtype]).tobytes()
    fields = {"model": model, "vectors": {"dim": vectors.shape[1], "dtype": dtype, "data": data}}
    return msgspec.msgpack.encode(fields if items is None else fields | {"items": list(items)})
