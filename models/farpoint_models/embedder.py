"""Device batches of pictures in, embeddings out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from farpoint_models.batches import CUDA_BATCH_SIZES, check_batch, picture_shape
from farpoint_models.binding import BoundSession, CoreSessions, DeviceSession
from farpoint_models.canary import Canary, CanaryError
from farpoint_models.card import (
    Device,
    ModelCard,
    ModelCardError,
    ModelFile,
    ModelInput,
    load_card,
    load_model_file,
)
from farpoint_models.graph import embedding_output, fitting_input
from farpoint_models.images import ImageBatch, stack
from farpoint_models.placement import placement_of
from farpoint_models.precision import RequestedPrecision, chosen_precision
from farpoint_models.providers import (
    ExecutionProvider,
    ProviderUnavailableError,
    RequestedDevice,
    candidate_devices,
    first_run,
    open_session,
    require_placement,
    tensorrt_options,
)

Embeddings = NDArray[np.float32]
"""(N, D), one row a picture, as the model gave them: not normalised."""


class DeviceError(RuntimeError):
    """The device failed in the middle of its work; nothing that was on it came out."""


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

    def warm_up(self) -> float:
        """Run a batch of each kind once, so that the first picture is not the slowest, and try the canary.

        Returns
        -------
        float
            The canary's cosine; see `check_canary`.
        """

    def check_canary(self) -> float:
        """Embed the canary, and return its cosine to what it should be.

        Raises
        ------
        CanaryError
            It is less than the card allows.
        DeviceError
            The device failed.
        """

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
        DeviceError
            The device failed.
        """


class OnnxEmbedder:
    """An ONNX model folder on ONNX Runtime.

    How batches are cut for the device, and which memory is bound to it, is told in `binding`.

    Parameters
    ----------
    folder
        With `card.json` and the files it names.
    device
        `auto`: CUDA if it starts, else the CPU; `cpu`; `cuda` or `tensorrt`: that, or an error.
    precision
        `auto`: the file that the card prefers for the device, but fp32 instead of int8 on a CPU without instructions
        for it; else the file of that precision.
    threads
        Cores that compute, on the CPU.
    batch_sizes
        The fixed sizes of batches on a GPU, ascending, starting with 1.
    engine_cache
        Folder where TensorRT keeps what it built.

    Raises
    ------
    ModelCardError
        The folder is incomplete, a file is not the one the card describes, or the graph does not fit the card.
    ProviderUnavailableError
        A GPU was asked for and cannot be had, fails at its first run, or computes only part of the graph.
    FirstRunError
        The CPU cannot run the graph.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: RequestedDevice = "auto",
        precision: RequestedPrecision = "auto",
        threads: int = 1,
        batch_sizes: Sequence[int] = CUDA_BATCH_SIZES,
        engine_cache: Path | None = None,
    ) -> None:
        if list(batch_sizes) != sorted(set(batch_sizes)) or batch_sizes[0] != 1:
            raise ValueError(f"batch sizes must ascend from 1, not {tuple(batch_sizes)}")
        self.card = load_card(folder)
        devices, note = candidate_devices(device)
        for candidate in devices:
            try:
                self._open(folder, candidate, device, precision, note, threads, batch_sizes, engine_cache)
                break
            except ProviderUnavailableError as error:
                if candidate == devices[-1]:
                    raise
                note = f"{devices[-1]}, because cuda did not start: {error}"

    def _open(
        self,
        folder: Path,
        device: Device,
        requested: RequestedDevice,
        precision: RequestedPrecision,
        note: str,
        threads: int,
        batch_sizes: Sequence[int],
        engine_cache: Path | None,
    ) -> None:
        self.precision, why = chosen_precision(self.card, device, precision)
        self.file = self.card.files[self.precision]
        model = load_model_file(folder, self.file)
        options = None
        if requested == "tensorrt":
            # The session's own name for its input is not known before there is one; opening it on the CPU tells.
            plain, _ = open_session(model, "cpu", requested, note, threads=1)
            options = tensorrt_options(
                {fitting_input(plain, self.card): picture_shape(self.card)}, batch_sizes[-1], engine_cache
            )
        with TemporaryDirectory(prefix="farpoint-profile-") as profile, first_run(device, requested):
            session, provider = open_session(
                model, device, requested, note + why, threads=threads, tensorrt_options=options, profile=Path(profile)
            )
            name = fitting_input(session, self.card)
            placement = placement_of(session, {name: np.zeros((1, *picture_shape(self.card)), self.card.input.dtype)})
        self.provider = replace(provider, placement=placement)
        require_placement(self.provider)
        output = embedding_output(session, self.card)
        self._device: BoundSession
        if device == "cuda":
            self._device = DeviceSession(session, self.card, batch_sizes, name, output)
        else:
            narrow = open_session(model, device, requested, note, threads=1)[0] if threads > 1 else session
            self._device = CoreSessions(session, narrow, threads, name, output)
        self._canary = Canary(self.card, self.precision)

    @property
    def model_id(self) -> str:
        """Name of the vector space."""
        return self.card.id

    @property
    def dimension(self) -> int:
        """D, components of an embedding."""
        return self.card.dimension

    @property
    def least_canary_cosine(self) -> float:
        """Cosine of the canary below which the device is not believed."""
        return self._canary.least_cosine

    def warm_up(self) -> float:
        """Run a batch of each kind once, and look whether the card's canary comes out as it should; return its cosine.

        Raises
        ------
        ModelCardError
            It does not: the model runs here, but computes something else than where it was made.
        DeviceError
            The device failed.
        """
        for size in self._device.warm_up_sizes:
            self.embed(stack([self._canary.batch[0]] * size))
        try:
            return self.check_canary()
        except CanaryError as error:
            raise ModelCardError(str(error)) from None

    def check_canary(self) -> float:
        """Embed the canary and compare it with the card's; see `Embedder.check_canary`."""
        return self._canary.compare(self.embed(self._canary.batch)[0], self.provider.name)

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed a batch of any size; see `Embedder.embed`."""
        check_batch(batch, self.card)
        embeddings = np.empty((len(batch), self.card.dimension), np.float32)
        try:
            self._device.run(batch, embeddings)
        except Exception as error:  # ONNX Runtime has a dozen classes of its own
            said = " ".join(str(error).split())[:300]
            raise DeviceError(f"{self.provider.name} failed: {said}") from error
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
    >>> from farpoint_models.images import preprocess
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

    def warm_up(self) -> float:
        """Nothing to warm."""
        return 1.0

    def check_canary(self) -> float:
        """Mean colours do not drift."""
        return 1.0

    def embed(self, batch: ImageBatch) -> Embeddings:
        """Embed a batch; see `Embedder.embed`."""
        check_batch(batch, self.card)
        cells = batch.reshape(len(batch), self._grid, 8, self._grid, 8, 3).mean(axis=(2, 4), dtype=np.float32)
        # One more than the colour: a black picture has a direction too.
        return cells.reshape(len(batch), self.dimension) + np.float32(1.0)
