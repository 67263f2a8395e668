"""Frames of a video file, a camera or a stream, through OpenCV.

Pictures are BGR here, as OpenCV reads and writes them: nothing looks at their colours between decoding and encoding.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from farpoint.errors import FarpointError
from farpoint.publishing.media_sources import Video

BgrPicture = NDArray[np.uint8]

_TIMEOUT_MS = 10_000  # to open an address, and to wait for its next frame
# A file whose recording ends so much before the duration it declares was cut off; containers round and estimate.
_COMPLETE_SHARE = 0.9


class UnreadableVideoError(FarpointError):
    """A video, camera or stream does not open, or does not give what it promises; the others go on.

    Attributes
    ----------
    frames
        How many frames it gave before.
    """

    def __init__(self, reason: str, frames: int = 0) -> None:
        super().__init__(reason)
        self.frames = frames


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame: its number in the video, its position in seconds, its pixels (BGR)."""

    index: int
    seconds: float
    picture: BgrPicture


def hide_opencv_noise() -> None:
    """Silence OpenCV and FFmpeg, which write to stderr as they please, addresses with passwords included.

    `OPENCV_LOG_LEVEL` and `OPENCV_FFMPEG_LOGLEVEL` still have the last word, for those who want to hear it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def encode_jpeg(picture: BgrPicture, quality: int = 90) -> bytes:
    """Encode a BGR picture as JPEG.

    >>> encode_jpeg(np.zeros((4, 4, 3), np.uint8))[:3].hex()
    'ffd8ff'
    """
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class VideoReader:
    """An opened video.

    Parameters
    ----------
    video
        What to open.

    Attributes
    ----------
    frame_count
        Frames that a recording declares; 0 where that is unknown.
    duration
        Its seconds; 0 where that is unknown.
    live
        Whether frames come when they happen: a camera, or a stream without an end.

    Raises
    ------
    UnreadableVideoError
        It does not open; from `frames`, it gives no frame or ends long before its end.
    """

    def __init__(self, video: Video) -> None:
        hide_opencv_noise()
        self._video = video
        self._capture = self._open()
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        recorded = video.kind != "camera" and 0 < count < 2**53
        self.frame_count = int(count) if recorded else 0
        self._rate = rate if 0 < rate < 1000 else 0.0
        self.duration = self.frame_count / self._rate if self._rate else 0.0
        self.live = video.kind == "camera" or (video.kind == "stream" and not recorded)

    def _open(self) -> Any:
        video = self._video
        if video.kind == "camera":
            capture = cv2.VideoCapture(video.address)
            reason = "the camera does not open: not there, in use, or not allowed"
        else:
            timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
            # FFmpeg by name: other backends take a name with digits for a series of pictures.
            capture = cv2.VideoCapture(video.address, cv2.CAP_FFMPEG, timeouts)
            reason = "the stream does not open" if video.kind == "stream" else "a broken video: it does not open"
        if not capture.isOpened():
            raise UnreadableVideoError(reason)
        return capture

    def frames(
        self, wanted: Callable[[int], bool] | None = None, stop: threading.Event | None = None
    ) -> Iterator[Frame]:
        """Yield the frames whose index is `wanted` (default: all), until the video ends or `stop` is set.

        What is not wanted costs no conversion. `wanted` is asked when the frame has arrived, so it may also look at the
        clock.
        """
        index, seconds = 0, 0.0
        while not (stop and stop.is_set()):
            if not self._capture.grab():
                self._check_end(index, seconds)
                return
            seconds = max(seconds, self._position(index))
            if wanted is None or wanted(index):
                readable, picture = self._capture.retrieve()
                if not readable or picture is None:
                    raise UnreadableVideoError(f"frame {index} cannot be decoded", index)
                yield Frame(index, seconds, picture)
            index += 1

    def _position(self, index: int) -> float:
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if position > 0:
            return float(position)
        return index / self._rate if self._rate else 0.0

    def _check_end(self, read: int, seconds: float) -> None:
        if not read:
            raise UnreadableVideoError("no frame can be read")
        if self._video.kind == "camera":
            raise UnreadableVideoError(f"the camera stopped after {read} frames", read)
        # By time and not by count: for many containers the count is itself an estimate, made from the duration.
        if read < self.frame_count and seconds + 2 / self._rate < _COMPLETE_SHARE * self.duration:
            raise UnreadableVideoError(f"cut off: only {read} of about {self.frame_count} frames can be read", read)

    def close(self) -> None:
        """Let go of the device or file."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
