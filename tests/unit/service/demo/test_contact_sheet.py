"""The contact sheet: a row for each cluster, pictures fitted into their cells, whatever they are."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.pictures import encode

from farpoint.demo.contact_sheet import SheetRow, contact_sheet

RED = encode(Image.new("RGB", (160, 90), (200, 0, 0)))
TALL_BLUE = encode(Image.new("RGB", (40, 160), (0, 0, 200)))


def drawn(rows: list[SheetRow], columns: int = 6) -> NDArray[np.uint8]:
    """Draw a sheet and read it back."""
    data = contact_sheet(rows, columns)
    assert data[:3] == b"\xff\xd8\xff"
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def share(sheet: NDArray[np.uint8], channel: int) -> int:
    """Count the pixels in which one channel stands out."""
    others = np.delete(sheet, channel, axis=2).max(axis=2).astype(int)
    return int((sheet[:, :, channel].astype(int) - others > 100).sum())


def test_it_grows_by_row_and_column() -> None:
    """Height by clusters, width by columns, and one row at least."""
    one, three = drawn([SheetRow("a", "", [])]), drawn([SheetRow("a", "", [])] * 3)
    assert three.shape[0] > 2 * one.shape[0]
    assert drawn([]).shape == one.shape
    assert drawn([], columns=3).shape[1] < one.shape[1]


def test_pictures_keep_their_shape() -> None:
    """A wide and a tall picture fill one side of their cell, and more than the columns are not drawn."""
    assert share(drawn([SheetRow("a", "", [RED])]), 0) == pytest.approx(120 * 67, rel=0.1)
    assert share(drawn([SheetRow("a", "", [TALL_BLUE])]), 2) == pytest.approx(30 * 120, rel=0.1)
    assert share(drawn([SheetRow("a", "", [RED] * 9)], columns=2), 0) == pytest.approx(2 * 120 * 67, rel=0.1)


def test_a_broken_picture_leaves_its_cell_empty() -> None:
    """What cannot be decoded spoils nothing."""
    assert share(drawn([SheetRow("a", "", [b"no picture", RED])]), 0) == pytest.approx(120 * 67, rel=0.1)


def test_any_title_can_be_drawn() -> None:
    """Long names and letters beyond ASCII do not fail."""
    drawn([SheetRow("Kamera Süd ✓ " * 20, "\x00\n", [])])
