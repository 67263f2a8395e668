"""What a PATH is, by content; and what it is called."""

import os
from pathlib import Path

import pytest
from tests.media_files import picture, video

from farpoint.publishing.addresses import without_credentials
from farpoint.publishing.media_sources import ImageFile, Unreadable, Video, find_media


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp", "tiff"])
def test_picture_is_known_by_content(tmp_path: Path, extension: str) -> None:
    """A picture of each format is one, whatever its file is called, and its source is its folder."""
    path = picture(tmp_path / f"hall/a.{extension}").rename(tmp_path / "hall/a.dat")
    assert find_media([str(path)]) == [ImageFile(path, "hall", "a.dat")]


@pytest.mark.parametrize("extension", ["mp4", "avi", "mkv"])
def test_video_is_known_by_content(tmp_path: Path, extension: str) -> None:
    """A video is one, whatever its file is called, and its source is the file's name without extension."""
    path = video(tmp_path / f"lobby.{extension}").rename(tmp_path / "lobby.jpg")
    [found] = find_media([str(path)])
    assert isinstance(found, Video)
    assert (found.kind, found.source, found.subject) == ("file", "lobby", "lobby.jpg")


@pytest.mark.parametrize("content", [b"hello, world", b"#EXTM3U\nhttp://127.0.0.1/a.ts", b"BMW is a company", b"GG"])
def test_neither_picture_nor_video(tmp_path: Path, content: bytes) -> None:
    """Text and playlists, which FFmpeg would play or follow, are named as neither picture nor video."""
    path = tmp_path / "movie.mp4"
    path.write_bytes(content)
    [found] = find_media([str(path)])
    assert isinstance(found, Unreadable)
    assert "neither a picture" in found.reason


def test_folder_is_read_recursively_in_natural_order(tmp_path: Path) -> None:
    """A folder gives all its pictures under its own name, frame-9 before frame-10, hidden ones left out."""
    for name in ("b/frame-10.png", "b/frame-9.png", "a.png", ".hidden.png", ".git/x.png"):
        picture(tmp_path / "night" / name)
    found = find_media([str(tmp_path / "night")])
    assert [one.subject for one in found if isinstance(one, ImageFile)] == ["a.png", "b/frame-9.png", "b/frame-10.png"]
    assert {one.source for one in found if isinstance(one, ImageFile)} == {"night"}
    assert len(found) == 3


def test_folder_names_what_is_no_medium(tmp_path: Path) -> None:
    """An empty file, a text, a pipe and a dangling link are each named, and hide no picture."""
    good = picture(tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = find_media([str(tmp_path)])
    assert [one.path for one in found if isinstance(one, ImageFile)] == [good]
    reasons = {Path(one.name).name: one.reason for one in found if isinstance(one, Unreadable)}
    assert reasons == {
        "dangling": "no such file or folder",
        "empty.jpg": "an empty file",
        "notes.txt": "neither a picture (JPEG, PNG, WebP, BMP, TIFF) nor a video",
        "pipe": "not a file",
    }


def test_empty_folder_is_named(tmp_path: Path) -> None:
    """A folder without files is no success."""
    assert find_media([str(tmp_path)]) == [Unreadable(str(tmp_path), "an empty folder")]


def test_pattern(tmp_path: Path) -> None:
    """A pattern gives its matches in natural order, and one without a match is named."""
    for name in ("p10.jpg", "p9.jpg", "q.png", "sub/p1.jpg"):
        picture(tmp_path / name)
    found = find_media([str(tmp_path / "p*.jpg"), str(tmp_path / "**/p1.jpg"), str(tmp_path / "z*")])
    assert [one.subject for one in found if isinstance(one, ImageFile)] == ["p9.jpg", "p10.jpg", "p1.jpg"]
    assert found[-1] == Unreadable(str(tmp_path / "z*"), "no file matches")


def test_file_whose_name_is_a_pattern(tmp_path: Path) -> None:
    """A file that really is called like a pattern is taken as that file."""
    path = picture(tmp_path / "a[1].jpg")
    assert find_media([str(path)]) == [ImageFile(path, tmp_path.name, "a[1].jpg")]


def test_same_names_do_not_share_a_source(tmp_path: Path) -> None:
    """Two recordings of the same name, and two folders of it, are told apart by their folders; one twice is one."""
    for folder in ("hall", "lobby"):
        video(tmp_path / folder / "rec.avi")
        picture(tmp_path / folder / "night/a.jpg")
    paths = [str(tmp_path / name) for name in ("hall/rec.avi", "lobby/rec.avi", "hall/night", "lobby/night")]
    found = find_media([*paths, paths[0], "rtsp://host/a?channel=1", "rtsp://host/a?channel=2"])
    sources = [one.source for one in found if not isinstance(one, Unreadable)]
    assert sources == ["rec", "lobby/rec", "night", "lobby/night", "rec", "host/a", "host/a-2"]


def test_given_source_wins(tmp_path: Path) -> None:
    """With a source given, everything has it."""
    found = find_media([str(video(tmp_path / "a.mp4")), str(picture(tmp_path / "b.jpg")), "camera:1"], "gate")
    assert [one.source for one in found if not isinstance(one, Unreadable)] == ["gate"] * 3


def test_cameras() -> None:
    """A camera is given by number or device; another word behind `camera:` is named."""
    number, device, wrong = find_media(["camera:2", "/dev/null", "camera:front"])
    assert isinstance(number, Video)
    assert (number.kind, number.address, number.source) == ("camera", 2, "camera-2")
    assert isinstance(device, Video)
    assert (device.kind, device.source) == ("camera", "null")
    assert wrong == Unreadable("camera:front", "a camera is camera:0, camera:1, ...")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://10.0.0.7:554/hall", "rtsp://10.0.0.7:554/hall"),
        ("rtsp://admin:hunter2@cam.local/hall", "rtsp://cam.local/hall"),
        ("rtsp://admin:hunt@er/2@cam.local/hall", "rtsp://cam.local/hall"),
        ("rtsp://admin:hunter?2@cam.local/hall", "rtsp://cam.local/hall"),
        ("rtsp://admin:hunter#2@cam.local/hall", "rtsp://cam.local/hall"),
        ("http://cam.local/video.cgi?user=admin&pwd=hunter2", "http://cam.local/video.cgi"),
        ("http://cam.local/video.cgi?mail=me@hunter2", "http://cam.local/video.cgi"),
        ("rtsp://cam.local/user=admin_password=hunter2_channel=1/main", "rtsp://cam.local/***/main"),
    ],
)
def test_credentials_are_never_shown(address: str, shown: str) -> None:
    """No part of a user or password reaches a source, a subject, a message or a repr."""
    assert without_credentials(address) == shown
    [found] = find_media([address])
    assert isinstance(found, Video)
    assert found.address == address
    assert (found.subject, found.name) == (shown, shown)
    assert found.source == shown.partition("://")[2]
    assert "hunt" not in repr(found)
    assert "admin" not in repr(found)


def test_unknown_scheme_is_named_without_credentials() -> None:
    """An address of another kind is refused, and its password is not repeated."""
    [found] = find_media(["ftp://me:hunter2@host/a.mp4"])
    assert isinstance(found, Unreadable)
    assert found.name == "ftp://host/a.mp4"
    assert "rtsp://" in found.reason


def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    """A name of arbitrary bytes becomes text that Kafka's headers can hold, and the file is still found."""
    path = Path(os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9.jpg"))
    picture(tmp_path / "x.jpg").rename(path)
    [found] = find_media([str(path)])
    assert isinstance(found, ImageFile)
    assert found.path.read_bytes()[:2] == b"\xff\xd8"
    assert found.subject.encode() == "caf�.jpg".encode()
