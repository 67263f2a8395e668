"""Precision: which of a model's files a device runs."""

from typing import Literal

from farpoint_models.card import Device, ModelCard, ModelCardError, Precision
from farpoint_models.instructions import int8_instructions

RequestedPrecision = Literal["auto", "fp32", "fp16", "int8"]


def chosen_precision(card: ModelCard, device: Device, asked: RequestedPrecision) -> tuple[Precision, str]:
    """Choose which of a card's files a device runs, and say why where that is not obvious.

    Raises
    ------
    ModelCardError
        The card has no file of the precision that was asked for.

    Examples
    --------
    >>> from farpoint_models.card import load_card, shipped_model_folder
    >>> chosen_precision(load_card(shipped_model_folder()), "cpu", "fp32")
    ('fp32', '; fp32 as asked')
    """
    if asked != "auto":
        if asked not in card.files:
            raise ModelCardError(f"{card.id} has no {asked} file, only {', '.join(sorted(card.files))}")
        return asked, f"; {asked} as asked"
    preferred = card.precision_for(device)
    if device == "cpu" and preferred == "int8":
        instructions = int8_instructions()
        if instructions is None:
            return "fp32", "; fp32, because this processor has no instructions for int8"
        return "int8", f"; int8, because this processor has {instructions}"
    return preferred, f"; {preferred}"
