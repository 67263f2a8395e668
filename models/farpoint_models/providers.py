"""Which execution provider runs a model: asked for, and really had.

ONNX Runtime lists CUDA as available wherever its GPU package is installed and falls back to the CPU without an error
when CUDA does not start. Only a session that exists tells the truth; so a choice here is made by creating one.
"""

import ctypes
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import onnxruntime

from farpoint_models.card import Device

RequestedDevice = Literal["auto", "cpu", "cuda"]

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_CUDA_OPTIONS: Final[Mapping[str, str]] = {
    # Grow by what is asked, not by doubling: shapes are few and fixed, so the arena settles after the warm-up.
    "arena_extend_strategy": "kSameAsRequested",
    # The exhaustive search runs again for every new shape and takes seconds.
    "cudnn_conv_algo_search": "HEURISTIC",
}
_REMEDY: Final = (
    "install the NVIDIA driver, CUDA and cuDNN that this onnxruntime-gpu was built for "
    "(pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries), or set the device to auto or cpu"
)


class ProviderUnavailableError(RuntimeError):
    """The asked-for execution provider cannot run here; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class ExecutionProvider:
    """The execution provider that a session really has.

    Parameters
    ----------
    name
        As ONNX Runtime calls it: `CPUExecutionProvider` or `CUDAExecutionProvider`.
    device
        `cpu` or `cuda`.
    requested
        What was asked for: `auto`, `cpu` or `cuda`.
    note
        One line for people on why it is this one.
    """

    name: str
    device: Device
    requested: RequestedDevice
    note: str


def cuda_device_count() -> int:
    """Count the NVIDIA GPUs that the driver shows; 0 where there is no driver.

    Examples
    --------
    >>> cuda_device_count() >= 0
    True
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def candidate_devices(requested: RequestedDevice) -> tuple[tuple[Device, ...], str]:
    """List the devices worth a try, best first, and say why.

    Parameters
    ----------
    requested
        `auto`, `cpu` or `cuda`.

    Returns
    -------
    devices, note
        At least one device; one line for people.

    Raises
    ------
    ProviderUnavailableError
        `cuda` was asked for, and the installed ONNX Runtime or the machine has none.
    ValueError
        An unknown device.

    Examples
    --------
    >>> candidate_devices("cpu")
    (('cpu',), 'cpu as asked')
    """
    if requested not in get_args(RequestedDevice):
        raise ValueError(f"unknown device {requested!r}; expected auto, cpu or cuda")
    if requested == "cpu":
        return ("cpu",), "cpu as asked"
    if _CUDA not in onnxruntime.get_available_providers():
        missing = "the installed onnxruntime has no CUDA provider; the package with it is onnxruntime-gpu"
    elif cuda_device_count() == 0:
        missing = "no NVIDIA GPU found"
    else:
        return (("cuda", "cpu"), "a GPU was found") if requested == "auto" else (("cuda",), "cuda as asked")
    if requested == "cuda":
        raise ProviderUnavailableError(f"cuda was asked for, but {missing}: {_REMEDY}")
    return ("cpu",), f"cpu, because {missing}"


def open_session(
    model: bytes, device: Device, requested: RequestedDevice, note: str, *, threads: int = 0
) -> tuple[Any, ExecutionProvider]:
    """Create a session and look which provider it really has.

    Parameters
    ----------
    model
        ONNX graph.
    device
        Where it must run.
    requested, note
        Go into the answer.
    threads
        Threads of one inference on the CPU; 0 lets ONNX Runtime take all cores.

    Returns
    -------
    session, provider
        `onnxruntime.InferenceSession`, and the truth about it.

    Raises
    ------
    ProviderUnavailableError
        The session runs somewhere else than on `device`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin for the next operator take the cores that decode pictures: without, a pipeline of two decoding
    # and two inference threads on two cores was 10 to 15 % faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted: Sequence[Any] = [_CPU]
    if device == "cuda":
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA and cuDNN that came as Python packages are found this way only
        wanted = [(_CUDA, dict(_CUDA_OPTIONS)), _CPU]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=wanted)
    except Exception as error:
        if device == "cpu":
            raise
        said = " ".join(str(error).split())[:300]
        raise ProviderUnavailableError(f"cuda was asked for, but its session failed ({said}): {_REMEDY}") from error
    name = session.get_providers()[0]
    if name != (_CUDA if device == "cuda" else _CPU):
        raise ProviderUnavailableError(f"{device} was asked for, but the session runs on {name}: {_REMEDY}")
    return session, ExecutionProvider(name, device, requested, note)
