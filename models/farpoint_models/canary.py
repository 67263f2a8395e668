"""The canary: a picture whose embedding is known, which tells whether a device computes what it should."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farpoint_models.card import ModelCard, Precision
from farpoint_models.images import Image, preprocess, stack

CANARY_COMPONENTS: Final = 64
"""How many components of the canary's embedding a card keeps."""

# What rounding explains: fp32 differs by the order of sums (TF32 on a GPU), the others by their bits as well.
_LEAST_COSINE: Final[dict[Precision, float]] = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.995}


class CanaryError(RuntimeError):
    """The device no longer computes what it should; what came out of late is doubtful.

    Parameters
    ----------
    message
        One line for people.
    cosine
        Between what came out and what should have.
    """

    def __init__(self, message: str, cosine: float) -> None:
        super().__init__(message)
        self.cosine = cosine


class Canary:
    """What one file of a model should make of the picture, and how near it must come.

    Parameters
    ----------
    card
        The model's card.
    precision
        Of the file; where the card has no canary for it, the first embedding that is compared stands for it.

    Attributes
    ----------
    batch
        (1, ...), the picture as the model takes it.
    least_cosine : float
        Below it the device is not believed.

    Examples
    --------
    >>> from farpoint_models.card import load_card, shipped_model_folder
    >>> canary = Canary(load_card(shipped_model_folder()), "int8")
    >>> canary.batch.shape, canary.least_cosine
    ((1, 224, 224, 3), 0.995)
    """

    def __init__(self, card: ModelCard, precision: Precision) -> None:
        file = card.files[precision]
        self.batch = stack([preprocess(canary_image(), card)])
        self.least_cosine = file.canary_cosine or _LEAST_COSINE[precision]
        self._file = file.file
        self._expected = None if file.canary is None else np.asarray(file.canary, np.float32)

    def compare(self, embedding: NDArray[np.float32], provider: str) -> float:
        """Compare what a device made of the picture with what it should; return the cosine.

        Parameters
        ----------
        embedding
            float32, (D,).
        provider
            Where it ran, for the message.

        Raises
        ------
        CanaryError
            The cosine is too low, or there is none.
        """
        if self._expected is None:
            self._expected = embedding
        cosine = _cosine(embedding[: len(self._expected)], self._expected)
        if not cosine >= self.least_cosine:
            raise CanaryError(
                f"{self._file} computes something else on {provider} than where it was made: "
                f"cosine of the canary {cosine:.4f}, expected at least {self.least_cosine}",
                cosine,
            )
        return cosine


@cache
def canary_image() -> Image:
    """Paint the picture that every model is tried on before it serves: the same bytes everywhere.

    Returns
    -------
    Image
        uint8, (256, 256, 3): a gradient, stripes and a disc, from whole numbers only.

    Examples
    --------
    >>> int(canary_image().sum(dtype=np.int64))
    24643251
    """
    y, x = np.mgrid[:256, :256]
    image = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
    image[(x // 16 % 4 == 0) & (y > 128)] = (230, 40, 60)
    image[(x - 90) ** 2 + (y - 80) ** 2 < 50**2] = (30, 90, 200)
    image.flags.writeable = False
    return image


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return min(1.0, cosine) if np.isfinite(cosine) else 0.0
