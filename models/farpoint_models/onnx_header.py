"""What an ONNX file says about itself, read without the package `onnx`: a worker is installed without it.

An ONNX file is one protocol buffer, `ModelProto` (onnx.proto3); only the fields wanted here are looked at.
"""

from collections.abc import Iterator
from typing import Final

_OPSET_IMPORT: Final = 8
_DOMAIN: Final = 1
_VERSION: Final = 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def opsets(model: bytes) -> dict[str, int]:
    r"""Read which operator sets a graph needs: version by domain; `""` is ONNX's own.

    Raises
    ------
    ValueError
        The bytes are no ONNX file.

    Examples
    --------
    >>> opsets(bytes([0x42, 2, 0x10, 18]))
    {'': 18}
    """
    found = {}
    for number, value in _fields(model):
        if number == _OPSET_IMPORT and isinstance(value, bytes):
            parts = dict(_fields(value))
            domain, version = parts.get(_DOMAIN, b""), parts.get(_VERSION, 0)
            if isinstance(domain, bytes) and isinstance(version, int):
                name = domain.decode("utf-8", "replace")
                found["" if name == "ai.onnx" else name] = version
    if not found:
        raise ValueError("it names no operator set")
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {number} is of no known kind")
        if number <= 0 or position + size > len(data):
            raise ValueError("it ends in the middle of a field")
        # Weights lie in the graph, megabytes of them: cut out only what is looked at.
        yield number, data[position : position + size] if size < 4096 else b""
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("it has a number of more than 64 bits")
