"""Detector <-> bytes: versioned, compact, checked, deterministic; nothing is unpickled."""

import json
import struct
import zlib
from typing import Any

import numpy as np

from .clusters import NAMES
from .detector import OutlierDetector
from .geometry import Array
from .quarantine import Quarantine

MAGIC = b"FARPOINT"
VERSION = 2
HEADER = struct.Struct("<8sHII")  # magic, version, length of the table, checksum of all that follows
DTYPES = {"<f4", "<f8", "<i8", "|b1"}


class SnapshotError(ValueError):
    """These bytes are not a detector this version can restore."""


def dump(detector: OutlierDetector) -> bytes:
    """Save a detector as bytes; equal detectors give equal bytes.

    Raises
    ------
    SnapshotError
        When features were learned from dictionaries whose keys are not strings.

    Examples
    --------
    >>> detector = OutlierDetector(warm_up=2)
    >>> changes = detector.learn_many([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    >>> load(dump(detector)).n_seen
    3
    """
    kmeans = detector.kmeans
    names = kmeans.feature_names
    if names is not None and not all(isinstance(name, str) for name in names):
        raise SnapshotError("only features with string names can be saved")
    arrays: dict[str, Array] = {}
    for name in NAMES:
        arrays[f"clusters.{name}"] = getattr(kmeans.live, name)
    arrays["clusters.trials"] = kmeans.review.trials
    if kmeans.buffer:
        arrays["buffer"] = np.concatenate(kmeans.buffer)
    parts: dict[str, Any] = {
        "calibration": detector.calibration,
        "space": kmeans.space if kmeans.dimension else None,
        "quarantine": detector.quarantine,
    }
    for prefix, part in parts.items():
        if part is not None:
            arrays |= {f"{prefix}.{name}": array for name, array in part.state().items()}
    settings = {name: getattr(detector, name) for name in _settings()}
    table: dict[str, Any] = {
        "settings": settings,
        "dimension": detector.dimension,
        "n_seen": detector.n_seen,
        "next_id": kmeans.live.next_id,
        "splits": kmeans.splits,
        "review": [kmeans.review.due, kmeans.review.pause, kmeans.review.largest],
        "feature_names": names,
        "arrays": [],
    }
    blocks = []
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"))
        table["arrays"].append([name, array.dtype.str, list(array.shape)])
        blocks.append(array.tobytes())
    head = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    body = head + b"".join(blocks)
    return HEADER.pack(MAGIC, VERSION, len(head), zlib.crc32(body)) + body


def load(data: bytes) -> OutlierDetector:
    """Restore the detector that `dump` saved.

    Raises
    ------
    SnapshotError
        When the bytes are damaged, something else, or of another version.
    """
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise SnapshotError("not a detector snapshot")
    _, version, length, checksum = HEADER.unpack_from(data)
    if version != VERSION:
        raise SnapshotError(f"snapshot has version {version}, this program reads version {VERSION}")
    body = data[HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise SnapshotError("snapshot is damaged: its checksum does not match")
    try:
        return _restore(body, length)
    except SnapshotError:
        raise
    except Exception as error:  # the checksum was made for these bytes, but not by `dump`
        raise SnapshotError(f"snapshot is damaged: {' '.join(repr(error).split())[:160]}") from error


def _restore(body: bytes, length: int) -> OutlierDetector:
    table = json.loads(body[:length])
    arrays = _read(table["arrays"], memoryview(body)[length:])
    detector = OutlierDetector(**table["settings"])
    kmeans = detector.kmeans
    live, review = kmeans.live, kmeans.review
    kmeans.n_seen, live.next_id, kmeans.feature_names = table["n_seen"], table["next_id"], table["feature_names"]
    kmeans.splits = table["splits"]
    review.due, review.pause, review.largest = table["review"]
    review.trials = arrays["clusters.trials"].reshape(-1, 3)
    if table["dimension"] is None:
        return detector
    kmeans.begin(table["dimension"])
    kmeans.space.restore(_part(arrays, "space"))
    detector.calibration.restore(_part(arrays, "calibration"))
    if "buffer" in arrays:
        kmeans.buffer = [arrays["buffer"]]
    for name in NAMES:
        setattr(live, name, arrays[f"clusters.{name}"])
    clusters = len(live)
    if any(len(arrays[f"clusters.{name}"]) != clusters for name in NAMES):
        raise SnapshotError("snapshot is damaged: its clusters do not match")
    live.place()
    if kmeans.is_warm:
        detector.quarantine = Quarantine(kmeans.space, detector.half_life_vectors)
        detector.quarantine.restore(_part(arrays, "quarantine"))
    return detector


def _settings() -> tuple[str, ...]:
    return ("geometry", "clusters", "warm_up", "half_life_vectors", "false_alarm_rate", "seed")


def _read(entries: list[Any], blocks: memoryview) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    at = 0
    for name, dtype, shape in entries:
        if dtype not in DTYPES:
            raise SnapshotError(f"snapshot holds numbers of an unknown kind {dtype!r}")
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(blocks, dtype, count, at).reshape(shape).copy()
        at += arrays[name].nbytes
    return arrays


def _part(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(prefix + ".")}
