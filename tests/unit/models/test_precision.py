"""int8 runs where a processor is made for it, and nowhere else."""

import msgspec
import pytest

from farpoint_models import precision as precision_module
from farpoint_models.card import ModelCardError, load_card, shipped_model_folder
from farpoint_models.precision import chosen_precision


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
    monkeypatch.setattr(precision_module, "int8_instructions", lambda: instructions)
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
