"""Bytes -> `Image` -> `ImageBatch`: one decoded picture, and what a model takes in.

Every picture ends as uint8, height x width x 3, RGB, upright:

- grey and palette pictures become colour; CMYK is converted without its profile (colour profiles are not applied),
- transparent pictures are laid on white, as a page or a browser would show them,
- 16 bits a channel become the upper 8; 32-bit integers and floats, which declare no white, are stretched from their
  darkest to their brightest pixel,
- of an animated or multi-page file the first picture is taken.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFile

from farpoint_models.card import ModelCard
from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.image_header import (
    MAX_PIXELS,
    ImageHeader,
    check_jpeg_complete,
    check_size,
    check_tiles,
    corruption,
    header_of,
    open_lazily,
    read_header,
    recognise,
    webp_canvas,
)

__all__ = [
    "MAX_PIXELS",
    "Image",
    "ImageBatch",
    "ImageHeader",
    "decode_image",
    "limit_cv2_threads",
    "preprocess",
    "read_header",
    "stack",
    "thumbnail_jpeg",
]

Image = NDArray[np.uint8]
"""One decoded picture: uint8, (height, width, 3), RGB, upright."""

ImageBatch = NDArray[np.uint8] | NDArray[np.float32]
"""What a model takes in, (N, height, width, 3) or (N, 3, height, width), as its card says."""

_WHITE: Final = (255, 255, 255, 255)
# cv2's names: reduced decoding has no name for RGB, but the bits combine (IMREAD_REDUCED_COLOR_n is 16n' | COLOR_BGR).
_REDUCED: Final = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
}
# Bilinear takes two columns of three at this ratio; beyond it, fine structure turns into noise.
_MAX_BILINEAR_RATIO: Final = 3.0
_THUMBNAIL_QUALITIES: Final = (75, 60, 45, 30, 15)


def limit_cv2_threads(count: int = 1) -> None:
    """Tell OpenCV how many threads of its own it may use; process-wide, so for the program to call, once, at start.

    Pictures are decoded in a pool of the caller, where OpenCV's own threads would only fight over the same cores.

    Parameters
    ----------
    count
        Threads; 1 keeps all work in the calling thread.
    """
    cv2.setNumThreads(count)


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image:
    """Decode the first picture of an encoded file; safe to call from many threads, and releases the GIL.

    Parameters
    ----------
    data
        The whole file: JPEG, PNG, WebP, BMP or TIFF.
    max_pixels
        Width times height above which a picture is refused before anything is allocated for it.
    min_side
        When given, a JPEG may come out at 1/2, 1/4 or 1/8 of its size as long as its short side keeps at least this
        many pixels: the decoder leaves out what nobody will look at.

    Returns
    -------
    Image
        uint8, (height, width, 3), RGB, upright.

    Raises
    ------
    InvalidRecord
        `EMPTY_VALUE`, `UNKNOWN_IMAGE_FORMAT`, `IMAGE_TOO_LARGE` or `CORRUPT_IMAGE` (a truncated file included); no
        bytes whatever raise anything else.

    Examples
    --------
    >>> red = np.full((480, 640, 3), (255, 0, 0), np.uint8)
    >>> encoded = cv2.imencode(".jpg", cv2.cvtColor(red, cv2.COLOR_RGB2BGR))[1].tobytes()
    >>> decode_image(encoded).shape, decode_image(encoded, min_side=224).shape
    ((480, 640, 3), (240, 320, 3))
    """
    image_format = recognise(data)
    if image_format == "WebP":  # opening one makes room for its canvas: look first
        check_size(ImageHeader("WebP", *webp_canvas(data)), max_pixels)
    file = open_lazily(data, image_format)
    header = header_of(file, image_format)
    check_size(header, max_pixels)
    if image_format == "JPEG" and file.mode != "CMYK":
        image = _decode_jpeg(data, header, min_side)
    else:
        check_tiles(file, max_pixels)
        with corruption(image_format):
            image = _decode_with_pillow(file)
        header = header_of(file, image_format)  # a PNG may tell its orientation behind its pixels
    if image_format == "TIFF":
        return image  # Pillow has turned it already
    return _upright(image, header.orientation)


def preprocess(image: Image, card: ModelCard, out: ImageBatch | None = None) -> ImageBatch:
    """Bring one picture into the form that a model takes in.

    Pixels are halved (2 x 2 mean) while both sides keep the model's size, then bilinear: the mean of what each pixel
    covers, near enough, at a tenth of the cost, and the same steps a reduced JPEG decode begins with.

    Parameters
    ----------
    image
        uint8, (H, W, 3), RGB.
    card
        Of the model: input size, layout, type and normalisation.
    out
        When given, filled and returned: a row of a batch, C-contiguous, of the type and shape that the model takes in.

    Returns
    -------
    ImageBatch
        One picture without the batch axis, (height, width, 3) or (3, height, width): uint8 for a model that normalises
        by itself, else float32, `(pixel - mean) / std`.

    Examples
    --------
    >>> from farpoint_models.embedder import DummyEmbedder
    >>> preprocess(np.zeros((480, 640, 3), np.uint8), DummyEmbedder().card).shape
    (32, 32, 3)
    """
    wanted = card.input
    if wanted.resize == "crop":
        image = _central(image, wanted.width / wanted.height)
    direct = out if out is not None and wanted.dtype == "uint8" and wanted.layout == "NHWC" else None
    resized = _resize(image, wanted.width, wanted.height, cast("Image | None", direct))
    if direct is not None:
        return direct
    if out is None:
        shape = (wanted.height, wanted.width, 3)
        out = cast("ImageBatch", np.empty(shape if wanted.layout == "NHWC" else (3, *shape[:2]), wanted.dtype))
    target: NDArray[Any] = out if wanted.layout == "NHWC" else out.transpose(1, 2, 0)
    if wanted.dtype == "uint8":
        target[:] = resized
    else:
        np.subtract(resized, np.asarray(wanted.mean, np.float32), out=target, dtype=np.float32)
        target /= np.asarray(wanted.std, np.float32)
    return out


def stack(images: Sequence[ImageBatch]) -> ImageBatch:
    """Stack preprocessed pictures into one device batch.

    Parameters
    ----------
    images
        N results of `preprocess` for the same card.

    Returns
    -------
    ImageBatch
        N along a new first axis.

    Examples
    --------
    >>> stack([np.zeros((32, 32, 3), np.uint8)] * 5).shape
    (5, 32, 32, 3)
    """
    return cast("ImageBatch", np.stack(images))


def thumbnail_jpeg(image: Image, max_side: int = 160, max_bytes: int = 4096) -> bytes:
    """Encode a small JPEG of a picture, for people.

    Parameters
    ----------
    image
        uint8, (H, W, 3), RGB.
    max_side
        Pixels of the longer side at most; a smaller picture keeps its size.
    max_bytes
        Wanted size: quality goes down until the file is that small, but not below what one can recognise, so a very
        busy picture may come out a little larger.

    Returns
    -------
    bytes
        A JPEG file without metadata.

    Examples
    --------
    >>> thumbnail = thumbnail_jpeg(np.zeros((480, 640, 3), np.uint8))
    >>> read_header(thumbnail)
    ImageHeader(format='JPEG', width=160, height=120, orientation=1)
    """
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    small = _resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
    blue_first = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    encoded = b""
    for quality in _THUMBNAIL_QUALITIES:
        encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(encoded) <= max_bytes:
            break
    return encoded


def _decode_jpeg(data: bytes, header: ImageHeader, min_side: int | None) -> Image:
    check_jpeg_complete(data)
    short = min(header.width, header.height)
    # libjpeg rounds reduced sizes up, so the floor never promises too much.
    factor = 1 if min_side is None else max((n for n in (2, 4, 8) if short // n >= min_side), default=1)
    with corruption("JPEG"):
        # Orientation is ours: cv2 reads it for some formats and some versions only.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise InvalidRecord(InvalidReason.CORRUPT_IMAGE, "the JPEG picture is broken: its scan cannot be decoded")
    return image


def _decode_with_pillow(file: ImageFile.ImageFile) -> Image:
    file.load()
    if file.mode.startswith("I;16"):
        return _grey_to_rgb((np.asarray(file).astype(np.uint16, copy=False) >> 8).astype(np.uint8))
    if file.mode in {"I", "F"}:
        return _grey_to_rgb(_stretch(np.asarray(file)))
    if file.has_transparency_data:
        straight = file.convert("LA") if file.mode == "La" else file
        background = PillowImage.new("RGBA", file.size, _WHITE)
        return np.asarray(PillowImage.alpha_composite(background, straight.convert("RGBA")).convert("RGB"))
    return np.asarray(file.convert("RGB"))


def _stretch(values: NDArray[np.int32] | NDArray[np.float32]) -> NDArray[np.uint8]:
    exact = values.astype(np.float64)
    low, high = exact.min(), exact.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it has pixels that are no finite numbers")
    # Halves first: the distance between two doubles need not be one.
    span = high / 2 - low / 2
    return np.rint((exact / 2 - low / 2) / (span or 1.0) * 255).astype(np.uint8)


def _grey_to_rgb(grey: NDArray[np.uint8]) -> Image:
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _upright(image: Image, orientation: int) -> Image:
    match orientation:
        case 2:
            return cv2.flip(image, 1)
        case 3:
            return cv2.rotate(image, cv2.ROTATE_180)
        case 4:
            return cv2.flip(image, 0)
        case 5:
            return cv2.transpose(image)
        case 6:
            return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            return cv2.rotate(cv2.transpose(image), cv2.ROTATE_180)
        case 8:
            return cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return image


def _central(image: Image, aspect: float) -> Image:
    height, width = image.shape[:2]
    kept_width = min(width, max(1, round(height * aspect)))
    kept_height = min(height, max(1, round(width / aspect)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return image[top : top + kept_height, left : left + kept_width]


def _resize(image: Image, width: int, height: int, out: Image | None = None) -> Image:
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        half_height, half_width = image.shape[0] // 2, image.shape[1] // 2
        # An exact 2 x 2 mean is vectorised and any other ratio is not: an odd last row or column is left out.
        even = image[: 2 * half_height, : 2 * half_width]
        image = cv2.resize(even, (half_width, half_height), interpolation=cv2.INTER_AREA)
    ratio = max(image.shape[1] / width, image.shape[0] / height)
    if ratio == 1.0 and image.shape[:2] == (height, width):
        if out is None:
            return np.ascontiguousarray(image)
        out[:] = image
        return out
    method = cv2.INTER_LINEAR if ratio <= _MAX_BILINEAR_RATIO else cv2.INTER_AREA
    return cv2.resize(image, (width, height), dst=out, interpolation=method)
