"""The doors that bytes from outside come in by: for each some real inputs, and the errors it may answer with."""

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from farpoint.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from farpoint.errors import SettingsError
from farpoint.fold import DetectorFold
from farpoint.settings import CONFIG_VARIABLE, PREFIX, DetectorSettings, MediaSettings, load_settings
from farpoint.wire import EMBEDDINGS_TYPE, RecordRef, read_embeddings, read_media
from farpoint_models import snapshot
from farpoint_models.embedder import DummyEmbedder
from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.images import decode_image, preprocess, read_header, thumbnail_jpeg
from tests.fuzz.mutation import Fields
from tests.pictures import encode, scene
from tests.vectors import as_json, as_msgpack, clustered

REF = RecordRef("vision.frames.v1", 3, 1042, 1_767_225_600_000)
CARD = DummyEmbedder().card


@dataclass(frozen=True)
class Target:
    """One door: `try_one` returns where it took an input, and raises one of `refusals` where it did not."""

    seeds: Sequence[Fields]
    try_one: Callable[[Fields], None]
    refusals: tuple[type[Exception], ...] = (InvalidRecord,)


def is_clear(error: Exception) -> bool:
    """Whether a refusal is what people and programs can use: one printable line, and a reason of the closed list."""
    message = error.message if isinstance(error, InvalidRecord) else str(error)
    known = not isinstance(error, InvalidRecord) or error.reason in list(InvalidReason)
    return known and bool(message) and message.isprintable() and len(message) < 1000


# --- pictures -------------------------------------------------------------------------------------------------------


def _picture_seeds() -> list[Fields]:
    picture = scene(np.random.default_rng(0)).resize((48, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (picture, "JPEG", {"exif": exif.tobytes()}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {"exif": exif.tobytes()}),
        (picture.convert("RGBA"), "PNG", {}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture.convert("I;16"), "PNG", {}),
        (picture, "PNG", {"save_all": True, "append_images": [picture.rotate(90)]}),
        (picture, "WebP", {"exif": exif.tobytes()}),
        (picture, "WebP", {"lossless": False}),
        (picture, "WebP", {"save_all": True, "append_images": [picture.rotate(90)]}),
        (picture, "BMP", {}),
        (picture.convert("P"), "BMP", {}),
        (picture, "TIFF", {"exif": exif.tobytes()}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (picture, "TIFF", {"compression": "jpeg"}),
        (picture.convert("F"), "TIFF", {}),
        (picture.convert("1"), "TIFF", {"compression": "group4"}),
    ]
    return [(encode(image, kind, **options),) for image, kind, options in kinds]


def _picture(fields: Fields) -> None:
    with suppress(InvalidRecord):
        read_header(fields[0])
    image = decode_image(fields[0], max_pixels=MediaSettings().max_pixels, min_side=CARD.input.width)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    thumbnail_jpeg(image)
    preprocess(image, CARD)


# --- records --------------------------------------------------------------------------------------------------------

_MEDIA_HEADERS = ("content-type", "ce_id", "ce_source", "ce_time", "ce_subject", "ce_frameindex", "ce_site")


def _media_seeds() -> list[Fields]:
    headers = (b"image/jpeg", b"id-1", b"gate", b"2026-01-01T00:00:00.000Z", "Straße 1".encode(), b"17", b"north")
    return [(*headers, b"cam-1", b"\xff\xd8"), (b"", *headers[1:], b"", b"\x89PNG")]


def _media(fields: Fields) -> None:
    *values, key, value = fields
    record = read_media(REF, key, value, list(zip(_MEDIA_HEADERS, values, strict=True)))
    assert record.id
    assert record.source


def _embeddings_seeds() -> list[Fields]:
    vectors = clustered(np.random.default_rng(0), 3)
    items = [
        {
            "id": f"item-{row}",
            "source": "gate",
            "time": "2026-01-01T00:00:00.000Z",
            "subject": "ü",
            "media": {"topic": "vision.frames.v1", "partition": 3, "offset": row, "content_type": "image/jpeg"},
            "region": [0.0, 1.0, 2.0, 3.0],
            "metadata": {"a": 1, "b": 0.5, "c": None, "d": True},
        }
        for row in range(3)
    ]
    return [
        (b"application/json", b"", b"shared", as_json(vectors, items)),
        (b"application/json", b"", b"shared", as_json(vectors)),
        (b"application/msgpack", EMBEDDINGS_TYPE.encode(), b"shared", as_msgpack(vectors, items)),
        (b"application/msgpack", b"", b"shared", as_msgpack(vectors, dtype="float16")),
    ]


def _embeddings(fields: Fields) -> None:
    content_type, kind, key, value = fields
    record = read_embeddings(REF, key, value, [("content-type", content_type), ("ce_type", kind)])
    assert np.isfinite(record.vectors).all()
    assert len(record.items) == len(record.vectors)
    # What passes the door goes through the whole room.
    fold = DetectorFold.begin(record, DetectorSettings(warm_up=2))
    fold.apply(record)


# --- state ----------------------------------------------------------------------------------------------------------


def _fold() -> DetectorFold:
    rng = np.random.default_rng(0)
    fold: DetectorFold | None = None
    for offset in range(6):
        ref = RecordRef("vision.embeddings.v1", 0, offset, REF.timestamp)
        record = read_embeddings(ref, b"shared", as_json(clustered(rng, 16)), [])
        fold = fold or DetectorFold.begin(record, DetectorSettings(warm_up=32, clusters=6))
        fold.apply(record)
    assert fold is not None
    return fold


def _snapshot_seeds() -> list[Fields]:
    warm = _fold().detector
    return [(snapshot.dump(warm),), (snapshot.dump(type(warm)()),)]


def _snapshot(fields: Fields) -> None:
    snapshot.load(fields[0])


def _snapshot_body_seeds() -> list[Fields]:
    return [(data[: snapshot.HEADER.size], data[snapshot.HEADER.size :]) for (data,) in _snapshot_seeds()]


def _snapshot_body(fields: Fields) -> None:
    # As if whoever damaged it had corrected the checksum too.
    head, body = fields
    if len(head) == snapshot.HEADER.size:
        magic, version, length, _ = snapshot.HEADER.unpack(head)
        head = snapshot.HEADER.pack(magic, version, length, zlib.crc32(body))
    snapshot.load(head + body)


def _checkpoint_seeds() -> list[Fields]:
    return [(write_checkpoint(_fold().checkpoint()),)]


def _checkpoint(fields: Fields) -> None:
    DetectorFold.restore(read_checkpoint(fields[0]))


# --- settings -------------------------------------------------------------------------------------------------------


def _settings_seeds() -> list[Fields]:
    toml = b'[kafka]\nbootstrap_servers = "a:9092"\n[detector]\nclusters = 10\nscope = "source"\n[http]\nport = 1\n'
    return [
        (b"DETECTOR__CLUSTERS", b"17", toml),
        (b"KAFKA__SASL_PASSWORD", b"secret", toml),
        (b"MEDIA__MAX_PIXELS", b"1000000", b"[log]\nlevel = 'debug'\n"),
        (b"KAFKA__SSL_CAFILE", b"/etc/ca.pem", b"[detector]\nhalf_life_vectors = 1e4\n"),
    ]


def _settings(fields: Fields) -> None:
    name, value, toml = fields
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        Path(file.name).write_bytes(toml)
        variable = PREFIX.encode() + name.replace(b"\0", b"").replace(b"=", b"")
        with _environment({variable: value.replace(b"\0", b""), CONFIG_VARIABLE.encode(): file.name.encode()}):
            load_settings()


@contextmanager
def _environment(variables: dict[bytes, bytes]) -> Iterator[None]:
    before = dict(os.environb)
    os.environb.update(variables)
    try:
        yield
    finally:
        os.environb.clear()
        os.environb.update(before)


def targets() -> dict[str, Target]:
    """Return every door by its name."""
    return {
        "pictures": Target(_picture_seeds(), _picture),
        "media": Target(_media_seeds(), _media),
        "embeddings": Target(_embeddings_seeds(), _embeddings),
        "snapshot": Target(_snapshot_seeds(), _snapshot, (snapshot.SnapshotError,)),
        "snapshot-body": Target(_snapshot_body_seeds(), _snapshot_body, (snapshot.SnapshotError,)),
        "checkpoint": Target(_checkpoint_seeds(), _checkpoint, (CheckpointError,)),
        "settings": Target(_settings_seeds(), _settings, (SettingsError,)),
    }
