"""What is published during a run: a function of the seed alone, good and bad records mixed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tests.pictures import encode, jpeg, scene, stranger
from tests.vectors import MODEL, as_json, as_msgpack, clustered, outlier

BAD_SHARE = 0.04
PER_RECORD = 8
DETECTORS = ("north", "south", "west", "east")
SOURCES = ("gate", "hall", "yard")

Dataset = Literal["frames", "images", "embeddings"]


@dataclass(frozen=True, slots=True)
class Scripted:
    """One record to publish; `good` says whether it must be decided or become a dead letter."""

    number: int
    dataset: Dataset
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    good: bool


def script(seed: int) -> Iterator[Scripted]:
    """Yield records without end: of five, two of pictures and three of vectors."""
    rng = np.random.default_rng([seed, 0])
    pictures = [jpeg(rng) for _ in range(24)]
    strange = [encode(stranger(rng)) for _ in range(4)]
    broken = [b"", b"no picture", pictures[0][:900], encode(scene(rng), "PNG")[:-300]]
    number = 0
    while True:
        yield _vectors(number, rng) if number % 5 > 1 else _picture(number, rng, pictures, strange, broken)
        number += 1


def _picture(
    number: int, rng: np.random.Generator, pictures: list[bytes], strange: list[bytes], broken: list[bytes]
) -> Scripted:
    good = bool(rng.random() >= BAD_SHARE)
    chosen = broken if not good else strange if rng.random() < 0.02 else pictures
    value = chosen[int(rng.integers(len(chosen)))]
    headers = (("ce_id", b"picture-%d" % number),)
    if number % 10 == 0:
        return Scripted(number, "images", None, value, headers, good)
    return Scripted(number, "frames", SOURCES[number % len(SOURCES)].encode(), value, headers, good)


def _vectors(number: int, rng: np.random.Generator) -> Scripted:
    detector = DETECTORS[int(rng.integers(len(DETECTORS)))]
    vectors = clustered(rng, PER_RECORD)
    if rng.random() < 0.05:
        vectors[3] = outlier()[0]
    items = [
        {"id": f"vector-{number}-{row}", "source": detector, "time": "2026-01-01T00:00:00.000Z"}
        for row in range(PER_RECORD)
    ]
    good = bool(rng.random() >= BAD_SHARE)
    model = MODEL
    if not good:
        match int(rng.integers(4)):
            case 0:
                vectors[1, 2] = np.nan
            case 1:
                vectors = vectors[:, :-1]
            case 2:
                items = items[:-1]
            case _:
                model = "another@1"
    if number % 2 and np.isfinite(vectors).all():
        return Scripted(number, "embeddings", detector.encode(), as_json(vectors, items, model), (), good)
    headers = (("content-type", b"application/msgpack"),)
    return Scripted(
        number, "embeddings", detector.encode(), as_msgpack(vectors, items, model=model), headers, good
    )  # fmt: skip
