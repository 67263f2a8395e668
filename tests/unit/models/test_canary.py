"""The canary alone: what is believed, and what is not."""

import msgspec
import numpy as np
import pytest

from farpoint_models.canary import Canary, CanaryError
from farpoint_models.card import ModelCard, load_card, shipped_model_folder


@pytest.fixture
def card() -> ModelCard:
    """Read the card of the shipped model."""
    return load_card(shipped_model_folder())


def test_only_the_direction_of_what_the_card_keeps_counts(card: ModelCard) -> None:
    """The components that the card keeps, at any length, have a cosine of one; what follows is not looked at."""
    expected = np.asarray(card.files["fp32"].canary, np.float32)
    embedding = np.concatenate([3 * expected, np.full(50, 99, np.float32)])
    assert Canary(card, "fp32").compare(embedding, "here") == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(CanaryError, match=r"^model\.onnx computes something else on here") as caught:
        Canary(card, "fp32").compare(embedding[::-1], "here")
    assert caught.value.cosine < 0.9


def test_nothing_is_no_match(card: ModelCard) -> None:
    """An embedding of no numbers is not believed."""
    with pytest.raises(CanaryError) as caught:
        Canary(card, "int8").compare(np.full(1280, np.nan, np.float32), "here")
    assert caught.value.cosine == 0.0


def test_without_a_canary_in_the_card_the_first_embedding_stands(card: ModelCard) -> None:
    """What the device gave at first is what it is held to."""
    file = msgspec.structs.replace(card.files["fp32"], canary=None)
    bare = msgspec.structs.replace(card, files={"fp32": file}, prefer={})
    canary = Canary(bare, "fp32")
    first, other = np.eye(2, 8, dtype=np.float32)
    assert canary.compare(first, "here") == canary.compare(2 * first, "here") == 1.0
    with pytest.raises(CanaryError):
        canary.compare(other, "here")
