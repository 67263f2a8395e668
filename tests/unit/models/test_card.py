"""A card says what a model is, and its files are what it says."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from farpoint_models.card import ModelCard, ModelCardError, ModelFile, load_card, load_model_file, shipped_model_folder

MINIMAL: dict[str, Any] = {"name": "mine", "revision": 3, "dimension": 8, "input": {"height": 32, "width": 48}}


def test_minimal_card_has_defaults() -> None:
    """A card of four fields is enough: one file, `model.onnx`, on every device."""
    card = ModelCard.from_json(json.dumps(MINIMAL).encode())
    assert card.id == "mine@3"
    assert card.file_for("cpu") == card.file_for("cuda") == ModelFile(file="model.onnx")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dimension": 0}, "dimension"),
        ({"dimension": "8"}, "dimension"),
        ({"revision": None}, "revision"),
        ({"name": "a@b"}, "name"),
        ({"colour": 1}, "colour"),
        ({"input": {"height": 32}}, "width"),
        ({"input": {"height": 32, "width": 32, "layout": "HWC"}}, "layout"),
        ({"input": {"height": 32, "width": 32, "std": [1, 0, 1]}}, "std"),
        ({"files": {"int8": {"file": "a.onnx"}}}, "fp32"),
        ({"files": {"fp32": {"file": "../a.onnx"}}}, "file"),
        ({"files": {"fp32": {"file": "a.onnx", "sha256": "abc"}}}, "sha256"),
        ({"prefer": {"cpu": "int8"}}, "int8"),
    ],
)
def test_wrong_card_names_the_field(change: dict[str, Any], said: str) -> None:
    """Whatever is wrong with a card, the error names the field."""
    with pytest.raises(ModelCardError, match=said):
        ModelCard.from_json(json.dumps(MINIMAL | change).encode())


def test_card_that_is_no_json() -> None:
    """A file that is no JSON is a card error, not a decoder's."""
    with pytest.raises(ModelCardError, match=r"card\.json"):
        ModelCard.from_json(b"name: mine")


def test_card_survives_writing(tmp_path: Path) -> None:
    """What is written is read again, and the same bytes every time."""
    card = load_card(shipped_model_folder())
    (tmp_path / "card.json").write_bytes(card.to_json())
    assert load_card(tmp_path) == card
    assert load_card(tmp_path).to_json() == (shipped_model_folder() / "card.json").read_bytes()


def test_missing_folder_says_what_a_model_is(tmp_path: Path) -> None:
    """A wrong path is answered with what was expected there."""
    with pytest.raises(ModelCardError, match=r"a model is a folder with model\.onnx and card\.json"):
        load_card(tmp_path / "nowhere")


def test_file_must_match_its_sha256(tmp_path: Path) -> None:
    """A model file of other bytes than the card describes is not loaded."""
    (tmp_path / "model.onnx").write_bytes(b"graph")
    right = ModelFile(file="model.onnx", sha256=hashlib.sha256(b"graph").hexdigest())
    assert load_model_file(tmp_path, right) == b"graph"
    with pytest.raises(ModelCardError, match="sha256"):
        load_model_file(tmp_path, ModelFile(file="model.onnx", sha256="0" * 64))


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that the card names and nobody delivered is named."""
    with pytest.raises(ModelCardError, match=r"model\.int8\.onnx"):
        load_model_file(tmp_path, ModelFile(file="model.int8.onnx"))


def test_shipped_model_is_what_its_card_says() -> None:
    """The shipped files have the sha256 of the card, its proofs hold, and the licence lies beside."""
    folder = shipped_model_folder()
    card = load_card(folder)
    assert (card.id, card.dimension, card.licence) == ("efficientnet-lite0@1", 1280, "Apache-2.0")
    assert set(card.files) == {"fp32", "fp16", "int8"}
    for file in card.files.values():
        assert file.sha256 == hashlib.sha256((folder / file.file).read_bytes()).hexdigest()
    parity, agreement = card.files["fp32"].parity, card.files["int8"].agreement
    assert parity is not None
    assert parity.max_abs_difference <= parity.tolerance == 1e-4
    assert agreement is not None
    assert agreement.mean_cosine >= 0.99
    half = card.files["fp16"].agreement
    assert half is not None
    assert half.mean_cosine >= 0.999
    calibration = card.files["int8"].calibration
    assert calibration is not None
    assert not set(calibration.sources) & set(agreement.sources)
    assert "Apache License" in (folder / "LICENSE").read_text()
