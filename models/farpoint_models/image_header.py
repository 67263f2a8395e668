"""What an encoded picture says about itself, read before a single pixel is decoded.

Formats are recognised by their first bytes, never by a name or a content type. Pillow's format classes then parse the
header lazily: no pixel buffer exists until somebody asks for one, so a file that declares 60,000 x 60,000 pixels costs
nothing but its refusal.
"""

import io
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from PIL import ExifTags, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from farpoint_models.errors import InvalidReason, InvalidRecord

ImageFormat = Literal["JPEG", "PNG", "WebP", "BMP", "TIFF"]

MAX_PIXELS: Final = 40_000_000
"""Pixels a picture may declare unless the caller says otherwise: 7,700 x 5,200, some 320 MB while it is decoded."""

# A progressive JPEG repeats its whole picture once a scan: a small file can ask for hours. Encoders write about ten.
_MAX_JPEG_SCANS: Final = 100

# What something follows: not a stuffed 0xFF, TEM, a restart or a fill byte.
_JPEG_MARKER: Final = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")

_TIFF_TILE_WIDTH: Final = 322
_TIFF_TILE_LENGTH: Final = 323
# The sizes of BITMAPCOREHEADER ... BITMAPV5HEADER: "BM" alone also begins many a text.
_BMP_HEADER_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

# The classes themselves instead of `Image.open`: one parser per picture, nobody else's plugin gets a look, and the
# limit is ours instead of a process-wide one that warns first.
_OPENERS: Final[dict[ImageFormat, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture declares; nothing of it is proven before the pixels are decoded.

    Parameters
    ----------
    format
        One of the five formats Farpoint reads.
    width, height
        Pixels, as shown: after the orientation was applied. (Of a WebP over `MAX_PIXELS` as stored: it is not opened.)
    orientation
        EXIF orientation, 1 to 8; 1 is upright, and what a file without EXIF or with a broken one gets.
    """

    format: ImageFormat
    width: int
    height: int
    orientation: int = 1

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read_header(data: bytes) -> ImageHeader:
    """Read format, size and orientation of an encoded picture without decoding it.

    Parameters
    ----------
    data
        The whole file: JPEG, PNG, WebP, BMP or TIFF. Of an animated or multi-page file the first picture counts.

    Returns
    -------
    ImageHeader
        What the file declares.

    Raises
    ------
    InvalidRecord
        `EMPTY_VALUE` for no bytes, `UNKNOWN_IMAGE_FORMAT` for anything that is none of the five formats,
        `CORRUPT_IMAGE` for a header that makes no sense.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> read_header(cv2.imencode(".png", np.zeros((3, 4, 3), np.uint8))[1].tobytes())
    ImageHeader(format='PNG', width=4, height=3, orientation=1)
    """
    image_format = recognise(data)
    if image_format == "WebP":
        width, height = webp_canvas(data)
        if width * height > MAX_PIXELS:  # opening one makes room for its canvas
            return ImageHeader("WebP", width, height)
    return header_of(open_lazily(data, image_format), image_format)


def recognise(data: bytes) -> ImageFormat:
    r"""Name the format of an encoded picture by its first bytes.

    Raises
    ------
    InvalidRecord
        `EMPTY_VALUE` or `UNKNOWN_IMAGE_FORMAT`.

    Examples
    --------
    >>> recognise(b"II*\x00")
    'TIFF'
    """
    if not data:
        raise InvalidRecord(InvalidReason.EMPTY_VALUE, "the record has no value; expected an encoded picture")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    message = f"the value begins with {data[:12]!r}; expected a JPEG, PNG, WebP, BMP or TIFF file"
    raise InvalidRecord(InvalidReason.UNKNOWN_IMAGE_FORMAT, message)


def open_lazily(data: bytes, image_format: ImageFormat) -> ImageFile.ImageFile:
    """Parse a picture's header into a Pillow file whose pixels are not decoded yet.

    Raises
    ------
    InvalidRecord
        `CORRUPT_IMAGE` when the header makes no sense.
    """
    with corruption(image_format):
        return _OPENERS[image_format](io.BytesIO(data))


def header_of(file: ImageFile.ImageFile, image_format: ImageFormat) -> ImageHeader:
    """Take the header of a picture that `open_lazily` opened.

    Raises
    ------
    InvalidRecord
        `CORRUPT_IMAGE` when the picture has no pixels.
    """
    orientation = _orientation(file, image_format)
    width, height = file.size
    if image_format != "TIFF" and orientation >= 5:  # 5 to 8 lie on their side; of a TIFF Pillow says the shown size
        width, height = height, width
    if width <= 0 or height <= 0:
        raise InvalidRecord(InvalidReason.CORRUPT_IMAGE, f"a {image_format} picture of {width} x {height} pixels")
    return ImageHeader(image_format, width, height, orientation)


def check_size(header: ImageHeader, max_pixels: int) -> None:
    """Refuse a picture that declares more pixels than allowed.

    Raises
    ------
    InvalidRecord
        `IMAGE_TOO_LARGE`.

    Examples
    --------
    >>> check_size(ImageHeader("PNG", 60_000, 60_000), MAX_PIXELS)
    Traceback (most recent call last):
    ...
    farpoint_models.errors.InvalidRecord: image_too_large: a PNG picture of 60000 x 60000 pixels; at most 40000000 ...
    """
    if header.pixels > max_pixels:
        found = f"a {header.format} picture of {header.width} x {header.height} pixels"
        raise InvalidRecord(InvalidReason.IMAGE_TOO_LARGE, f"{found}; at most {max_pixels} pixels are decoded")


def check_tiles(file: ImageFile.ImageFile, max_pixels: int) -> None:
    """Refuse a TIFF whose single tiles are larger than a whole picture may be.

    A picture of one pixel can lie in a tile of four thousand million, and the decoder makes room for the tile.

    Raises
    ------
    InvalidRecord
        `IMAGE_TOO_LARGE`.
    """
    if not isinstance(file, TiffImageFile):
        return
    with corruption("TIFF"):
        width, height = (int(file.tag_v2.get(tag, 0)) for tag in (_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH))
    if width * height > max_pixels:
        found = f"a TIFF picture in tiles of {width} x {height} pixels"
        raise InvalidRecord(InvalidReason.IMAGE_TOO_LARGE, f"{found}; at most {max_pixels} pixels are decoded")


def check_jpeg_complete(data: bytes) -> None:
    """Refuse a JPEG whose first picture does not run to its end marker.

    Decoders paint what is missing grey and report success. We follow the markers from the start, so the thumbnail in
    the EXIF block, bytes behind the end, or a second picture glued to a torn one (as in motion JPEG) deceive nobody.
    What it cannot see is a scan that lost bytes in its middle and still ends properly: no marker is missing then.

    Raises
    ------
    InvalidRecord
        `CORRUPT_IMAGE`.

    Examples
    --------
    >>> check_jpeg_complete(bytes.fromhex("ffd8 ffda0003 00 12 34 ff00 56"))
    Traceback (most recent call last):
    ...
    farpoint_models.errors.InvalidRecord: corrupt_image: the JPEG picture is cut off: no end marker in 12 bytes
    """
    position, scans = 2, 0
    while found := _JPEG_MARKER.search(data, position):
        marker = data[found.end() - 1]
        if marker == 0xD9 and scans:  # end of image
            return
        if marker in {0xD8, 0xD9}:  # another picture starts, or this one ends before its first scan
            break
        scans += marker == 0xDA
        if scans > _MAX_JPEG_SCANS:
            raise InvalidRecord(InvalidReason.CORRUPT_IMAGE, f"a JPEG picture of over {_MAX_JPEG_SCANS} scans")
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    message = f"the JPEG picture is cut off: no end marker in {len(data)} bytes"
    raise InvalidRecord(InvalidReason.CORRUPT_IMAGE, message)


def webp_canvas(data: bytes) -> tuple[int, int]:
    """Read width and height of a WebP file from its first chunk, as stored.

    Pillow's class cannot be asked: opening a WebP makes room for its canvas. Layout as in RFC 9649.

    Raises
    ------
    InvalidRecord
        `CORRUPT_IMAGE`.
    """
    with corruption("WebP"):
        match data[12:16]:
            case b"VP8X":
                return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
            case b"VP8L":
                (bits,) = struct.unpack_from("<xI", data, 20)
                return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
            case b"VP8 ":
                width, height = struct.unpack_from("<HH", data, 26)
                return width & 0x3FFF, height & 0x3FFF
            case chunk:
                raise ValueError(f"its first chunk is {chunk!r}")


@contextmanager
def corruption(image_format: ImageFormat) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into `InvalidRecord(CORRUPT_IMAGE)`.

    Decoders answer broken bytes with OSError, SyntaxError, ValueError, struct.error, KeyError and whatever comes next,
    hence the net without holes. A MemoryError goes through: sizes were bounded before, so it says nothing about the
    picture.
    """
    try:
        yield
    except (InvalidRecord, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise InvalidRecord(InvalidReason.CORRUPT_IMAGE, f"the {image_format} picture is broken: {said}") from error


def _orientation(file: ImageFile.ImageFile, image_format: ImageFormat) -> int:
    # Asking a PNG for its EXIF decodes it, unless the block lies before the pixels.
    if image_format == "BMP" or (image_format == "PNG" and "exif" not in file.info):
        return 1
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1  # a broken EXIF block is no reason to refuse the picture
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
