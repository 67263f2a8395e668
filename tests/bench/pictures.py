"""The pictures: JPEGs of real video."""

from itertools import cycle, islice

import cv2
import numpy as np

from farpoint.demo.clips import load_clip, vary_jpeg

DIFFERENT = 64
SOURCES = 8
"""Sources that they are said to come from."""


def jpegs(width: int, height: int, count: int = DIFFERENT) -> list[bytes]:
    """Return different JPEGs of real video."""
    rng = np.random.default_rng(0)
    clips = [frame for name in ("bikes", "bigbuckbunny") for frame in load_clip(name)]
    return [vary_jpeg(cv2.resize(frame, (width, height)), rng) for frame in islice(cycle(clips), count)]
