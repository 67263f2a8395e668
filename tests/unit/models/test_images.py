"""Every kind of picture becomes uint8 RGB, and every kind of rubbish an `InvalidRecord`."""

import io
import struct
import zlib
from collections.abc import Callable
from importlib.resources import files

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from farpoint_models.card import ModelCard, ModelInput
from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.image_header import open_lazily
from farpoint_models.images import decode_image, preprocess, read_header, stack, thumbnail_jpeg

RED, GREEN, BLUE, YELLOW = (220, 20, 30), (20, 200, 40), (10, 30, 210), (230, 220, 20)
FORMATS = ["JPEG", "PNG", "WebP", "BMP", "TIFF"]


def quarters(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """Four colours, so that every mirror and turn of it is another picture."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, YELLOW
    return image


def encoded(image: PillowImage.Image, image_format: str, **options: object) -> bytes:
    """Encode by Pillow, JPEG finely enough that colours stay."""
    if image_format == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    if image_format == "WebP":
        options = {"lossless": True, **options}
    target = io.BytesIO()
    image.save(target, image_format, **options)
    return target.getvalue()


def photograph() -> bytes:
    """Read a real JPEG, 640 x 427."""
    return (files("sklearn.datasets") / "images" / "china.jpg").read_bytes()


def close(a: NDArray[np.uint8], b: NDArray[np.uint8], tolerance: int = 12) -> bool:
    """Say whether two pictures look the same but for compression."""
    return a.shape == b.shape and int(np.abs(a.astype(int) - b.astype(int)).max()) <= tolerance


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    """Write a PNG by hand, whatever it declares."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def reason_of(action: Callable[[], object]) -> InvalidReason:
    """Run something that must be refused, and say why it was."""
    with pytest.raises(InvalidRecord) as caught:
        action()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    return caught.value.reason


@pytest.mark.parametrize("image_format", FORMATS)
def test_decodes_every_format_to_rgb(image_format: str) -> None:
    """Each of the five formats comes out as uint8, C-contiguous, RGB, with its colours in place."""
    image = decode_image(encoded(PillowImage.fromarray(quarters()), image_format))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert close(image, quarters())


@pytest.mark.parametrize("image_format", FORMATS)
def test_header_says_format_and_size(image_format: str) -> None:
    """The header names format and size without decoding."""
    header = read_header(encoded(PillowImage.fromarray(quarters()), image_format))
    assert (header.format, header.width, header.height, header.orientation) == (image_format, 96, 64, 1)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_header_of_every_webp_kind(lossless: bool, mode: str) -> None:
    """Lossy, lossless and extended WebP files declare their size in three ways, and all are read."""
    image = PillowImage.fromarray(quarters(70, 90)).convert(mode)
    header = read_header(encoded(image, "WebP", lossless=lossless))
    assert (header.width, header.height) == (90, 70)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WebP", "TIFF"])
def test_orientation_is_honoured(image_format: str, orientation: int) -> None:
    """A file that says it lies on its side, or is mirrored, comes out upright, and its header says the shown size."""
    upright = quarters()
    # How the pixels must lie in the file so that the turn which EXIF asks for makes them upright.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    data = encoded(PillowImage.fromarray(np.ascontiguousarray(stored)), image_format, exif=exif.tobytes())
    assert close(decode_image(data), upright)
    header = read_header(data)
    assert (header.width, header.height) == (96, 64)


def test_orientation_is_honoured_when_reduced() -> None:
    """A JPEG decoded at half size is turned all the same."""
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    lying = PillowImage.fromarray(np.ascontiguousarray(np.rot90(quarters(), 1)))
    image = decode_image(encoded(lying, "JPEG", exif=exif.tobytes()), min_side=32)
    assert close(image[4:-4:4, 4:-4:4], quarters(32, 48)[4:-4:4, 4:-4:4], 30)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_reason_to_refuse() -> None:
    """A picture with rubbish in its EXIF block is taken as upright."""
    data = encoded(PillowImage.fromarray(quarters()), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert close(decode_image(data), quarters())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_becomes_rgb(image_format: str) -> None:
    """A grey picture gets three equal channels."""
    grey = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (40, 1))
    image = decode_image(encoded(PillowImage.fromarray(grey), image_format))
    assert close(image, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WebP"])
def test_transparent_is_laid_on_white(image_format: str) -> None:
    """What is transparent becomes white, half transparent becomes half white, whatever colour hides beneath."""
    rgba = np.zeros((8, 9, 4), np.uint8)
    rgba[:, :3] = (255, 0, 0, 0)
    rgba[:, 3:6] = (255, 0, 0, 128)
    rgba[:, 6:] = (255, 0, 0, 255)
    image = decode_image(
        encoded(PillowImage.fromarray(rgba), image_format, **{"exact": True} if image_format == "WebP" else {})
    )
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 4].tolist() == [255, 127, 127]
    assert image[0, 8].tolist() == [255, 0, 0]


def test_grey_with_alpha_and_palette_with_transparency() -> None:
    """Transparency counts in grey and palette pictures too."""
    grey_alpha = np.dstack([np.full((4, 4), 10, np.uint8), np.zeros((4, 4), np.uint8)])
    assert (decode_image(encoded(PillowImage.fromarray(grey_alpha, "LA"), "PNG")) == 255).all()
    palette = PillowImage.fromarray(quarters()).convert("P", palette=PillowImage.Palette.ADAPTIVE)
    hidden = palette.getpixel((0, 0))
    image = decode_image(encoded(palette, "PNG", transparency=hidden))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert close(image[-1:, -1:], quarters()[-1:, -1:])


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_palette_becomes_rgb(image_format: str) -> None:
    """A palette picture has the colours of its palette."""
    palette = PillowImage.fromarray(quarters()).convert("P", palette=PillowImage.Palette.ADAPTIVE)
    assert close(decode_image(encoded(palette, image_format)), quarters())


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_one_bit_becomes_black_and_white(image_format: str) -> None:
    """A scan of one bit a pixel has black and white only."""
    bits = PillowImage.fromarray(np.indices((16, 16)).sum(0).astype(np.uint8) % 2 * 255).convert("1")
    assert np.unique(decode_image(encoded(bits, image_format))).tolist() == [0, 255]


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(image_format: str) -> None:
    """A picture made for printing has its colours, not their negative."""
    image = decode_image(encoded(PillowImage.fromarray(quarters()).convert("CMYK"), image_format))
    assert close(image, quarters(), 16)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_upper_bits(image_format: str) -> None:
    """16-bit grey is brought to 8 bits by its full range, not cut off at 255."""
    values = (np.arange(256, dtype=np.uint16) * 256 + 17)[None].repeat(4, axis=0)
    image = decode_image(encoded(PillowImage.fromarray(values), image_format))
    assert (image[0, :, 0] == np.arange(256)).all()


def test_sixteen_bit_colour_keeps_its_upper_bits() -> None:
    """16 bits a channel in colour are brought to 8 as well."""
    blue_first = quarters()[:, :, ::-1].astype(np.uint16) * 257
    assert (decode_image(cv2.imencode(".png", blue_first)[1].tobytes()) == quarters()).all()


def test_float_pixels_are_stretched() -> None:
    """Pixels without a declared white run from the darkest to the brightest."""
    values = np.linspace(-3.0, 5.0, 11, dtype=np.float32)[None]
    image = decode_image(encoded(PillowImage.fromarray(values), "TIFF"))
    assert image[0, [0, 5, 10], 0].tolist() == [0, 128, 255]


def test_float_pixels_must_be_finite() -> None:
    """A NaN among the pixels is a broken picture."""
    values = np.array([[0.0, np.nan]], np.float32)
    data = encoded(PillowImage.fromarray(values), "TIFF")
    assert reason_of(lambda: decode_image(data)) == InvalidReason.CORRUPT_IMAGE


@pytest.mark.parametrize("image_format", ["PNG", "WebP", "TIFF"])
def test_of_several_pictures_the_first_is_taken(image_format: str) -> None:
    """An animated or multi-page file counts as its first picture."""
    pages = [PillowImage.fromarray(np.full((16, 24, 3), colour, np.uint8)) for colour in (RED, GREEN, BLUE)]
    data = encoded(pages[0], image_format, save_all=True, append_images=pages[1:])
    assert close(decode_image(data), np.full((16, 24, 3), RED, np.uint8), 2)


def test_min_side_permits_a_reduced_decode() -> None:
    """A JPEG comes out reduced by the largest factor that keeps its short side, and never below."""
    data = photograph()  # 640 x 427
    assert decode_image(data).shape == (427, 640, 3)
    assert decode_image(data, min_side=224).shape == (427, 640, 3)
    assert decode_image(data, min_side=213).shape == (214, 320, 3)
    assert decode_image(data, min_side=100).shape == (107, 160, 3)
    assert decode_image(data, min_side=1).shape == (54, 80, 3)


def test_empty_value() -> None:
    """No bytes are an empty value."""
    assert reason_of(lambda: decode_image(b"")) == InvalidReason.EMPTY_VALUE


@pytest.mark.parametrize(
    "data", [b"hello, world", b"BM is how this text begins", b"GIF89a\x01\x00\x01\x00", b"\xff\xd8", b"RIFF"]
)
def test_unknown_format(data: bytes) -> None:
    """Text, a format nobody promised, or a bare beginning is an unknown format."""
    assert reason_of(lambda: decode_image(data)) == InvalidReason.UNKNOWN_IMAGE_FORMAT
    assert reason_of(lambda: read_header(data)) == InvalidReason.UNKNOWN_IMAGE_FORMAT


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.98])
def test_truncated_file(image_format: str, share: float) -> None:
    """A file that lost its end is corrupt in every format, never a half-grey picture."""
    whole = encoded(PillowImage.open(io.BytesIO(photograph())), image_format)
    data = whole[: int(len(whole) * share)]
    assert reason_of(lambda: decode_image(data)) == InvalidReason.CORRUPT_IMAGE


@pytest.mark.parametrize("tail", [b"", bytes(4096), b"\xff", b"text behind", "another picture"])
def test_truncated_jpeg_with_something_behind(tail: bytes | str) -> None:
    """A torn JPEG is corrupt whatever follows it, a whole second picture with its own end included."""
    data = photograph()
    torn = data[: len(data) // 2] + (data if isinstance(tail, str) else tail)
    assert reason_of(lambda: decode_image(torn)) == InvalidReason.CORRUPT_IMAGE


def test_thumbnail_inside_does_not_end_a_jpeg() -> None:
    """The end marker of a thumbnail in the EXIF block is not the end of a torn picture."""
    exif = b"Exif\x00\x00" + thumbnail_jpeg(quarters())
    data = encoded(PillowImage.open(io.BytesIO(photograph())), "JPEG", exif=exif)
    assert decode_image(data).shape == (427, 640, 3)
    assert reason_of(lambda: decode_image(data[: len(data) // 2])) == InvalidReason.CORRUPT_IMAGE


def test_bytes_behind_a_whole_jpeg_are_ignored() -> None:
    """Padding, or a second picture behind the first as phones write it, does no harm."""
    data = photograph()
    first = decode_image(data)
    assert (decode_image(data + bytes(100)) == first).all()
    assert (decode_image(data + data) == first).all()


def test_progressive_jpeg() -> None:
    """A JPEG of several scans is decoded, and corrupt when one is missing."""
    data = encoded(PillowImage.fromarray(quarters()), "JPEG", progressive=True)
    assert close(decode_image(data), quarters())
    last_scan = data.rindex(b"\xff\xda")
    assert reason_of(lambda: decode_image(data[: last_scan + 4])) == InvalidReason.CORRUPT_IMAGE


def test_jpeg_of_absurdly_many_scans() -> None:
    """A progressive JPEG that repeats its scans beyond reason is refused before decoding."""
    data = encoded(PillowImage.fromarray(quarters()), "JPEG", progressive=True)
    last_scan = data.rindex(b"\xff\xda")
    bomb = data[:last_scan] + data[last_scan:-2] * 200 + data[-2:]
    assert reason_of(lambda: decode_image(bomb)) == InvalidReason.CORRUPT_IMAGE


@pytest.mark.parametrize("read", [decode_image, lambda data: decode_image(data, min_side=10)])
def test_huge_png_is_refused_by_its_header(read: Callable[[bytes], object]) -> None:
    """A PNG that declares 60,000 x 60,000 pixels is too large, said from its header."""
    data = png(60_000, 60_000)
    assert len(data) < 100
    assert (read_header(data).width, read_header(data).height) == (60_000, 60_000)
    assert reason_of(lambda: read(data)) == InvalidReason.IMAGE_TOO_LARGE


def test_nothing_is_decoded_before_the_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture over the limit no pixel buffer is ever asked for; a WebP is not even opened."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    small = {name: encoded(PillowImage.fromarray(quarters()), name) for name in FORMATS}
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", forbidden)
    monkeypatch.setattr("farpoint_models.images.cv2.imdecode", forbidden)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile._open", forbidden)
    for data in small.values():
        assert reason_of(lambda data=data: decode_image(data, max_pixels=96 * 64 - 1)) == InvalidReason.IMAGE_TOO_LARGE  # type: ignore[misc]


def test_limit_is_inclusive() -> None:
    """A picture of exactly the allowed size passes."""
    data = encoded(PillowImage.fromarray(quarters()), "PNG")
    assert decode_image(data, max_pixels=96 * 64).shape == (64, 96, 3)


def test_tiff_in_huge_tiles() -> None:
    """A small TIFF that claims tiles larger than any picture is too large: its decoder makes room for a tile."""
    tags = {256: 1, 257: 1, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 20}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    body = zlib.compress(bytes(100))[:20].ljust(24, b"\0")
    data = b"II*\x00" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert open_lazily(data, "TIFF").size == (1, 1)
    assert reason_of(lambda: decode_image(data)) == InvalidReason.IMAGE_TOO_LARGE


def test_png_without_pixels() -> None:
    """A picture of no width is corrupt."""
    assert reason_of(lambda: decode_image(png(0, 5))) == InvalidReason.CORRUPT_IMAGE


def card(**options: object) -> ModelCard:
    """Card of a small model."""
    model_input = ModelInput(height=8, width=12, **options)  # type: ignore[arg-type]
    return ModelCard(name="small", revision=1, dimension=4, input=model_input)


def test_preprocess_for_a_model_that_normalises_itself() -> None:
    """Such a model gets the pixels, height x width x 3."""
    ready = preprocess(quarters(), card(layout="NHWC", dtype="uint8"))
    assert ready.dtype == np.uint8
    assert ready.flags.c_contiguous
    assert (ready == quarters(8, 12)).all()


def test_preprocess_normalises() -> None:
    """Others get float32 planes, `(pixel - mean) / std` of each channel."""
    ready = preprocess(quarters(), card(mean=(100.0, 110.0, 120.0), std=(10.0, 20.0, 40.0)))
    assert ready.dtype == np.float32
    assert ready.shape == (3, 8, 12)
    assert ready.flags.c_contiguous
    expected = (np.array(RED) - [100, 110, 120]) / [10, 20, 40]
    assert np.allclose(ready[:, 0, 0], expected)


def test_preprocess_stretches_or_crops() -> None:
    """`stretch` keeps the edges of a wide picture, `crop` its middle only."""
    wide = np.zeros((16, 96, 3), np.uint8)
    wide[:, :20] = wide[:, -20:] = 255
    stretched = preprocess(wide, card(layout="NHWC", dtype="uint8", resize="stretch"))
    cropped = preprocess(wide, card(layout="NHWC", dtype="uint8", resize="crop"))
    assert stretched[0, 0, 0] == 255
    assert cropped.max() == 0
    assert stretched.shape == cropped.shape == (8, 12, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (3, 7), (8, 12), (9, 13), (427, 640), (1080, 1920)])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_preprocess_takes_any_size(shape: tuple[int, int], resize: str) -> None:
    """From one pixel to a film frame, every picture fits the model afterwards, and stays as bright as it was."""
    image = np.full((*shape, 3), 77, np.uint8)
    ready = preprocess(image, card(layout="NHWC", dtype="uint8", resize=resize))
    assert ready.shape == (8, 12, 3)
    assert (ready == 77).all()


def test_fine_structure_averages_out() -> None:
    """Shrinking takes the mean of what a pixel covers: fine stripes become grey, not a pattern."""
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 254
    ready = preprocess(stripes, card(layout="NHWC", dtype="uint8"))
    assert np.abs(ready.astype(int) - 127).max() <= 2


def test_reduced_decode_changes_little() -> None:
    """A JPEG decoded at half size ends as nearly the same model input as one decoded in full."""
    frame = cv2.cvtColor(cv2.resize(decode_image(photograph()), (640, 480)), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", frame)[1].tobytes()
    model_input = ModelInput(height=224, width=224, layout="NHWC", dtype="uint8")
    wanted = ModelCard(name="a", revision=1, dimension=4, input=model_input)
    full, reduced = decode_image(data), decode_image(data, min_side=224)
    assert full.shape[0] == 2 * reduced.shape[0]
    assert np.abs(preprocess(full, wanted).astype(int) - preprocess(reduced, wanted)).mean() < 3


def test_stack_keeps_order_and_type() -> None:
    """A batch holds the pictures in order."""
    batch = stack([np.full((2, 2, 3), value, np.uint8) for value in (3, 1, 2)])
    assert batch.dtype == np.uint8
    assert batch[:, 0, 0, 0].tolist() == [3, 1, 2]


@pytest.mark.parametrize(("shape", "expected"), [((480, 640), (160, 120)), ((900, 30), (5, 160)), ((20, 30), (30, 20))])
def test_thumbnail_fits(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """A thumbnail keeps the ratio, is never over 160 pixels a side and never enlarged."""
    header = read_header(thumbnail_jpeg(np.full((*shape, 3), 9, np.uint8)))
    assert (header.format, header.width, header.height) == ("JPEG", *expected)


def test_thumbnail_of_a_photograph_is_small_and_alike() -> None:
    """A real photograph fits in 4 kB and still looks like itself, colours in order."""
    image = decode_image(photograph())
    thumbnail = thumbnail_jpeg(image)
    assert len(thumbnail) <= 4096
    small = cv2.resize(image, (160, 107), interpolation=cv2.INTER_AREA)
    assert np.abs(decode_image(thumbnail).astype(int) - small.astype(int)).mean() < 12


def test_thumbnail_of_noise_stays_bounded() -> None:
    """Even noise, which compresses worst, stays in the order of 4 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert len(thumbnail_jpeg(noise)) < 8192
