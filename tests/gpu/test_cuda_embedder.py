"""The model on a real GPU: really there, and the same numbers."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farpoint_models.canary import canary_image
from farpoint_models.card import load_card, shipped_model_folder
from farpoint_models.cuda import CUDA, TENSORRT, cuda_device_count, driver_version, problem_with_libraries
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import Image, preprocess, stack
from farpoint_models.importing import cosines

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda_device_count() == 0, reason="no NVIDIA GPU")]


@pytest.fixture(scope="module")
def embedder() -> OnnxEmbedder:
    """Load the shipped model onto the GPU."""
    loaded = OnnxEmbedder(shipped_model_folder(), device="cuda")
    loaded.warm_up()
    return loaded


def pictures(embedder: OnnxEmbedder) -> NDArray[np.uint8]:
    """Return the canary, turned and darkened in several ways."""
    canary = canary_image()
    images: list[Image] = [canary, canary[::-1], canary[:, ::-1], canary // 2, 255 - canary]
    return stack([preprocess(np.ascontiguousarray(image), embedder.card) for image in images]).astype(np.uint8)


def test_session_really_has_cuda(embedder: OnnxEmbedder) -> None:
    """Asked for CUDA, the session has CUDA, and runs the 16-bit model; so does `auto`."""
    assert embedder.provider.name == CUDA
    assert embedder.file.file == "model.fp16.onnx"
    assert OnnxEmbedder(shipped_model_folder(), device="auto").provider.device == "cuda"
    assert driver_version() is not None


def test_the_canary_comes_out_as_the_card_says(embedder: OnnxEmbedder) -> None:
    """The canary's likeness on the GPU is what the card demands, again and again."""
    for _ in range(3):
        assert embedder.check_canary() >= embedder.least_canary_cosine == 0.999


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gpu_agrees_with_cpu(precision: str) -> None:
    """Mean cosine to fp32 on the CPU of .999 and more, in every row of batches of any size, padded ones too."""
    cpu = OnnxEmbedder(shipped_model_folder(), device="cpu", precision="fp32")
    gpu = OnnxEmbedder(shipped_model_folder(), device="cuda", precision=precision)  # type: ignore[arg-type]
    batch = pictures(cpu)
    expected = cpu.embed(batch)
    for count in (1, 3, 8, 33, 70, 3):
        which = np.arange(count) % len(batch)
        assert cosines(gpu.embed(batch[which]), expected[which]).mean() >= 0.999


def test_convolutions_run_on_the_gpu(embedder: OnnxEmbedder) -> None:
    """Every convolution ran on the GPU: a session can have CUDA and still compute elsewhere."""
    heavy = embedder.provider.placement.heavy
    assert sum(heavy.values()) >= 40
    assert {provider for provider, _ in heavy} == {CUDA}
    assert set(load_card(shipped_model_folder()).prefer.items()) == {("cpu", "int8"), ("cuda", "fp16")}


def test_the_arena_settles(embedder: OnnxEmbedder) -> None:
    """Batches of all sizes, in any order, take no more memory of the device than the first of each took."""
    cudart = ctypes.CDLL("libcudart.so.13")

    def free() -> int:
        left, total = ctypes.c_size_t(), ctypes.c_size_t()
        assert cudart.cudaMemGetInfo(ctypes.byref(left), ctypes.byref(total)) == 0
        return left.value

    batch = pictures(embedder)
    embedder.embed(batch[np.arange(70) % len(batch)])
    before = free()
    for count in np.random.default_rng(0).integers(1, 130, 100):
        embedder.embed(batch[np.arange(count) % len(batch)])
    assert before - free() < 64 * 2**20


@pytest.mark.skipif(problem_with_libraries(TENSORRT) is not None, reason="no TensorRT libraries")
def test_tensorrt_agrees(tmp_path: Path) -> None:
    """TensorRT, where it is installed, really runs the graph and gives the canary."""
    embedder = OnnxEmbedder(shipped_model_folder(), device="tensorrt", engine_cache=tmp_path)
    embedder.warm_up()
    assert embedder.provider.name == TENSORRT
    assert embedder.check_canary() >= 0.999
