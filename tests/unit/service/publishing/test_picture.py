"""Headers, ids and times of pictures."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from farpoint.publishing.media_sources import ImageFile, Video
from farpoint.publishing.picture import MediaTopic, Picture, Recording, read_image
from farpoint.wire import RecordRef, read_media
from farpoint_models.errors import InvalidReason, InvalidRecord

MODIFIED = 1_767_225_600.5  # 2026-01-01T00:00:00.500Z
MANY = 10**8


def image_file(path: Path, data: bytes | None = None) -> ImageFile:
    """Write a picture, modified at a known time."""
    path.write_bytes(data or cv2.imencode(path.suffix, np.full((16, 24, 3), 7, np.uint8))[1].tobytes())
    os.utime(path, (MODIFIED, MODIFIED))
    return ImageFile(path, "hall", path.name)


def with_exif(path: Path, **tags: str) -> ImageFile:
    """Write a JPEG whose EXIF block has tags 0x9003 (original) and 0x9011 (offset) as given."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({{"original": 0x9003, "offset": 0x9011}[name]: text for name, text in tags.items()})
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return image_file(path, path.read_bytes())


@pytest.mark.parametrize("topic", ["images", "frames"])
def test_headers_are_read_back_by_the_worker(topic: MediaTopic) -> None:
    """What the publisher writes into headers is what the worker reads out of them."""
    picture = Picture(
        b"\xff\xd8\xff",
        source="hall é",
        id="7",
        time="2026-01-01T00:00:00.500Z",
        subject="a b.jpg",
        frame_index=3,
        metadata={"lens": "wide"},
    )
    headers = picture.headers(topic)
    read = read_media(RecordRef("t", 0, 0, 0), None, picture.data, headers)
    assert (read.source, read.id, read.time, read.subject) == ("hall é", "7", "2026-01-01T00:00:00.500Z", "a b.jpg")
    assert read.metadata == {"frameindex": 3, "lens": "wide"}
    assert read.content_type == "image/jpeg"
    assert dict(headers)["ce_specversion"] == b"1.0"
    assert dict(headers)["ce_type"] == f"farpoint.{topic.removesuffix('s')}.v1".encode()


def test_bare_picture_gets_id_and_time() -> None:
    """A picture of which nothing is known but its source still has an id of its own and a time."""
    first, second = (dict(Picture(b"\xff\xd8\xff", source="s").headers("frames")) for _ in range(2))
    assert first["ce_id"] != second["ce_id"]
    assert first["ce_time"].endswith(b"Z")
    assert not {"ce_subject", "ce_frameindex"} & set(first)


@pytest.mark.parametrize(
    ("extension", "content_type"),
    [
        (".jpg", "image/jpeg"),
        (".png", "image/png"),
        (".webp", "image/webp"),
        (".bmp", "image/bmp"),
        (".tiff", "image/tiff"),
    ],
)
def test_image_travels_byte_for_byte_with_its_content_type(tmp_path: Path, extension: str, content_type: str) -> None:
    """The data is the file's, and the content type is told from it and not from its name."""
    image = image_file(tmp_path / f"a{extension}")
    data = image.path.read_bytes()
    renamed = ImageFile(image.path.rename(tmp_path / "a.gif"), "hall", "a.gif")
    picture = read_image(renamed, MANY)
    assert picture.data == data
    assert dict(picture.headers("images"))["content-type"] == content_type.encode()


def test_image_id_is_a_function_of_the_file(tmp_path: Path) -> None:
    """The same file gives the same id; other content, another name, source or round gives another."""
    image = image_file(tmp_path / "a.png")
    same = read_image(image, MANY).id
    assert read_image(image, MANY).id == same
    others = {
        read_image(image, MANY, round_=1).id,
        read_image(ImageFile(image.path, "lobby", "a.png"), MANY).id,
        read_image(ImageFile(image.path, "hall", "b.png"), MANY).id,
        read_image(image_file(tmp_path / "a.png", cv2.imencode(".png", np.zeros((9, 9, 3)))[1].tobytes()), MANY).id,
    }
    assert len(others | {same}) == 5


def test_image_time_is_that_of_the_file(tmp_path: Path) -> None:
    """Without EXIF a picture was taken when its file was last modified."""
    assert read_image(image_file(tmp_path / "a.jpg"), MANY).time == "2026-01-01T00:00:00.500Z"


@pytest.mark.parametrize(
    ("tags", "time"),
    [
        ({"original": "2024:05:06 07:08:09", "offset": "+02:00"}, "2024-05-06T05:08:09.000Z"),
        ({"original": "2024:05:06 07:08:09", "offset": "nonsense"}, "2026-01-01T00:00:00.500Z"),
        ({"original": "0000:00:00 00:00:00"}, "2026-01-01T00:00:00.500Z"),
    ],
)
def test_image_time_is_that_of_the_camera(tmp_path: Path, tags: dict[str, str], time: str) -> None:
    """A picture was taken when its EXIF block says; a broken block does no harm."""
    assert read_image(with_exif(tmp_path / "a.jpg", **tags), MANY).time == time


@pytest.mark.parametrize(
    ("cut", "max_pixels", "reason"),
    [(2, MANY, InvalidReason.CORRUPT_IMAGE), (0, 100, InvalidReason.IMAGE_TOO_LARGE)],
)
def test_what_would_be_a_dead_letter_is_not_sent(
    tmp_path: Path, cut: int, max_pixels: int, reason: InvalidReason
) -> None:
    """A picture that is cut off, or larger than the worker decodes, is refused before it is sent."""
    image = image_file(tmp_path / "a.jpg")
    data = image.path.read_bytes()
    image.path.write_bytes(data[: len(data) - cut])
    with pytest.raises(InvalidRecord) as caught:
        read_image(image, max_pixels)
    assert caught.value.reason == reason


def test_frames_of_a_recording(tmp_path: Path) -> None:
    """A recording ended when its file was last modified; ids are those of file, frame and round."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video")
    os.utime(path, (MODIFIED, MODIFIED))
    video = Video("file", str(path), "a", "a.mp4", "a.mp4")
    recording = Recording(video, duration=10)
    assert recording.time(0) == "2025-12-31T23:59:50.500Z"
    assert recording.time(2.25) == "2025-12-31T23:59:52.750Z"
    ids = [recording.frame_id(index, round_) for index in range(3) for round_ in range(2)]
    assert len(set(ids)) == 6
    assert Recording(video, duration=10).frame_id(2, 1) == ids[-1]
