"""A contact sheet: the live clusters, a row each, with the pictures nearest to their centroids."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_THUMB = 120
_LABEL = 230
_GAP = 6
_INK = (40, 40, 40)


@dataclass(frozen=True)
class SheetRow:
    """One cluster: what to write beside it, and its pictures as JPEG, nearest first."""

    title: str
    detail: str
    pictures: Sequence[bytes]


def contact_sheet(rows: Sequence[SheetRow], columns: int = 6) -> bytes:
    r"""Draw the rows and return a JPEG.

    Examples
    --------
    >>> contact_sheet([SheetRow("cluster 7", "12 pictures", [])])[:2]
    b'\xff\xd8'
    """
    height = _GAP + max(1, len(rows)) * (_THUMB + _GAP)
    sheet = np.full((height, _LABEL + columns * (_THUMB + _GAP) + _GAP, 3), 250, np.uint8)
    for index, row in enumerate(rows):
        top = _GAP + index * (_THUMB + _GAP)
        _write(sheet, row.title, top + 30, 0.55)
        _write(sheet, row.detail, top + 55, 0.42)
        for column, picture in enumerate(row.pictures[:columns]):
            left = _LABEL + column * (_THUMB + _GAP)
            sheet[top : top + _THUMB, left : left + _THUMB] = _fitted(picture)
    ok, encoded = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert ok  # noqa: S101 -- an array of this type and shape can always be encoded
    return bytes(encoded)


def _write(sheet: NDArray[np.uint8], text: str, baseline: int, scale: float) -> None:
    # OpenCV's strokes know ASCII alone.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(sheet, plain[:34], (_GAP * 2, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)


def _fitted(picture: bytes) -> NDArray[np.uint8]:
    cell = np.full((_THUMB, _THUMB, 3), 235, np.uint8)
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return cell
    scale = _THUMB / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (_THUMB - size[1]) // 2, (_THUMB - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = small
    return cell
