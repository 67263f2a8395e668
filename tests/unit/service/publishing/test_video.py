"""Frames of real video files."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.media_files import video

from farpoint.publishing.media_sources import Video
from farpoint.publishing.video import UnreadableVideoError, VideoReader, encode_jpeg


def reader(path: Path) -> VideoReader:
    """Open a file."""
    return VideoReader(Video("file", str(path), path.stem, path.name, path.name))


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a %d: b.avi"])
def test_frames_come_in_order_with_their_positions(tmp_path: Path, name: str) -> None:
    """Every frame is given once, in order, with its index and its seconds; odd file names do not matter."""
    with reader(video(tmp_path / name)) as opened:
        assert (opened.frame_count, opened.duration, opened.live) == (5, 0.5, False)
        frames = list(opened.frames())
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [round(frame.seconds, 3) for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4]
    assert [round(float(frame.picture.mean()), -1) for frame in frames] == [0, 20, 40, 60, 80]


def test_only_wanted_frames(tmp_path: Path) -> None:
    """What is not wanted is left out, and the others keep their index."""
    with reader(video(tmp_path / "a.avi")) as opened:
        assert [frame.index for frame in opened.frames(lambda index: index % 2 == 0)] == [0, 2, 4]


def test_broken_video(tmp_path: Path) -> None:
    """A file that only begins like a video does not open, and says so."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\x00\x00\x00\x1cftypisom" + bytes(500))
    with pytest.raises(UnreadableVideoError, match="broken video"):
        reader(path)


def cut_off_video(folder: Path) -> Path:
    """Write a video whose recording broke off in the middle of a frame."""
    path = video(folder / "a.avi", frames=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    return path


def test_cut_off_video(tmp_path: Path) -> None:
    """Of a recording that was cut off every frame there is is given, then it is an error."""
    path = cut_off_video(tmp_path)
    indices: list[int] = []
    with reader(path) as opened, pytest.raises(UnreadableVideoError, match="cut off") as caught:
        indices.extend(frame.index for frame in opened.frames())  # keeps what came before the error
    assert indices == list(range(len(indices)))
    assert 0 < len(indices) < 20
    assert caught.value.frames == len(indices)


def test_ffmpeg_keeps_quiet(tmp_path: Path) -> None:
    """What FFmpeg thinks of a broken frame does not reach the terminal; a process of its own, for it asks only once."""
    program = (
        "import sys; from tests.unit.service.publishing.test_video import *; list(reader(Path(sys.argv[1])).frames())"
    )
    command = [sys.executable, "-c", program, str(cut_off_video(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("farpoint.publishing.video.UnreadableVideoError: cut off"), (
        done.stderr
    )
    assert "[" not in done.stderr, done.stderr


def test_camera_that_does_not_open(capfd: pytest.CaptureFixture[str]) -> None:
    """A camera that is not there is named as such, without noise on stderr."""
    with pytest.raises(UnreadableVideoError, match="camera does not open"):
        VideoReader(Video("camera", "/dev/null", "c", "c", "c"))
    assert capfd.readouterr().err == ""


def test_encode_jpeg_keeps_colours() -> None:
    """A BGR picture decodes to the same colours."""
    blue = np.zeros((16, 16, 3), np.uint8)
    blue[..., 0] = 255
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(blue), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(decoded.astype(int) - blue).max() < 8
