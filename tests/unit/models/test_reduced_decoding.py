"""JPEGs decoded at reduced size: as good as in full, and as strict."""

from importlib.resources import files

import cv2
import numpy as np
import pytest

from farpoint_models.card import shipped_model_folder
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.errors import InvalidReason, InvalidRecord
from farpoint_models.images import decode_image, preprocess, stack
from farpoint_models.importing import cosines

LEAST_COSINE = 0.99
"""Between the embeddings of a picture decoded at reduced size and in full; what was measured: docs/performance.md."""


def photographs(width: int, height: int) -> list[bytes]:
    """Return two real photographs as JPEGs of a size."""
    images = [cv2.imread(str(files("sklearn.datasets") / "images" / name)) for name in ("china.jpg", "flower.jpg")]
    return [cv2.imencode(".jpg", cv2.resize(image, (width, height)))[1].tobytes() for image in images]


@pytest.fixture(scope="module")
def fp32() -> OnnxEmbedder:
    """Load the full shipped model."""
    return OnnxEmbedder(shipped_model_folder(), device="cpu", precision="fp32", threads=1)


@pytest.mark.parametrize(("width", "height", "decoded"), [(640, 480, 240), (1280, 960, 240), (1920, 1080, 270)])
def test_the_embedding_hardly_changes(fp32: OnnxEmbedder, width: int, height: int, decoded: int) -> None:
    """A half, a quarter of the pixels: the embedding stays within the bound that the documentation states."""
    encoded = photographs(width, height)
    whole = [decode_image(data) for data in encoded]
    reduced = [decode_image(data, min_side=224) for data in encoded]
    assert [image.shape[0] for image in reduced] == [decoded] * 2, "they were decoded at reduced size"
    rows = [fp32.embed(stack([preprocess(image, fp32.card) for image in images])) for images in (whole, reduced)]
    assert cosines(*rows).min() >= LEAST_COSINE
    assert cosines(rows[0][:1], rows[0][1:])[0] < 0.6, "the bound tells pictures apart"


@pytest.mark.parametrize("side", [None, 240, 120, 60])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_at_any_size(side: int | None, kept: float) -> None:
    """A cut-off JPEG is no picture, however little of it would be looked at."""
    (data, _) = photographs(640, 480)
    assert decode_image(data, min_side=side).shape[0] == {None: 480, 240: 240, 120: 120, 60: 60}[side]
    with pytest.raises(InvalidRecord) as caught:
        decode_image(data[: int(len(data) * kept)], min_side=side)
    assert caught.value.reason == InvalidReason.CORRUPT_IMAGE


def test_a_row_of_a_batch_is_filled_in_place(fp32: OnnxEmbedder) -> None:
    """Preprocessing into a row gives the same bytes as by itself, in that row alone."""
    image = decode_image(photographs(640, 480)[0])
    batch = np.full((3, 224, 224, 3), 7, np.uint8)
    row = preprocess(image, fp32.card, batch[1])
    assert np.shares_memory(row, batch)
    assert np.array_equal(batch[1], preprocess(image, fp32.card))
    assert (batch[[0, 2]] == 7).all()
