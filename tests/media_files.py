"""Small real pictures and videos for tests."""

from pathlib import Path

import cv2
import numpy as np

VIDEO_FPS = 10.0


def picture(path: Path, value: int = 0) -> Path:
    """Write a small real picture in the format of the file's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((16, 24, 3), value, np.uint8))
    return path


def video(path: Path, frames: int = 5) -> Path:
    """Write a small real video in the container of the file's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, VIDEO_FPS, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 20 * index % 256, np.uint8))
    writer.release()
    return path
