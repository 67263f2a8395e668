"""Device batches: the sizes they run in, and the shape that a model takes."""

from collections.abc import Iterator, Sequence
from typing import Final

from farpoint_models.card import ModelCard
from farpoint_models.images import ImageBatch

# Of a GPU; a CPU computes each picture by itself.
CUDA_BATCH_SIZES: Final = (1, 8, 32, 64)


def padded_pieces(count: int, sizes: Sequence[int]) -> Iterator[int]:
    """Cut a batch into fixed sizes, largest first; the rest goes into one larger piece, with empty places.

    Parameters
    ----------
    count
        Pictures.
    sizes
        Allowed sizes, ascending from 1.

    Yields
    ------
    int
        A size; their sum is `count` or more.

    Examples
    --------
    >>> list(padded_pieces(75, (1, 8, 32, 64)))
    [64, 32]
    """
    while count > 0:
        size = next((size for size in sizes if size >= count), sizes[-1])
        yield size
        count -= size


def check_batch(batch: ImageBatch, card: ModelCard) -> None:
    """Make sure a batch is what a model takes in.

    Raises
    ------
    ValueError
        The batch has another type or shape than the card says.
    """
    expected = picture_shape(card)
    if batch.shape[1:] != expected or batch.dtype != card.input.dtype:
        wanted = f"(N, {', '.join(map(str, expected))}) {card.input.dtype}"
        raise ValueError(f"{card.id} takes {wanted}, not {batch.shape} {batch.dtype}")


def picture_shape(card: ModelCard) -> tuple[int, int, int]:
    """Shape of one picture as a model takes it.

    Examples
    --------
    >>> from farpoint_models.card import load_card, shipped_model_folder
    >>> picture_shape(load_card(shipped_model_folder()))
    (224, 224, 3)
    """
    side = (card.input.height, card.input.width)
    return (*side, 3) if card.input.layout == "NHWC" else (3, *side)
