"""The C library's allocator, told to give memory back: what is freed in large pieces must not stay with the process.

glibc keeps one pool a thread, and learns from the first large buffer that is freed to take the next ones from these
pools too. Fetched batches of many sizes then leave holes in all of them, and the worker grows for hours though it holds
nothing.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
# Decoded pictures lie below, mostly: to take those from the system each time would make decoding a fifth slower.
_LARGE_BYTES = 2**20
_ARENAS = 2


def bound_malloc() -> bool:
    """Take buffers of a megabyte and more from the system each time, and share two pools among all threads.

    For a program to call, once, at its start. Returns whether the C library let itself be told: another than glibc has
    no such settings, and no such habit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, _LARGE_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
