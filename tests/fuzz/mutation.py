"""Mutations of real inputs, as fuzzers make them; a function of the random numbers alone."""

from collections.abc import Callable, Sequence

import numpy as np

Fields = tuple[bytes, ...]
"""One input: a file, or the parts of a record."""

_EDGES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\xff" * 8]
_TOKENS = [b"NaN", b"1e999", b"null", b"-0", b'"', b"\\u0000", b"[" * 200, b"{}", b"%s%n", b"../", b"\x1b[2J", b"\n"]
_MOST_STEPS = 6


def mutate(rng: np.random.Generator, seeds: Sequence[Fields]) -> Fields:
    """Return one of `seeds` with one to six mutations."""
    fields = list(seeds[int(rng.integers(len(seeds)))])
    other = seeds[int(rng.integers(len(seeds)))]
    for _ in range(int(rng.integers(1, _MOST_STEPS + 1))):
        # The last field is the payload, where most of the code is.
        which = len(fields) - 1 if rng.random() < 0.7 else int(rng.integers(len(fields)))
        step = _STEPS[int(rng.integers(len(_STEPS)))]
        fields[which] = bytes(step(rng, bytearray(fields[which]), other[min(which, len(other) - 1)]))
    return tuple(fields)


def _place(rng: np.random.Generator, data: bytearray) -> int:
    # Most of what matters lies at the start.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 64)
    return int(rng.integers(0, reach + 1))


def _flip(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    del other
    at = _place(rng, data)
    if at < len(data):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _overwrite(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    del other
    at = _place(rng, data)
    edge = _EDGES[int(rng.integers(len(_EDGES)))]
    data[at : at + len(edge)] = edge
    return data


def _insert(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    del other
    at = _place(rng, data)
    data[at:at] = _TOKENS[int(rng.integers(len(_TOKENS)))]
    return data


def _remove(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    del other
    at = _place(rng, data)
    del data[at : at + int(rng.integers(1, 32))]
    return data


def _repeat(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    del other
    at, start = _place(rng, data), _place(rng, data)
    data[at:at] = data[start : start + int(rng.integers(1, 64))] * int(rng.integers(1, 16))
    return data


def _cut(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    del other
    return data[: int(rng.integers(0, len(data) + 1))]


def _splice(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    at = _place(rng, data)
    return data[:at] + other[min(at, len(other)) :]


_STEPS: list[Callable[[np.random.Generator, bytearray, bytes], bytearray]] = [
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _insert,
    _remove,
    _repeat,
    _cut,
    _splice,
]
