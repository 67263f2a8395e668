"""A picture on its way to Kafka: its bytes, and what is known about it.

What comes from a file gets an id and a time that are a function of the file: published again, it is recognised.
"""

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from PIL import ExifTags

from farpoint.publishing.media_sources import ImageFile, Video
from farpoint.wire import rfc3339
from farpoint_models import image_header
from farpoint_models.errors import InvalidRecord

MediaTopic = Literal["images", "frames"]

EVENT_TYPES: Mapping[MediaTopic, str] = {"images": "farpoint.image.v1", "frames": "farpoint.frame.v1"}

_FINGERPRINT_BYTES = 2**20
_EXIF_TIME_ORIGINAL, _EXIF_OFFSET_ORIGINAL = ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal


@dataclass(frozen=True)
class Picture:
    r"""An encoded picture and what is known about it. Only `data` is needed.

    Parameters
    ----------
    data
        The encoded picture; it travels byte for byte.
    source
        Where it comes from: a camera, a folder, a customer.
    id
        Stays the same when the same picture is published again; default: a new one.
    time
        When it was taken, RFC 3339; default: now.
    subject
        A name or address to show people.
    frame_index
        Its number in the video.
    content_type
        Default: told from the data.
    metadata
        Anything else that shall come back with an alert; names of lower-case letters and digits (CloudEvents).

    Examples
    --------
    >>> picture = Picture(b"\xff\xd8\xff...", source="cam-1", id="1", time="2026-01-01T00:00:00Z", frame_index=7)
    >>> for name, value in picture.headers("frames"):
    ...     print(name, value.decode())
    content-type image/jpeg
    ce_specversion 1.0
    ce_id 1
    ce_source cam-1
    ce_type farpoint.frame.v1
    ce_time 2026-01-01T00:00:00Z
    ce_frameindex 7
    """

    data: bytes
    source: str
    id: str | None = None
    time: str | None = None
    subject: str | None = None
    frame_index: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def headers(self, topic: MediaTopic) -> list[tuple[str, bytes]]:
        """Return the CloudEvents headers, binary mode."""
        known = {
            "content-type": self.content_type or _content_type(self.data),
            "ce_specversion": "1.0",
            "ce_id": self.id or str(uuid.uuid4()),
            "ce_source": self.source,
            "ce_type": EVENT_TYPES[topic],
            "ce_time": self.time or now(),
            "ce_subject": self.subject,
            "ce_frameindex": None if self.frame_index is None else str(self.frame_index),
        }
        headers = {name: value for name, value in known.items() if value is not None}
        return [
            *((name, value.encode()) for name, value in headers.items()),
            *((f"ce_{name}", value.encode()) for name, value in self.metadata.items()),
        ]


def _content_type(data: bytes) -> str:
    try:
        return f"image/{image_header.recognise(data).lower()}"
    except InvalidRecord:
        return "application/octet-stream"


def read_image(image: ImageFile, max_pixels: int, round_: int = 0) -> Picture:
    """Read a picture file, byte for byte.

    It was taken when its EXIF block says (in the local time zone, where it names none), otherwise when the file was
    last modified.

    Parameters
    ----------
    image
        The file.
    max_pixels
        More than a picture may declare.
    round_
        How often it was published before: each time it is another item.

    Raises
    ------
    InvalidRecord
        It is no picture, cut off, or larger than `max_pixels`: it would become a dead letter.
    OSError
        It cannot be read.
    """
    data = image.path.read_bytes()
    header = image_header.read_header(data)
    image_header.check_size(header, max_pixels)
    taken = None
    if header.format == "JPEG":
        image_header.check_jpeg_complete(data)
        taken = _exif_time(data)
    return Picture(
        data,
        source=image.source,
        id=_stable_id(image.source, image.subject, hashlib.sha256(data).hexdigest(), round_),
        time=time_text(image.path.stat().st_mtime if taken is None else taken),
        subject=image.subject,
    )


class Recording:
    """What is the same whenever a video file is published: the ids and times of its frames.

    A file was finished when its last frame was taken, so frame times are its modification time, less its duration, plus
    the position.
    """

    def __init__(self, video: Video, duration: float) -> None:
        path = Path(str(video.address))
        stat = path.stat()
        with path.open("rb") as file:
            beginning = hashlib.sha256(file.read(_FINGERPRINT_BYTES)).hexdigest()
        self._parts = (video.source, video.subject, beginning, stat.st_size)
        self._start = stat.st_mtime - duration

    def frame_id(self, index: int, round_: int = 0) -> str:
        """Return the id of a frame; each round of a loop has its own."""
        return _stable_id(*self._parts, index, round_)

    def time(self, seconds: float) -> str:
        """Return when the frame at this position was taken."""
        return time_text(self._start + seconds)


def now() -> str:
    """Return the time as it travels."""
    return rfc3339(time.time_ns() // 1_000_000)


def time_text(seconds: float) -> str:
    """Write a time of a file; one that no calendar has becomes the present.

    >>> time_text(1767225600.123)
    '2026-01-01T00:00:00.123Z'
    """
    try:
        return rfc3339(round(seconds * 1000))
    except (ValueError, OverflowError, OSError):
        return now()


def _stable_id(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "farpoint:" + "\n".join(str(part) for part in parts)))


def _exif_time(jpeg: bytes) -> float | None:
    try:
        exif = image_header.open_lazily(jpeg, "JPEG").getexif().get_ifd(ExifTags.IFD.Exif)
        if _EXIF_OFFSET_ORIGINAL in exif:
            text = f"{exif[_EXIF_TIME_ORIGINAL]}{exif[_EXIF_OFFSET_ORIGINAL]}"
            return datetime.strptime(text, "%Y:%m:%d %H:%M:%S%z").timestamp()
        return datetime.strptime(exif[_EXIF_TIME_ORIGINAL], "%Y:%m:%d %H:%M:%S").astimezone().timestamp()
    except Exception:
        return None  # no such block, or a broken one: the file's time will do
