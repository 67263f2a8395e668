"""Device batches are cut into the sizes that a device runs."""

import pytest

from farpoint_models.batches import pieces


@pytest.mark.parametrize("count", range(20))
@pytest.mark.parametrize("pad", [False, True])
def test_pieces_cover_the_batch(count: int, pad: bool) -> None:
    """Pieces have allowed sizes only and hold every picture; without padding exactly those."""
    sizes = (1, 2, 8)
    cut = list(pieces(count, sizes, pad=pad))
    assert set(cut) <= set(sizes)
    assert sum(cut) == count if not pad else sum(cut) - count in range(8)
