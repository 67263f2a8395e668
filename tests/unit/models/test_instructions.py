"""int8 runs where a processor is made for it, and nowhere else."""

from pathlib import Path

import msgspec
import pytest

from farpoint_models import embedder
from farpoint_models.card import ModelCardError, load_card, shipped_model_folder
from farpoint_models.embedder import chosen_precision
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


@pytest.mark.parametrize(
    ("instructions", "device", "asked", "precision", "note"),
    [
        ("AVX VNNI", "cpu", "auto", "int8", "AVX VNNI"),
        (None, "cpu", "auto", "fp32", "no instructions for int8"),
        (None, "cpu", "int8", "int8", "int8 as asked"),
        ("AVX VNNI", "cpu", "fp32", "fp32", "fp32 as asked"),
        (None, "cuda", "auto", "fp16", "fp16"),
    ],
)
def test_the_file_that_runs(
    monkeypatch: pytest.MonkeyPatch, instructions: str | None, device: str, asked: str, precision: str, note: str
) -> None:
    """The card's preference, unless the processor has nothing for it or somebody asked for another."""
    monkeypatch.setattr(embedder, "int8_instructions", lambda: instructions)
    card = load_card(shipped_model_folder())
    found, why = chosen_precision(card, device, asked)  # type: ignore[arg-type]
    assert found == precision
    assert note in why


def test_a_precision_that_is_not_there() -> None:
    """Asking for a file that the card does not name is an error that says which there are."""
    card = load_card(shipped_model_folder())
    bare = msgspec.structs.replace(card, files={"fp32": card.files["fp32"]}, prefer={})
    with pytest.raises(ModelCardError, match="has no int8 file, only fp32"):
        chosen_precision(bare, "cpu", "int8")
