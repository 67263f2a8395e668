"""Which execution provider runs a model: asked for, and really had.

ONNX Runtime lists CUDA as available wherever its GPU package is installed and falls back to the CPU without an error
when CUDA does not start. Only a session that exists tells the truth, and only a profile of a run tells where the nodes
of a graph are computed; so a choice here is made by creating a session and looking.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import onnxruntime

from farpoint_models import cuda
from farpoint_models.card import Device
from farpoint_models.cuda import CUDA, TENSORRT
from farpoint_models.placement import FirstRunError, Placement

RequestedDevice = Literal["auto", "cpu", "cuda", "tensorrt"]

_CPU: Final = "CPUExecutionProvider"
_CUDA_OPTIONS: Final[Mapping[str, str]] = {
    # Grow by what is asked, not by doubling: shapes are few and fixed, so the arena settles after the warm-up.
    "arena_extend_strategy": "kSameAsRequested",
    # The exhaustive search runs again for every new shape and takes seconds.
    "cudnn_conv_algo_search": "HEURISTIC",
}
_WITHOUT: Final = "or set the device to auto or cpu"


class ProviderUnavailableError(RuntimeError):
    """The asked-for execution provider cannot run here; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class ExecutionProvider:
    """The execution provider that a session really has.

    Parameters
    ----------
    name
        As ONNX Runtime calls it: `CPUExecutionProvider`, `CUDAExecutionProvider` or `TensorrtExecutionProvider`.
    device
        `cpu` or `cuda`.
    requested
        What was asked for: `auto`, `cpu`, `cuda` or `tensorrt`.
    note
        One line for people on why it is this one.
    placement
        Which provider ran each node when it was looked at.
    """

    name: str
    device: Device
    requested: RequestedDevice
    note: str
    placement: Placement = field(default_factory=Placement)


def candidate_devices(requested: RequestedDevice) -> tuple[tuple[Device, ...], str]:
    """List the devices worth a try, best first, and say why.

    Parameters
    ----------
    requested
        `auto`, `cpu`, `cuda` or `tensorrt`.

    Returns
    -------
    devices, note
        At least one device; one line for people.

    Raises
    ------
    ProviderUnavailableError
        A GPU was asked for, and the installed ONNX Runtime or the machine has none.
    ValueError
        An unknown device.

    Examples
    --------
    >>> candidate_devices("cpu")
    (('cpu',), 'cpu as asked')
    """
    if requested not in get_args(RequestedDevice):
        raise ValueError(f"unknown device {requested!r}; expected auto, cpu, cuda or tensorrt")
    if requested == "cpu":
        return ("cpu",), "cpu as asked"
    problem = cuda.problem_with_machine()
    if problem is None:
        return (("cuda", "cpu"), "a GPU was found") if requested == "auto" else (("cuda",), f"{requested} as asked")
    if requested != "auto":
        raise ProviderUnavailableError(f"{requested} was asked for, but {problem}; {_WITHOUT}")
    return ("cpu",), f"cpu, because {problem.reason}"


def open_session(
    model: bytes,
    device: Device,
    requested: RequestedDevice,
    note: str,
    *,
    threads: int = 0,
    tensorrt_options: Mapping[str, str] | None = None,
    profile: Path | None = None,
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
    tensorrt_options
        Of the TensorRT provider, where that was asked for.
    profile
        Folder for a profile, which `placement_of` reads and ends; None takes none.

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
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile / "profile")
    expected = _expected(device, requested)
    wanted: Sequence[Any] = [_CPU]
    if device == "cuda":
        cuda.preload_libraries()
        wanted = [(CUDA, dict(_CUDA_OPTIONS)), _CPU]
        if expected == TENSORRT:
            wanted = [(TENSORRT, dict(tensorrt_options or {})), *wanted]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=wanted)
    except Exception as error:
        if device == "cpu":
            raise
        said = " ".join(str(error).split())[:300]
        raise _unavailable(expected, f"its session failed ({said})") from error
    name = session.get_providers()[0]
    if name != expected:
        raise _unavailable(expected, f"the session runs on {name}")
    return session, ExecutionProvider(name, device, requested, note)


@contextmanager
def first_run(device: Device, requested: RequestedDevice) -> Iterator[None]:
    """Take a GPU whose first run fails for one that cannot be had; a CPU's FirstRunError passes.

    Raises
    ------
    ProviderUnavailableError
        The session ran into an error on a GPU.

    Examples
    --------
    >>> with first_run("cuda", "auto"):
    ...     raise FirstRunError("CUDNN_STATUS_NOT_INITIALIZED")
    Traceback (most recent call last):
    ...
    farpoint_models.providers.ProviderUnavailableError: cuda was asked for, but its first run failed (CUDNN_STATUS_...
    """
    try:
        yield
    except FirstRunError as error:
        if device == "cpu":
            raise
        raise _unavailable(_expected(device, requested), f"its first run failed ({error})") from error


def tensorrt_options(shapes: Mapping[str, tuple[int, ...]], largest: int, cache: Path | None) -> dict[str, str]:
    """Return the options of the TensorRT provider: one engine for all batch sizes, 16-bit floats, kept if it may be.

    Parameters
    ----------
    shapes
        Of one picture, by the input's name.
    largest
        Largest batch.
    cache
        Folder to keep the built engine in; without, each start builds it anew, which takes about a minute.

    Examples
    --------
    >>> tensorrt_options({"pictures": (224, 224, 3)}, 64, None)["trt_profile_max_shapes"]
    'pictures:64x224x224x3'
    """

    def profile(count: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (count, *shape)))}" for name, shape in shapes.items())

    options = {
        "trt_fp16_enable": "1",
        "trt_profile_min_shapes": profile(1),
        "trt_profile_opt_shapes": profile(largest),
        "trt_profile_max_shapes": profile(largest),
    }
    if cache is not None:
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    return options


def require_placement(provider: ExecutionProvider) -> None:
    """Make sure that a GPU session computes on the GPU, as far as it matters.

    Raises
    ------
    ProviderUnavailableError
        Convolutions or products ran on the CPU.

    Examples
    --------
    >>> placement = Placement({"CPUExecutionProvider": 3}, {("CPUExecutionProvider", "Conv"): 2})
    >>> require_placement(ExecutionProvider("CUDAExecutionProvider", "cuda", "cuda", "", placement))
    Traceback (most recent call last):
    ...
    farpoint_models.providers.ProviderUnavailableError: cuda was asked for, but the CPU computes 2 Conv of the graph ...
    """
    strayed = provider.placement.strayed()
    if provider.device == "cuda" and strayed:
        listed = ", ".join(f"{count} {operator}" for operator, count in sorted(strayed.items()))
        asked = provider.requested if provider.requested != "auto" else "cuda"
        raise ProviderUnavailableError(
            f"{asked} was asked for, but the CPU computes {listed} of the graph ({provider.placement}): the provider "
            f"has no kernel for them; export the model with other types or another opset, {_WITHOUT}"
        )


def _expected(device: Device, requested: RequestedDevice) -> str:
    return _CPU if device == "cpu" else TENSORRT if requested == "tensorrt" else CUDA


def _unavailable(expected: str, what: str) -> ProviderUnavailableError:
    asked = "tensorrt" if expected == TENSORRT else "cuda" if expected == CUDA else "cpu"
    problem = cuda.problem_with_libraries(expected) if expected != _CPU else None
    if problem is not None:
        return ProviderUnavailableError(f"{asked} was asked for, but {what}: {problem}, {_WITHOUT}")
    remedy = "see what `farpoint check` says of the driver and its libraries"
    return ProviderUnavailableError(f"{asked} was asked for, but {what}; {remedy}, {_WITHOUT}")
