"""Device batches: the sizes they run in, and the shape that a model takes."""

from collections.abc import Iterator, Sequence
from typing import Final

from farpoint_models.card import ModelCard
from farpoint_models.images import ImageBatch

# Small ones: what one piece computes on the way stays in the caches, and nothing is gained beyond.
CPU_BATCH_SIZES: Final = (1, 2, 4)
CUDA_BATCH_SIZES: Final = (1, 8, 32, 64)


def pieces(count: int, sizes: Sequence[int], *, pad: bool) -> Iterator[int]:
    """Cut a batch into fixed sizes, largest first.

    Parameters
    ----------
    count
        Pictures.
    sizes
        Allowed sizes, ascending from 1.
    pad
        Whether the rest goes into one larger piece, with empty places, or into several smaller ones.

    Yields
    ------
    int
        A size; their sum is `count`, or more when padded.

    Examples
    --------
    >>> list(pieces(27, (1, 2, 4, 8), pad=False)), list(pieces(75, (1, 8, 32, 64), pad=True))
    ([8, 8, 8, 2, 1], [64, 32])
    """
    while count > 0:
        if count >= sizes[-1]:
            size = sizes[-1]
        elif pad:
            size = next(size for size in sizes if size >= count)
        else:
            size = next(size for size in reversed(sizes) if size <= count)
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
