"""Why CUDA cannot be had here: no package, no driver, no device, a driver too old, or a library missing.

ONNX Runtime says no more than that it failed. The order of the questions is that of what must be there first, so the
answer names what to mend next.
"""

import contextlib
import ctypes
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnxruntime

CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"

_DRIVER_VERSION_BYTES: Final = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
_LIBRARIES_REMEDY: Final = "pip install 'farpoint[cuda]' brings the CUDA and cuDNN libraries"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a GPU cannot be used, and what helps.

    Parameters
    ----------
    reason
        What was found, with versions.
    remedy
        What to do.
    """

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Driver:
    """What the NVIDIA driver says.

    Parameters
    ----------
    devices
        GPUs that it shows to this process.
    cuda
        Newest CUDA that it speaks, (major, minor).
    error
        What it answered instead; None when all is well.
    """

    devices: int
    cuda: tuple[int, int] = (0, 0)
    error: str | None = None


def look_at_driver() -> Driver | None:
    """Ask the NVIDIA driver; None where there is none.

    Examples
    --------
    >>> driver = look_at_driver()
    >>> driver is None or driver.devices >= 0
    True
    """
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = (version.value // 1000, version.value % 1000 // 10)
    if code := library.cuInit(0):
        return Driver(0, cuda, f"cuInit answers {code} ({_error_name(library, code)})")
    count = ctypes.c_int(0)
    if code := library.cuDeviceGetCount(ctypes.byref(count)):
        return Driver(0, cuda, f"cuDeviceGetCount answers {code} ({_error_name(library, code)})")
    return Driver(count.value, cuda)


def cuda_device_count() -> int:
    """Count the NVIDIA GPUs that the driver shows; 0 where there is no driver.

    Examples
    --------
    >>> cuda_device_count() >= 0
    True
    """
    driver = look_at_driver()
    return driver.devices if driver else 0


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver as `nvidia-smi` shows it; None where there is none.

    Examples
    --------
    >>> driver_version() is None or "." in driver_version()
    True
    """
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    text = ctypes.create_string_buffer(_DRIVER_VERSION_BYTES)
    if library.nvmlInit_v2():
        return None
    try:
        failed = library.nvmlSystemGetDriverVersion(text, _DRIVER_VERSION_BYTES)
    finally:
        library.nvmlShutdown()
    return None if failed else text.value.decode("ascii", "replace")


def problem_with_machine() -> Problem | None:
    """Find out whether this ONNX Runtime and this driver could run CUDA at all; None where they could."""
    package = f"onnxruntime {onnxruntime.__version__}"
    if CUDA not in onnxruntime.get_available_providers():
        return Problem(
            f"the installed {package} has no CUDA provider",
            "uninstall onnxruntime and install onnxruntime-gpu, which has it",
        )
    driver = look_at_driver()
    if driver is None:
        return Problem(
            "no NVIDIA driver here (libcuda.so.1 is not found)",
            "install the driver; start a container with --gpus all, a pod with the resource nvidia.com/gpu",
        )
    if driver.error:
        return Problem(
            f"the NVIDIA driver {driver_version() or 'of unknown version'} does not start: {driver.error}",
            "see nvidia-smi and the kernel's log; a driver that was just updated wants a reboot",
        )
    if driver.devices == 0:
        return Problem(
            "the NVIDIA driver shows no GPU to this process", "look at CUDA_VISIBLE_DEVICES and at nvidia-smi"
        )
    wanted = built_for()
    if wanted and driver.cuda < (wanted, 0):
        return Problem(
            f"the NVIDIA driver {driver_version() or ''} speaks CUDA {driver.cuda[0]}.{driver.cuda[1]} at most, and "
            f"{package} was built for CUDA {wanted}",
            f"update the driver to one for CUDA {wanted}, or install an onnxruntime-gpu for CUDA {driver.cuda[0]}",
        )
    return None


def problem_with_libraries(provider: str) -> Problem | None:
    """Find out which library a provider lacks, by loading it as ONNX Runtime would; None where it loads.

    Parameters
    ----------
    provider
        `CUDAExecutionProvider` or `TensorrtExecutionProvider`.
    """
    if sys.platform == "win32":
        return None
    capi = Path(onnxruntime.__file__).parent / "capi"
    name = "tensorrt" if provider == TENSORRT else "cuda"
    try:
        ctypes.CDLL(str(capi / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(capi / f"libonnxruntime_providers_{name}.so"))
    except OSError as error:
        missing = re.match(r"(\S+): cannot open shared object", str(error))
        what = f"the library {missing[1]} is not found" if missing else " ".join(str(error).split())[:300]
        remedy = _LIBRARIES_REMEDY
        if missing and missing[1].startswith("libcuda.so"):
            remedy = "the NVIDIA driver brings it: install that"
        elif missing and missing[1].startswith(("libnvinfer", "libnvonnxparser")):
            remedy = f"install TensorRT so that {missing[1]} is found (LD_LIBRARY_PATH), or set the device to cuda"
        return Problem(f"{what}, which {name} of onnxruntime {onnxruntime.__version__} needs", remedy)
    return None


def preload_libraries() -> None:
    """Load the CUDA and cuDNN libraries that came as Python packages; nothing else makes ONNX Runtime find them."""
    if hasattr(onnxruntime, "preload_dlls"):
        # It prints what it does not find, on our standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()


def built_for() -> int | None:
    """Return the major version of CUDA that ONNX Runtime was built for.

    Examples
    --------
    >>> built_for() is None or built_for() >= 11
    True
    """
    version = str(getattr(onnxruntime, "cuda_version", "") or "")
    major = version.partition(".")[0]
    return int(major) if major.isdigit() else None


def _error_name(library: Any, code: int) -> str:
    name = ctypes.c_char_p()
    known = library.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value
    return name.value.decode("ascii", "replace") if known and name.value else "unknown"
