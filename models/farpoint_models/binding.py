"""Sessions with their inputs and outputs bound, so that nothing is allocated and little is copied for a batch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from farpoint_models.batches import padded_pieces, picture_shape
from farpoint_models.card import ModelCard


class BoundSession(Protocol):
    """Runs batches of any size on a device.

    Attributes
    ----------
    warm_up_sizes
        Of batches, after which every way of running one has been gone once.
    """

    warm_up_sizes: Sequence[int]

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Embed pictures into `out`; one call at a time.

        Parameters
        ----------
        pictures
            (N, ...), contiguous.
        out
            (N, D), contiguous; filled.
        """


class CoreSessions:
    """On a CPU: a picture of a batch is one core's work, from its first node to its last; a lone one is all cores'.

    Cores that share the nodes of one picture wait for each other after every node. With a core a picture nobody waits:
    two cores did 400 pictures a second instead of 290 to 340, also while other threads decode. Larger batches gain
    nothing on one core, so every run has the same shape and the arena stays as it is (ONNX Runtime #24376). The
    caller's memory is the device's: nothing is copied at all.

    Parameters
    ----------
    wide
        `onnxruntime.InferenceSession` whose runs take all cores: for a lone picture, which is to come out soon.
    narrow
        The same model in a session whose runs take one core.
    cores
        How many pictures are computed at a time.
    name, output
        Of the graph's input and of the output that is the embedding.
    """

    def __init__(self, wide: Any, narrow: Any, cores: int, name: str, output: str) -> None:
        self.warm_up_sizes: Sequence[int] = (1, cores + 1)
        self._wide = _InPlace(wide, name, output)
        self._narrow = [_InPlace(narrow, name, output) for _ in range(cores)]
        self._threads = ThreadPoolExecutor(cores, thread_name_prefix="inference")

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Embed pictures into `out`; see `BoundSession`."""
        if len(pictures) == 1:
            self._wide.run(pictures, out)
            return
        # Each core takes the next picture that no other has.
        turns = iter(range(len(pictures)))
        working = [
            self._threads.submit(_take_turns, core, turns, pictures, out) for core in self._narrow[: len(pictures)]
        ]
        wait(working)  # all of them, also when one fails: nobody writes into `out` after this
        for core in working:
            core.result()


def _take_turns(core: "_InPlace", turns: Iterator[int], pictures: NDArray[Any], out: NDArray[np.float32]) -> None:
    for row in turns:
        core.run(pictures[row : row + 1], out[row : row + 1])


class _InPlace:
    """A session bound to the memory of whoever calls; one call at a time."""

    def __init__(self, session: Any, name: str, output: str) -> None:
        self._session = session
        self._name = name
        self._output = output
        self._binding = session.io_binding()

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32]) -> None:
        binding = self._binding
        binding.bind_cpu_input(self._name, np.ascontiguousarray(pictures))
        binding.bind_output(self._output, "cpu", 0, np.float32, list(out.shape), out.ctypes.data)
        self._session.run_with_iobinding(binding)


class DeviceSession:
    """On a GPU: a few fixed batch sizes, each with its input and output in device memory, for good.

    Memory of shapes that vary is never given back (ONNX Runtime #24376). The last piece of a batch is filled up, since
    an empty place costs nothing there; what comes out of empty places is dropped.

    Parameters
    ----------
    session
        `onnxruntime.InferenceSession`.
    card
        Its dimension, input type and shape.
    sizes
        Of batches, ascending from 1.
    name, output
        Of the graph's input and of the output that is the embedding.
    device
        `cuda`, or `cpu`: then the same steps run without a GPU, which is how they are tested.
    """

    def __init__(
        self, session: Any, card: ModelCard, sizes: Sequence[int], name: str, output: str, device: str = "cuda"
    ) -> None:
        self.warm_up_sizes: Sequence[int] = tuple(sizes)
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

    def run(self, pictures: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Embed pictures into `out`; see `BoundSession`."""
        start = 0
        for size in padded_pieces(len(pictures), self.warm_up_sizes):
            self._run_piece(pictures[start : start + size], out[start : start + size], size)
            start += size

    def _run_piece(self, pictures: NDArray[Any], out: NDArray[np.float32], size: int) -> None:
        binding, taken, given, staging = self._slots[size]
        if len(pictures) < size:
            # What earlier batches left in the places behind stays there: rows do not depend on each other.
            staging[: len(pictures)] = pictures
            pictures = staging
        taken.update_inplace(np.ascontiguousarray(pictures))
        self._session.run_with_iobinding(binding)
        out[:] = given.numpy()[: len(out)]
