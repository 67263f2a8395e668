"""Device batches of pictures in, embeddings out."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from farpoint_models.card import ModelCard, ModelCardError, ModelFile, ModelInput, load_card, load_model_file
from farpoint_models.images import Image, ImageBatch, preprocess, stack
from farpoint_models.providers import (
    ExecutionProvider,
    ProviderUnavailableError,
    RequestedDevice,
    candidate_devices,
    open_session,
)

Embeddings = NDArray[np.float32]
"""(N, D), one row a picture, as the model gave them: not normalised."""

# Small ones: what one piece computes on the way stays in the caches, and nothing is gained beyond.
CPU_BATCH_SIZES: Final = (1, 2, 4)
CUDA_BATCH_SIZES: Final = (1, 8, 32, 64)
CANARY_COMPONENTS: Final = 64
"""How many components of the canary's embedding a card keeps."""

_LEAST_CANARY_COSINE: Final = {"fp32": 0.9999, "int8": 0.995}


class Embedder(Protocol):
    """What turns device batches of pictures into embeddings.

    `embed` blocks while the device works and releases the GIL meanwhile; one call at a time.
    """

    @property
    def card(self) -> ModelCard:
        """The model's card: says how pictures are preprocessed."""

    @property
    def model_id(self) -> str:
        """Name of the vector space."""

    @property
    def dimension(self) -> int:
        """D, components of an embedding."""

    @property
    def provider(self) -> ExecutionProvider:
        """Where it really runs."""

    @property
    def file(self) -> ModelFile:
        """Which of the card's files it really runs."""

    def warm_up(self) -> None:
        """Run every batch size once, so that the first picture is not the slowest."""

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed a batch.

        Parameters
        ----------
        batch
            N stacked results of `preprocess` for this embedder's card; N may be anything, 0 included.

        Returns
        -------
        Embeddings
            float32, (N, D), row n for picture n.

        Raises
        ------
        ValueError
            The batch has another type or shape than the card says.
        """


class OnnxEmbedder:
    """An ONNX model folder on ONNX Runtime.

    A device batch is run in a few fixed sizes only: memory of shapes that vary is never given back (ONNX Runtime
    #24376). On the CPU a batch is cut into such sizes exactly, on the GPU the last piece is filled up, since there an
    empty place costs nothing.

    Parameters
    ----------
    folder
        With `card.json` and the files it names.
    device
        `auto`: CUDA if it starts, else the CPU; `cpu`; `cuda`: CUDA, or an error.
    threads
        Threads of one inference on the CPU; 0: all cores.
    batch_sizes
        The fixed sizes, ascending, starting with 1; None: what was measured to be good for the device.

    Raises
    ------
    ModelCardError
        The folder is incomplete, a file is not the one the card describes, or the graph does not fit the card.
    ProviderUnavailableError
        `cuda` was asked for and cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: RequestedDevice = "auto",
        threads: int = 0,
        batch_sizes: Sequence[int] | None = None,
    ) -> None:
        self.card = load_card(folder)
        self._session, self.provider, self.file = _open(folder, self.card, device, threads)
        self._pad = self.provider.device == "cuda"
        self._sizes = tuple(batch_sizes or (CUDA_BATCH_SIZES if self._pad else CPU_BATCH_SIZES))
        if list(self._sizes) != sorted(set(self._sizes)) or self._sizes[0] != 1:
            raise ValueError(f"batch sizes must ascend from 1, not {self._sizes}")
        self._input = _fitting_input(self._session, self.card)

    @property
    def model_id(self) -> str:
        """Name of the vector space."""
        return self.card.id

    @property
    def dimension(self) -> int:
        """D, components of an embedding."""
        return self.card.dimension

    def warm_up(self) -> None:
        """Run every batch size once, and look whether the card's canary comes out as it should.

        Raises
        ------
        ModelCardError
            It does not: the model runs here, but computes something else than where it was made.
        """
        canary = preprocess(canary_image(), self.card)
        embedding = self.embed(canary[np.newaxis])[0]
        for size in self._sizes[1:]:
            self.embed(stack([canary] * size))
        if self.file.canary is None:
            return
        expected = np.asarray(self.file.canary, np.float32)
        cosine = _cosine(embedding[: len(expected)], expected)
        least = _LEAST_CANARY_COSINE["int8" if self.file is self.card.files.get("int8") else "fp32"]
        if not cosine >= least:
            raise ModelCardError(
                f"{self.file.file} computes something else on {self.provider.name} than where it was made: "
                f"cosine of the canary {cosine:.4f}, expected at least {least}"
            )

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed a batch of any size; see `Embedder.embed`."""
        check_batch(batch, self.card)
        embeddings = np.empty((len(batch), self.card.dimension), np.float32)
        start = 0
        for size in pieces(len(batch), self._sizes, pad=self._pad):
            piece = batch[start : start + size]
            real = len(piece)
            if real < size:
                piece = np.concatenate([piece, np.zeros((size - real, *piece.shape[1:]), piece.dtype)])
            embeddings[start : start + real] = self._session.run(None, {self._input: piece})[0][:real]
            start += real
        return embeddings


class DummyEmbedder:
    """Mean colours of a coarse grid, for tests and for looking at everything but the model.

    Deterministic, a row never depends on its neighbours, and pictures that look alike get vectors that lie close.

    Parameters
    ----------
    grid
        Cells along each side; the dimension is `3 * grid**2`.

    Examples
    --------
    >>> embedder = DummyEmbedder()
    >>> white = preprocess(np.full((48, 64, 3), 255, np.uint8), embedder.card)
    >>> embedder.embed(stack([white])).shape, embedder.model_id
    ((1, 48), 'dummy@1')
    """

    def __init__(self, grid: int = 4) -> None:
        side = 8 * grid
        picture = ModelInput(height=side, width=side, layout="NHWC", dtype="uint8", std=(1.0, 1.0, 1.0))
        self._grid = grid
        self.card = ModelCard(name="dummy", revision=1, dimension=3 * grid**2, input=picture)
        self.provider = ExecutionProvider("CPUExecutionProvider", "cpu", "cpu", "numpy")
        self.file = self.card.files["fp32"]

    @property
    def model_id(self) -> str:
        """Name of the vector space."""
        return self.card.id

    @property
    def dimension(self) -> int:
        """D, components of an embedding."""
        return self.card.dimension

    def warm_up(self) -> None:
        """Nothing to warm."""

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed a batch; see `Embedder.embed`."""
        check_batch(batch, self.card)
        cells = batch.reshape(len(batch), self._grid, 8, self._grid, 8, 3).mean(axis=(2, 4), dtype=np.float32)
        # One more than the colour: a black picture has a direction too.
        return cells.reshape(len(batch), self.dimension) + np.float32(1.0)


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
    side = (card.input.height, card.input.width)
    expected = (*side, 3) if card.input.layout == "NHWC" else (3, *side)
    if batch.shape[1:] != expected or batch.dtype != card.input.dtype:
        wanted = f"(N, {', '.join(map(str, expected))}) {card.input.dtype}"
        raise ValueError(f"{card.id} takes {wanted}, not {batch.shape} {batch.dtype}")


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


def _open(
    folder: Path, card: ModelCard, requested: RequestedDevice, threads: int
) -> tuple[Any, ExecutionProvider, ModelFile]:
    devices, note = candidate_devices(requested)
    for device in devices:
        file = card.file_for(device)
        try:
            return *open_session(load_model_file(folder, file), device, requested, note, threads=threads), file
        except ProviderUnavailableError as error:
            if device == devices[-1]:
                raise
            note = f"{devices[-1]}, because cuda did not start: {error}"
    raise AssertionError("there is at least one device")


def _fitting_input(session: Any, card: ModelCard) -> str:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise ModelCardError(f"{card.id}: the graph has {len(inputs)} inputs; expected one, a batch of pictures")
    types = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
    if inputs[0].type != types[card.input.dtype]:
        raise ModelCardError(f"{card.id}: the graph takes {inputs[0].type}, the card says {card.input.dtype}")
    # Names and None stand for sizes that are open.
    if len(outputs[0].shape) != 2 or outputs[0].shape[1] not in {card.dimension, None}:
        raise ModelCardError(f"{card.id}: the graph gives {outputs[0].shape}, the card says (N, {card.dimension})")
    return str(inputs[0].name)


def _cosine(a: Embeddings, b: Embeddings) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
