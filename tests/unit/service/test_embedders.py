"""Opening the embedder: whatever is wrong is one line with a remedy, never a stack trace of ONNX Runtime."""

from pathlib import Path

import pytest
from tests.onnx_models import model_folder, projection
from tests.unit.service.stage_kit import NAMES

from farpoint import worker
from farpoint.deployment_check import _execution_provider, _NotAsItShouldBeError
from farpoint.embedders import EmbedderError, open_and_try_embedder, open_embedder
from farpoint.metrics import Metrics
from farpoint.settings import EmbedderSettings, Settings
from farpoint_models.binding import CoreSessions
from farpoint_models.embedder import OnnxEmbedder


def chosen(folder: Path) -> EmbedderSettings:
    """Return settings for a small model on the CPU."""
    return EmbedderSettings(model=model_folder(folder, projection()), device="cpu", threads=1)


def fail(*_: object) -> None:
    """Do as ONNX Runtime does."""
    raise RuntimeError("CUDA failure 2:\nout of memory")


def test_a_device_that_fails_while_warming_up_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has the device's own words; the remedy is about the device, not about the model."""
    monkeypatch.setattr(CoreSessions, "run", fail)
    with pytest.raises(EmbedderError, match=r"CPUExecutionProvider failed: CUDA failure 2: out of memory$") as caught:
        open_embedder(chosen(tmp_path))
    assert "FARPOINT_EMBEDDER__DEVICE=cpu" in caught.value.remedy
    assert "export" not in caught.value.remedy


def test_the_check_says_what_the_worker_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`farpoint check` gives the worker's line for a device that fails, and its remedy."""
    monkeypatch.setattr(CoreSessions, "run", fail)
    settings = Settings(embedder=chosen(tmp_path))
    with pytest.raises(EmbedderError) as caught:
        open_embedder(settings.embedder)
    with pytest.raises(_NotAsItShouldBeError) as found:
        _execution_provider(settings)
    assert (found.value.message, found.value.remedy) == (str(caught.value), caught.value.remedy)


def test_a_graph_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    """A file that is no graph ends in a line that names it, and says to make it anew."""
    folder = model_folder(tmp_path, b"no graph")
    with pytest.raises(EmbedderError, match="the model does not run") as caught:
        open_embedder(EmbedderSettings(model=folder, device="cpu"))
    assert "export" in caught.value.remedy


def test_the_canary_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start tries it once, and shows its cosine and the least that the card allows."""
    tried = []
    check = OnnxEmbedder.check_canary

    def noted(embedder: OnnxEmbedder) -> float:
        tried.append(check(embedder))
        return tried[-1]

    monkeypatch.setattr(OnnxEmbedder, "check_canary", noted)
    metrics = Metrics(NAMES, ["embed"])
    opened = worker._open_embedder(Settings(embedder=chosen(tmp_path)), metrics)
    assert isinstance(opened, OnnxEmbedder)
    assert metrics.registry.get_sample_value("farpoint_canary_similarity_ratio") == tried[0]
    assert metrics.registry.get_sample_value("farpoint_canary_limit_ratio") == opened.least_canary_cosine == 0.9999
    assert len(tried) == 1
    assert open_and_try_embedder(chosen(tmp_path))[1] == pytest.approx(1.0)
