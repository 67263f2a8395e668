"""The embedder as the settings say: the one way in which the worker, the checks and the benchmarks open it."""

from farpoint.cores import usable_cores
from farpoint.errors import FarpointError
from farpoint.settings import EmbedderSettings
from farpoint_models.card import ModelCardError
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.providers import ProviderUnavailableError


def open_embedder(settings: EmbedderSettings) -> OnnxEmbedder:
    """Load the model onto the device, and warm it up.

    Raises
    ------
    FarpointError
        The model or the device is not to be had, or the model computes something else here than where it was made.
    """
    try:
        embedder = OnnxEmbedder(
            settings.model,
            device=settings.device,
            precision=settings.precision,
            threads=embedder_threads(settings),
            engine_cache=settings.engine_cache,
        )
        embedder.warm_up()
    except (ModelCardError, ProviderUnavailableError) as error:
        raise FarpointError(str(error)) from None
    return embedder


def embedder_threads(settings: EmbedderSettings) -> int:
    """Return how many threads decode, and how many compute."""
    return settings.threads or usable_cores()
