"""What is freed goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import sys, psutil
from farpoint.malloc import bound_malloc
if "bound" in sys.argv:
    assert bound_malloc()
process = psutil.Process()
bytearray(20 * 2**20)  # freed at once: from here on glibc would take pieces as large from its pool
pieces = [bytearray(2**20) for _ in range(200)]
for piece in pieces:
    piece[::4096] = b"x" * 256
kept = bytearray(200 * 1024)  # lies above them in the pool, and holds it
full = process.memory_info().rss
del pieces[:], piece
print((full - process.memory_info().rss) // 2**20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="a C library without such settings")
def test_freed_buffers_go_back() -> None:
    """Two hundred buffers of a megabyte, used and freed, no longer belong to the process, whatever lies above them."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, "bound"], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 190
