"""What a PATH on the command line is: picture, video, camera or stream, told by content and never by its extension.

| PATH | found |
| --- | --- |
| a picture file | an `ImageFile`; its source is the name of the folder it lies in |
| a video file | a `Video`; its source is the file's name without extension |
| a folder | everything in it, recursively, in natural order (frame-9 before frame-10), hidden files left out |
| a pattern (`'night/*.jpg'`, `**` for any folders) | every match, where no file has that very name |
| `camera:0`, `/dev/video0` | a live `Video`, source `camera-0` |
| `rtsp://`, `http(s)://`, ... | a live `Video`, source host and path without credentials |

Different media never share a source by accident: the second `rec.mp4` takes its folder's name along (`lobby/rec`).
"""

import errno
import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from farpoint.publishing.addresses import STREAM_SCHEMES, without_credentials
from farpoint_models.errors import InvalidRecord
from farpoint_models.image_header import recognise

# Matroska, Flash, Ogg, Windows Media, GIF, YUV4MPEG, MPEG programme and elementary streams.
_VIDEO_BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75",
    b"GIF8",
    b"YUV4MPEG2 ",
    b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3",
)
_MAX_SOURCE = 1024  # characters of a key that the worker accepts


@dataclass(frozen=True)
class ImageFile:
    """A picture on disk.

    Attributes
    ----------
    path
        The file.
    source, subject
        Where it comes from, and what to call it to people: its path within the folder that was asked for.
    """

    path: Path
    source: str
    subject: str

    @property
    def name(self) -> str:
        """What it is called in a message."""
        return text_of(self.path)


@dataclass(frozen=True)
class Video:
    """Something that gives frame after frame: a video file, a camera or a stream.

    Attributes
    ----------
    kind
        `file`, `camera` or `stream`.
    address
        What OpenCV opens. It may hold a password, so it is shown nowhere.
    source, subject
        The source id of its frames, and what to call it to people.
    name
        What it is called in a message, without credentials.
    """

    kind: Literal["file", "camera", "stream"]
    address: str | int = field(repr=False)
    source: str
    subject: str
    name: str


@dataclass(frozen=True)
class Unreadable:
    """A PATH, or a file in a folder, that is no medium."""

    name: str
    reason: str


Medium = ImageFile | Video


def find_media(paths: Sequence[str], source: str | None = None) -> list[Medium | Unreadable]:
    """Find the media that paths name, in order.

    Parameters
    ----------
    paths
        As on the command line; see the table of this module.
    source
        The source id of everything found, instead of the names above.

    Returns
    -------
    list of ImageFile, Video or Unreadable
        What is unreadable does not hide what is not.

    Examples
    --------
    >>> [camera, stream, missing] = find_media(["camera:0", "rtsp://me:secret@10.0.0.7/hall", "missing.mp4"])
    >>> camera.source, stream.source, stream.subject
    ('camera-0', '10.0.0.7/hall', 'rtsp://10.0.0.7/hall')
    >>> missing
    Unreadable(name='missing.mp4', reason='no such file or folder')
    """
    owners: dict[str, object] = {}
    return [
        found if isinstance(found, Unreadable) else _with_source(found, identity, source, owners)
        for path in paths
        for found, identity in _look_at(path)
    ]


# Something found, and what must not share a source with anything else: a video, or the folder of pictures.
_Found = tuple[Medium | Unreadable, tuple[str, ...]]


def _look_at(text: str) -> Iterator[_Found]:
    if text.startswith("camera:"):
        number = text.removeprefix("camera:")
        if number.isascii() and number.isdigit():
            yield Video("camera", int(number), f"camera-{int(number)}", text, text), (text,)
        else:
            yield _unreadable(text, "a camera is camera:0, camera:1, ...")
    elif scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text):
        yield _stream(text, scheme[1].lower())
    else:
        yield from _on_disk(text)


def _on_disk(text: str) -> Iterator[_Found]:
    try:
        mode = os.stat(text).st_mode  # noqa: PTH116 -- Path would normalise what the user typed
    except OSError as error:
        if error.errno == errno.ENOENT and glob.has_magic(text):
            matches = sorted(glob.iglob(text, recursive=True), key=_natural)  # noqa: PTH207 -- patterns may be absolute
            for match in matches:
                yield from _on_disk(match)
            if not matches:
                yield _unreadable(text, "no file matches")
        else:
            yield _unreadable(text, _why(error))
        return
    path = Path(text)
    if stat.S_ISDIR(mode):
        yield from _folder(path)
    elif stat.S_ISCHR(mode):
        number = re.fullmatch(r"/dev/video(\d+)", text)
        address: str | int = int(number[1]) if number else text
        source = f"camera-{number[1]}" if number else path.name
        yield Video("camera", address, source, text, text), (text,)
    else:
        yield _file(path, path.parent)


def _folder(root: Path) -> Iterator[_Found]:
    unreadable: list[OSError] = []
    paths: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=unreadable.append):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    for path in sorted(paths, key=_natural):
        yield _file(path, root)
    for error in unreadable:
        yield _unreadable(os.fsdecode(error.filename), _why(error))
    if not paths and not unreadable:
        yield _unreadable(text_of(root), "an empty folder")


def _file(path: Path, root: Path) -> _Found:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return _unreadable(text_of(path), "not a file")
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return _unreadable(text_of(path), _why(error))
    subject = text_of(path.relative_to(root))
    if looks_like_video(head):
        # Absolute, so that FFmpeg never takes a part of the name for a protocol.
        address = str(path.absolute())
        return Video("file", address, text_of(path.stem), subject, text_of(path)), (address,)
    try:
        recognise(head)
    except InvalidRecord:
        reason = "neither a picture (JPEG, PNG, WebP, BMP, TIFF) nor a video" if head else "an empty file"
        return _unreadable(text_of(path), reason)
    folder = root.resolve()
    return ImageFile(path, text_of(folder.name) or "images", subject), ("images", str(folder))


def looks_like_video(head: bytes) -> bool:
    r"""Say whether a file that begins so is a video (an animated GIF counts as one).

    Only what is known to be one is handed to FFmpeg, which would also "play" a text file or follow a playlist.

    >>> looks_like_video(b"\x00\x00\x00\x1cftypisom"), looks_like_video(b"\xff\xd8\xff\xe0")
    (True, False)
    """
    box, riff = head[4:8], head[8:12] if head.startswith(b"RIFF") else b""
    return (
        head.startswith(_VIDEO_BEGINNINGS)
        or box in {b"moov", b"mdat", b"wide", b"free", b"skip"}  # QuickTime before it had `ftyp`
        or (box == b"ftyp" and head[8:12] not in {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"})
        or riff == b"AVI "
        or head[:189:188] == b"GG"  # MPEG transport stream: packets of 188 bytes
        or head[4:197:192] == b"GG"  # the same from a disc
    )


def _stream(address: str, scheme: str) -> _Found:
    shown = without_credentials(address)
    if scheme not in STREAM_SCHEMES:
        return _unreadable(shown, f"an address begins with one of {', '.join(f'{s}://' for s in STREAM_SCHEMES)}")
    source = shown.partition("://")[2].strip("/")
    return Video("stream", address, source or scheme, shown, shown), (address,)


def _with_source(medium: Medium, identity: tuple[str, ...], source: str | None, owners: dict[str, object]) -> Medium:
    if source is not None:
        return replace(medium, source=source)
    wanted = medium.source[:_MAX_SOURCE]
    if isinstance(medium, ImageFile):
        parent = text_of(Path(identity[1]).parent.name)
    else:
        parent = text_of(Path(str(medium.address)).parent.name) if medium.kind == "file" else ""
    candidates = [wanted, *([f"{parent}/{wanted}"] if parent else [])]
    number = 2
    while owners.setdefault(candidates[0], identity) != identity:
        candidates = candidates[1:] or [f"{wanted}-{number}"]
        number += candidates[0] == f"{wanted}-{number}"
    return replace(medium, source=candidates[0])


def _natural(path: str | Path) -> list[list[tuple[int, int | str]]]:
    # frame-9 before frame-10; a folder's files together.
    def part(text: str) -> list[tuple[int, int | str]]:
        # int() reads the decimal digits of any script, and \d matches no others.
        return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in re.split(r"(\d+)", text)]

    return [part(name) for name in Path(path).parts]


def text_of(path: str | Path) -> str:
    """Return a file name as UTF-8 can hold it: Linux allows any bytes in one."""
    return os.fsencode(path).decode("utf-8", "replace")


def _unreadable(name: str, reason: str) -> _Found:
    return Unreadable(name, reason), ()


def _why(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "no such file or folder"
    return (error.strerror or type(error).__name__).lower()
