"""How busy the GPU is."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Note the GPU's utilisation, percent, while the context lasts; nothing where `nvidia-smi` is not."""
    noted: list[float] = []
    stop = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

    def look() -> None:
        while not stop.wait(0.2):
            try:
                said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return
            noted.append(float(said.split()[0]))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield noted
    finally:
        stop.set()
        thread.join()
