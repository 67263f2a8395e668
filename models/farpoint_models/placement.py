"""Where the nodes of a graph really ran: read from a profile of ONNX Runtime.

A session can have CUDA and still compute its convolutions on the CPU, when a kernel is missing there or a type is not
supported; `get_providers()` does not tell.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

# What nearly all the time of an embedder goes into. The rest (shapes, casts, reorderings) may run where it likes.
_HEAVY: Final = ("Conv", "MatMul", "Gemm", "Attention")


class FirstRunError(RuntimeError):
    """A session could be made, but does not run."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which execution provider ran the nodes of a graph.

    Parameters
    ----------
    nodes
        How many nodes each provider ran; empty where nothing was looked at.
    heavy
        The same for products and convolutions alone, by provider and operator.

    Examples
    --------
    >>> placement = Placement({"CUDAExecutionProvider": 2, "CPUExecutionProvider": 1}, {})
    >>> str(placement)
    '2 nodes on CUDAExecutionProvider, 1 on CPUExecutionProvider'
    """

    nodes: Mapping[str, int] = field(default_factory=dict)
    heavy: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def strayed(self) -> Mapping[str, int]:
        """Count, by operator, the heavy nodes that the CPU ran."""
        return {operator: count for (provider, operator), count in self.heavy.items() if provider.startswith("CPU")}

    def __str__(self) -> str:
        parts = sorted(self.nodes.items(), key=lambda part: -part[1])
        return ", ".join(f"{count}{' nodes' if not n else ''} on {name}" for n, (name, count) in enumerate(parts))


def placement_of(session: Any, feed: Mapping[str, NDArray[Any]]) -> Placement:
    """Run a session once and look where its nodes ran; profiling has ended then, and costs nothing any more.

    Parameters
    ----------
    session
        `onnxruntime.InferenceSession`, created to take a profile.
    feed
        An input, of any content.

    Raises
    ------
    FirstRunError
        It does not run; with what ONNX Runtime says.
    """
    try:
        session.run(None, dict(feed))
    except Exception as error:  # ONNX Runtime has a dozen classes of its own
        raise FirstRunError(" ".join(str(error).split())[:300]) from error
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes: Counter[str] = Counter()
    heavy: Counter[tuple[str, str]] = Counter()
    for event in events:
        said = event.get("args", {})
        if event.get("cat") != "Node" or not {"provider", "op_name"} <= said.keys():
            continue
        nodes[said["provider"]] += 1
        if any(name in said["op_name"] for name in _HEAVY):
            heavy[said["provider"], said["op_name"]] += 1
    return Placement(dict(nodes), dict(heavy))
