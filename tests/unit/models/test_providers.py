"""Asked for and really had: the provider is what the session says, never what was hoped."""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from farpoint_models import cuda, embedder
from farpoint_models.card import load_card, load_model_file, shipped_model_folder
from farpoint_models.cuda import Driver, Problem
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.instructions import int8_instructions
from farpoint_models.placement import Placement
from farpoint_models.providers import ProviderUnavailableError, candidate_devices, open_session, tensorrt_options

BOTH = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
FINE = Driver(1, (99, 0))


def machine(monkeypatch: pytest.MonkeyPatch, *, listed: list[str] = BOTH, driver: Driver | None = FINE) -> None:
    """Pretend to be a machine with these providers listed and this driver."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(cuda, "look_at_driver", lambda: driver)
    monkeypatch.setattr(cuda, "driver_version", lambda: "535.01")
    monkeypatch.setattr(cuda, "built_for", lambda: 13)
    monkeypatch.setattr(cuda, "preload_libraries", lambda: None)
    monkeypatch.setattr(cuda, "problem_with_libraries", lambda _: None)


def session_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let every session run on one provider, whatever was asked, as ONNX Runtime does when CUDA fails to start."""

    def create(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(get_providers=lambda: [name])

    monkeypatch.setattr(onnxruntime, "InferenceSession", create)


def test_auto_on_a_machine_without_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU package on a machine without a GPU ends on the CPU, and says so."""
    machine(monkeypatch, driver=None)
    devices, note = candidate_devices("auto")
    assert devices == ("cpu",)
    assert note.startswith("cpu, because no NVIDIA driver")


def test_auto_with_the_cpu_package_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU package beside a GPU ends on the CPU, and says what is missing."""
    machine(monkeypatch, listed=BOTH[2:])
    devices, note = candidate_devices("auto")
    assert devices == ("cpu",)
    assert "has no CUDA provider" in note


def test_auto_tries_the_gpu_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU it comes first."""
    machine(monkeypatch)
    assert candidate_devices("auto")[0] == ("cuda", "cpu")


@pytest.mark.parametrize(
    ("listed", "driver", "reason", "remedy"),
    [
        (BOTH[2:], FINE, "has no CUDA provider", "install onnxruntime-gpu"),
        (BOTH, None, "libcuda.so.1 is not found", "install the driver"),
        (BOTH, Driver(0, (13, 0), "cuInit answers 803 (CUDA_ERROR_X)"), "535.01 does not start: cuInit", "reboot"),
        (BOTH, Driver(0, (13, 0)), "shows no GPU", "CUDA_VISIBLE_DEVICES"),
        (BOTH, Driver(1, (12, 4)), "535.01 speaks CUDA 12.4 at most", "update the driver to one for CUDA 13"),
    ],
)
@pytest.mark.parametrize("asked", ["cuda", "tensorrt"])
def test_a_gpu_that_cannot_be_had_is_an_error(
    monkeypatch: pytest.MonkeyPatch, listed: list[str], driver: Driver | None, reason: str, remedy: str, asked: Any
) -> None:
    """A GPU that was asked for and is not there is an error with its reason and a remedy, never a slow success."""
    machine(monkeypatch, listed=listed, driver=driver)
    with pytest.raises(ProviderUnavailableError, match=f"^{asked} was asked for, but .*{reason}.*{remedy}"):
        OnnxEmbedder(shipped_model_folder(), device=asked)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the session falls back because a library is missing, the error names that library and what brings it."""
    machine(monkeypatch)
    session_on(monkeypatch, "CPUExecutionProvider")
    problem = Problem("the library libcudnn.so.9 is not found", "pip install 'farpoint[cuda]'")
    monkeypatch.setattr(cuda, "problem_with_libraries", lambda _: problem)
    with pytest.raises(ProviderUnavailableError, match=r"runs on CPU.*libcudnn\.so\.9 is not found; pip install 'far"):
        open_session(b"", "cuda", "cuda", "")


def test_the_loader_says_which_library_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the system's loader answers about a provider's library becomes a reason and a remedy."""
    words = "cannot open shared object file: No such file or directory"
    said = f"libcublasLt.so.13: {words}"

    def load(name: str, **_: Any) -> None:
        if "shared" not in name:
            raise OSError(said)

    monkeypatch.setattr(ctypes, "CDLL", load)
    problem = cuda.problem_with_libraries(cuda.CUDA)
    assert problem is not None
    assert "libcublasLt.so.13 is not found" in problem.reason
    assert "farpoint[cuda]" in problem.remedy
    for library, remedy in (("libnvinfer.so.10", "install TensorRT"), ("libcuda.so.1", "the NVIDIA driver")):
        said = f"{library}: {words}"
        problem = cuda.problem_with_libraries(cuda.TENSORRT)
        assert problem is not None
        assert remedy in problem.remedy


def test_a_driver_that_does_not_start_is_told_from_none() -> None:
    """Here, whatever this machine has: the look ends, and says a number or that there is none."""
    driver = cuda.look_at_driver()
    assert driver is None or driver.devices >= 0
    assert (cuda.problem_with_machine() is None) == (cuda.cuda_device_count() > 0)


def test_a_graph_that_strays_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has CUDA and convolves on the CPU is refused; `auto` ends on the CPU."""
    machine(monkeypatch)
    create = onnxruntime.InferenceSession

    class Straying:
        def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
            self._claimed = [provider if isinstance(provider, str) else provider[0] for provider in providers]
            self._session = create(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return self._claimed

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Straying)
    monkeypatch.setattr(embedder, "DeviceSession", lambda *_: None)
    with pytest.raises(ProviderUnavailableError, match=r"the CPU computes .*Conv of the graph \(\d+ nodes on CPU"):
        OnnxEmbedder(shipped_model_folder(), device="cuda")
    assert OnnxEmbedder(shipped_model_folder(), device="auto").provider.device == "cpu"


def test_few_light_nodes_on_the_cpu_are_no_error() -> None:
    """Shapes and casts may run on the CPU beside a GPU."""
    placement = Placement({cuda.CUDA: 60, "CPUExecutionProvider": 3}, {(cuda.CUDA, "Conv"): 49})
    assert not placement.strayed()
    assert str(placement) == "60 nodes on CUDAExecutionProvider, 3 on CPUExecutionProvider"


def test_tensorrt_gets_one_engine_for_all_sizes(tmp_path: Path) -> None:
    """Least and largest batch bound one engine, and its cache is where it was asked for."""
    options = tensorrt_options({"pictures": (3, 32, 48)}, 64, tmp_path)
    assert options["trt_profile_min_shapes"] == "pictures:1x3x32x48"
    assert options["trt_profile_max_shapes"] == "pictures:64x3x32x48"
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert "trt_engine_cache_enable" not in tensorrt_options({"pictures": (3, 32, 48)}, 64, None)


def test_session_that_fell_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that silently ended on the CPU does not pass for CUDA."""
    machine(monkeypatch)
    session_on(monkeypatch, "CPUExecutionProvider")
    with pytest.raises(ProviderUnavailableError, match="the session runs on CPUExecutionProvider"):
        open_session(b"", "cuda", "cuda", "")


def test_auto_falls_back_when_cuda_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU whose libraries are missing, `auto` serves from the CPU with its file, and says why."""
    machine(monkeypatch)
    create = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, **_: create(model, options, providers=["CPUExecutionProvider"]),
    )
    opened = OnnxEmbedder(shipped_model_folder(), device="auto")
    assert opened.provider.name == "CPUExecutionProvider"
    assert opened.provider.requested == "auto"
    assert "cuda did not start" in opened.provider.note
    assert opened.file.file == ("model.int8.onnx" if int8_instructions() else "model.onnx")


def test_a_gpu_that_fails_at_its_first_run_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has CUDA and breaks when it runs is refused with ONNX Runtime's words; `auto` ends on the CPU."""
    machine(monkeypatch)
    create = onnxruntime.InferenceSession

    class Broken:
        def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
            self._claimed = [provider if isinstance(provider, str) else provider[0] for provider in providers]
            self._session = create(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return self._claimed

        def run(self, *asked: Any) -> Any:
            if self._claimed[0] != "CPUExecutionProvider":
                raise RuntimeError("CUDNN failure 1001:\nCUDNN_STATUS_NOT_INITIALIZED")
            return self._session.run(*asked)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Broken)
    monkeypatch.setattr(embedder, "DeviceSession", lambda *_: None)
    with pytest.raises(ProviderUnavailableError, match=r"^cuda .* first run failed \(CUDNN failure 1001: CUDNN_"):
        OnnxEmbedder(shipped_model_folder(), device="cuda")
    opened = OnnxEmbedder(shipped_model_folder(), device="auto")
    assert opened.provider.device == "cpu"
    assert "first run failed" in opened.provider.note


def test_unknown_device() -> None:
    """A device nobody knows is named with those that exist."""
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or tensorrt"):
        candidate_devices("tpu")  # type: ignore[arg-type]


def test_cpu_session_tells_the_truth() -> None:
    """A CPU session says CPU, and what was asked."""
    folder = shipped_model_folder()
    model = load_model_file(folder, load_card(folder).files["int8"])
    _, provider = open_session(model, "cpu", "auto", "a note", threads=1)
    assert (provider.name, provider.device, provider.requested) == ("CPUExecutionProvider", "cpu", "auto")
