"""The embedder as the settings say: the one way in which the worker, the checks and the benchmarks open it."""

from farpoint.cores import usable_cores
from farpoint.errors import FarpointError
from farpoint.settings import EmbedderSettings
from farpoint_models.card import ModelCardError
from farpoint_models.embedder import DeviceError, OnnxEmbedder
from farpoint_models.providers import ProviderUnavailableError


class EmbedderError(FarpointError):
    """There is no embedder to be had.

    Parameters
    ----------
    message
        What is wrong, one line.
    remedy
        What to do about it.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def open_embedder(settings: EmbedderSettings) -> OnnxEmbedder:
    """Load the model onto the device, and warm it up; see `open_and_try_embedder`."""
    embedder, _ = open_and_try_embedder(settings)
    return embedder


def open_and_try_embedder(settings: EmbedderSettings) -> tuple[OnnxEmbedder, float]:
    """Load the model onto the device, warm it up, and say how near the canary came (its cosine).

    Raises
    ------
    EmbedderError
        The model or the device is not to be had, the device fails, or the model computes something else here than
        where it was made.
    """
    try:
        embedder = OnnxEmbedder(
            settings.model,
            device=settings.device,
            precision=settings.precision,
            threads=embedder_threads(settings),
            engine_cache=settings.engine_cache,
        )
        return embedder, embedder.warm_up()
    except ModelCardError as error:
        raise EmbedderError(
            str(error),
            "see the check of the model; if it is well, try another FARPOINT_EMBEDDER__DEVICE or __PRECISION",
        ) from None
    except ProviderUnavailableError as error:
        raise EmbedderError(str(error), "set FARPOINT_EMBEDDER__DEVICE=auto to do without the GPU") from None
    except DeviceError as error:
        raise EmbedderError(
            str(error), "look after the device, or set FARPOINT_EMBEDDER__DEVICE=cpu to do without a GPU"
        ) from error
    except Exception as error:  # ONNX Runtime has exceptions of its own for a graph that it cannot read or run
        said = " ".join(str(error).split())[:300]
        raise EmbedderError(
            f"the model does not run: {type(error).__name__}: {said}", "export the model again, or take the shipped one"
        ) from error


def embedder_threads(settings: EmbedderSettings) -> int:
    """Return how many threads decode, and how many compute."""
    return settings.threads or usable_cores()
