"""Which instructions a processor has: products of 8-bit numbers are worth their error only where they are fast."""

import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
# As Linux calls them; the first that a processor has is the one it uses.
_INT8: Final = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "i8mm": "Arm I8MM",
    "asimddp": "Arm dot product",
}


def int8_instructions(cpuinfo: Path = _CPUINFO) -> str | None:
    """Name the instructions that multiply and add 8-bit numbers in one step; None where there are none, or none known.

    Parameters
    ----------
    cpuinfo
        What Linux tells about the processor.

    Examples
    --------
    >>> int8_instructions(Path("/nowhere")) in {None, "Arm dot product"}
    True
    """
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        # Every Apple processor that runs a 64-bit Arm Python has it.
        return "Arm dot product" if (platform.system(), platform.machine()) == ("Darwin", "arm64") else None
    flags: set[str] = set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            flags.update(value.split())
            break  # all cores are alike
    return next((shown for flag, shown in _INT8.items() if flag in flags), None)
