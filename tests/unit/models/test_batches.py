"""Device batches are cut into the sizes that a device runs."""

import pytest

from farpoint_models.batches import padded_pieces


@pytest.mark.parametrize("count", range(20))
def test_pieces_cover_the_batch(count: int) -> None:
    """Pieces have allowed sizes only and hold every picture, and empty places in the last one only."""
    sizes = (1, 2, 8)
    cut = list(padded_pieces(count, sizes))
    assert set(cut) <= set(sizes)
    assert count <= sum(cut) < count + max(cut, default=1)
