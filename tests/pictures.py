"""Encoded pictures for the tests: drawn, never the same twice, and cheap."""

import io

import numpy as np
from PIL import Image

SIZE = (320, 240)


def scene(rng: np.random.Generator, base: tuple[int, int, int] = (60, 120, 180)) -> Image.Image:
    """Draw a plain wall with a darker floor and grain: the same scene each time, up to the grain."""
    width, height = SIZE
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = base
    pixels[height // 2 :] *= 0.5
    pixels += rng.normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def stranger(rng: np.random.Generator) -> Image.Image:
    """Draw something else altogether: coarse coloured blocks."""
    blocks = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(SIZE, Image.Resampling.NEAREST)


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(rng: np.random.Generator) -> bytes:
    """Return a JPEG of the scene."""
    return encode(scene(rng), quality=85)
