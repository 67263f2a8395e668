"""Asked for and really had: the provider is what the session says, never what was hoped."""

from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from farpoint_models import providers
from farpoint_models.card import load_card, load_model_file, shipped_model_folder
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.providers import ProviderUnavailableError, candidate_devices, open_session

BOTH = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def machine(monkeypatch: pytest.MonkeyPatch, *, listed: list[str], gpus: int) -> None:
    """Pretend to be a machine with these providers listed and that many GPUs."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(providers, "cuda_device_count", lambda: gpus)


def session_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let every session run on one provider, whatever was asked, as ONNX Runtime does when CUDA fails to start."""

    def create(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(get_providers=lambda: [name])

    monkeypatch.setattr(onnxruntime, "InferenceSession", create)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)


def test_auto_on_a_machine_without_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU package on a machine without a GPU ends on the CPU, and says so."""
    machine(monkeypatch, listed=BOTH, gpus=0)
    assert candidate_devices("auto") == (("cpu",), "cpu, because no NVIDIA GPU found")


def test_auto_with_the_cpu_package_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU package beside a GPU ends on the CPU, and names the package that would use it."""
    machine(monkeypatch, listed=BOTH[2:], gpus=1)
    devices, note = candidate_devices("auto")
    assert devices == ("cpu",)
    assert "onnxruntime-gpu" in note


def test_auto_tries_the_gpu_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU it comes first."""
    machine(monkeypatch, listed=BOTH, gpus=1)
    assert candidate_devices("auto")[0] == ("cuda", "cpu")


@pytest.mark.parametrize(("listed", "gpus"), [(BOTH, 0), (BOTH[2:], 1)])
def test_cuda_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch, listed: list[str], gpus: int) -> None:
    """CUDA that was asked for and is not there is an error with its reason and a remedy, never a slow success."""
    machine(monkeypatch, listed=listed, gpus=gpus)
    with pytest.raises(ProviderUnavailableError, match=r"cuda was asked for, but .*: install"):
        OnnxEmbedder(shipped_model_folder(), device="cuda")


def test_session_that_fell_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that silently ended on the CPU does not pass for CUDA."""
    session_on(monkeypatch, "CPUExecutionProvider")
    with pytest.raises(ProviderUnavailableError, match="the session runs on CPUExecutionProvider"):
        open_session(b"", "cuda", "cuda", "")


def test_auto_falls_back_when_cuda_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU whose libraries are missing, `auto` serves from the CPU with its file, and says why."""
    machine(monkeypatch, listed=BOTH, gpus=1)
    create = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, **_: create(model, options, providers=["CPUExecutionProvider"]),
    )
    embedder = OnnxEmbedder(shipped_model_folder(), device="auto")
    assert embedder.provider.name == "CPUExecutionProvider"
    assert embedder.provider.requested == "auto"
    assert "cuda did not start" in embedder.provider.note
    assert embedder.file.file == "model.int8.onnx"


def test_unknown_device() -> None:
    """A device nobody knows is named with those that exist."""
    with pytest.raises(ValueError, match="expected auto, cpu or cuda"):
        candidate_devices("tpu")  # type: ignore[arg-type]


def test_cpu_session_tells_the_truth() -> None:
    """A CPU session says CPU, and what was asked."""
    folder = shipped_model_folder()
    model = load_model_file(folder, load_card(folder).files["int8"])
    _, provider = open_session(model, "cpu", "auto", "a note", threads=1)
    assert (provider.name, provider.device, provider.requested) == ("CPUExecutionProvider", "cpu", "auto")
