"""A session with its inputs and outputs bound, so that nothing is allocated and little is copied for a batch."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from farpoint_models.batches import picture_shape
from farpoint_models.card import Device, ModelCard


class BoundSession(Protocol):
    """Runs batches of fixed sizes."""

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32], size: int) -> None:
        """Embed pictures into `out`.

        Parameters
        ----------
        pictures
            (n, ...), contiguous.
        out
            (n, D), contiguous; filled.
        size
            Of the batch on the device, n or more.
        """


def bound(session: Any, name: str, output: str, card: ModelCard, device: Device, sizes: Sequence[int]) -> BoundSession:
    """Bind a session to the memory that suits its device.

    Parameters
    ----------
    session
        `onnxruntime.InferenceSession`.
    name, output
        Of the graph's input and of the output that is the embedding.
    card
        Its dimension, input type and shape.
    device
        Where the session runs.
    sizes
        Of batches.
    """
    if device == "cpu":
        return _InPlace(session, name, output)
    return _OnDevice(session, name, output, card, sizes, device)


class _InPlace:
    """On the CPU the caller's memory is the device's: nothing is copied at all."""

    def __init__(self, session: Any, name: str, output: str) -> None:
        self._session = session
        self._name = name
        self._output = output
        self._binding = session.io_binding()

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32], size: int) -> None:
        binding = self._binding
        if len(pictures) < size:  # nobody pads on the CPU but tests
            filled = np.zeros((size, *pictures.shape[1:]), pictures.dtype)
            filled[: len(pictures)] = pictures
            whole = np.empty((size, out.shape[1]), np.float32)
            self.run(filled, whole, size)
            out[:] = whole[: len(out)]
            return
        binding.bind_cpu_input(self._name, np.ascontiguousarray(pictures))
        binding.bind_output(self._output, "cpu", 0, np.float32, list(out.shape), out.ctypes.data)
        self._session.run_with_iobinding(binding)


class _OnDevice:
    """On a GPU each batch size has its input and output in device memory, for good: the arena never grows.

    `device` may be `cpu`: then the same steps run without a GPU, which is how they are tested.
    """

    def __init__(
        self, session: Any, name: str, output: str, card: ModelCard, sizes: Sequence[int], device: Device
    ) -> None:
        self._session = session
        picture = picture_shape(card)
        dtype = np.dtype(card.input.dtype)
        self._slots = {}
        for size in sizes:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type
            taken = value([size, *picture], dtype, device, 0)
            given = value([size, card.dimension], np.float32, device, 0)
            binding = session.io_binding()
            binding.bind_ortvalue_input(name, taken)
            binding.bind_ortvalue_output(output, given)
            self._slots[size] = (binding, taken, given, np.zeros((size, *picture), dtype))

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32], size: int) -> None:
        binding, taken, given, staging = self._slots[size]
        if len(pictures) < size:
            # What earlier batches left in the places behind stays there: rows do not depend on each other.
            staging[: len(pictures)] = pictures
            pictures = staging
        taken.update_inplace(np.ascontiguousarray(pictures))
        self._session.run_with_iobinding(binding)
        out[:] = given.numpy()[: len(out)]
