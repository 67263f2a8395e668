"""The model on a real GPU: really there, and the same numbers."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from farpoint_models.card import load_card, load_model_file, shipped_model_folder
from farpoint_models.embedder import OnnxEmbedder, canary_image
from farpoint_models.images import preprocess, stack
from farpoint_models.providers import cuda_device_count

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda_device_count() == 0, reason="no NVIDIA GPU")]


@pytest.fixture(scope="module")
def embedder() -> OnnxEmbedder:
    """Load the shipped model onto the GPU."""
    return OnnxEmbedder(shipped_model_folder(), device="cuda")


def test_session_really_has_cuda(embedder: OnnxEmbedder) -> None:
    """Asked for CUDA, the session has CUDA, and runs the full model; so does `auto`."""
    assert embedder.provider.name == "CUDAExecutionProvider"
    assert embedder.file.file == "model.onnx"
    assert OnnxEmbedder(shipped_model_folder(), device="auto").provider.device == "cuda"


def test_warm_up_passes_the_canary(embedder: OnnxEmbedder) -> None:
    """The canary comes out on the GPU as the card says."""
    embedder.warm_up()


def test_gpu_agrees_with_cpu(embedder: OnnxEmbedder) -> None:
    """The GPU gives the numbers of the shipped card, in every row of batches of any size."""
    picture = preprocess(canary_image(), embedder.card)
    expected = np.asarray(load_card(shipped_model_folder()).files["fp32"].canary)
    for count in (1, 3, 70):
        rows = embedder.embed(stack([picture] * count))
        # TF32 rounds products to 10 bits.
        assert np.abs(rows[:, : len(expected)] - expected).max() < 0.02


def test_convolutions_run_on_the_gpu(tmp_path: Path) -> None:
    """The profile of a run names CUDA for every convolution: a session can have CUDA and still compute elsewhere."""
    folder = shipped_model_folder()
    onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    model = load_model_file(folder, load_card(folder).files["fp32"])
    session = onnxruntime.InferenceSession(model, options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    session.run(None, {"pictures": np.zeros((1, 224, 224, 3), np.uint8)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    convolutions = [args["provider"] for args in ran if "Conv" in args["op_name"]]
    assert convolutions
    assert set(convolutions) == {"CUDAExecutionProvider"}
