"""The instructions of a processor are read from what the system says of it."""

from pathlib import Path

import pytest

from farpoint_models.instructions import int8_instructions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", "AVX-512 VNNI"),
        ("flags : fpu avx2 avx_vnni", "AVX VNNI"),
        ("flags : fpu avx2 avx512f", None),
        ("Features\t: fp asimd asimddp i8mm", "Arm I8MM"),
        ("Features\t: fp asimd", None),
        ("model name : avx512_vnni", None),
    ],
)
def test_instructions_are_read_from_the_flags(tmp_path: Path, text: str, found: str | None) -> None:
    """What Linux says of the processor decides, by its flags alone."""
    (tmp_path / "cpuinfo").write_text(text, encoding="ascii")
    assert int8_instructions(tmp_path / "cpuinfo") == found
