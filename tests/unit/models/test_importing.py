"""A model of one's own is let in when it fits its card and computes what it should; else it is said what to do."""

from typing import Any

import numpy as np
import onnx
import pytest
from tests.onnx_models import DIMENSION, SIDE, draft, projection

from farpoint_models.card import ModelCard
from farpoint_models.importing import ModelImportError, Reference, import_model
from farpoint_models.onnx_header import opsets

HALF = {"mean": [127.5] * 3, "std": [127.5] * 3}
PLAIN = {"mean": [0, 0, 0], "std": [255, 255, 255]}


def pictures(count: int = 3) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Draw pictures of exactly the model's size."""
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count)]


def as_original(image: np.ndarray[Any, Any], mean: float, std: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Embed a picture as the original model would: channels first, normalised, projected."""
    graph = onnx.load_from_string(projection(dtype="float32", layout="NCHW")).graph
    weights = next(onnx.numpy_helper.to_array(one) for one in graph.initializer if one.name == "weights")
    flat = ((image.astype(np.float32) - mean) / std).transpose(2, 0, 1).reshape(1, -1)
    return np.asarray((flat @ weights)[0], np.float32)


def test_what_the_graph_tells_need_not_be_said() -> None:
    """Of a graph that takes pixels name and revision are enough: the rest is found, and the canary noted."""
    card = import_model(projection(), draft())
    assert (card.id, card.dimension, card.opset) == ("own@1", DIMENSION, 18)
    assert (card.input.layout, card.input.dtype, card.input.height, card.input.width) == ("NHWC", "uint8", SIDE, SIDE)
    file = card.files["fp32"]
    assert file.sha256 is not None
    assert file.canary is not None
    assert len(file.canary) == DIMENSION
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("graph", "said", "message"),
    [
        ({"batch": 1}, {}, "batch axis is fixed at 1: export it open"),
        ({"tokens": True}, {}, "no output is one vector a picture.*class token"),
        ({"two_inputs": True}, {}, r"2 inputs \(pictures, text\).*image encoder alone"),
        ({"dtype": "float16"}, {}, r"takes tensor\(float16\)"),
        ({"opset": 9}, {}, "opset 9; export it again with opset 11"),
        ({"side": "s"}, {}, "leaves its height open"),
        ({"over_the_batch": True}, {}, r"depends on its neighbours.*network\.eval\(\)"),
        ({"scale": 0.0}, {}, "a vector of zeros"),
        ({"scale": 1e38}, {}, "not finite"),
        ({}, {"dimension": 9}, "the card says dimension 9, the graph 8"),
        ({}, {"output": "nothing"}, "no output 'nothing'"),
        ({}, {"input": {"height": 224}}, "the card says height 224, the graph 16"),
        ({}, {"input": {"layout": "NCHW"}}, "the card says layout 'NCHW', the graph 'NHWC'"),
        ({}, {"files": {}}, "leave `files` out"),
        ({}, {"name": "a@b"}, "name"),
        ({"dtype": "float32"}, {}, "takes floats: say `input.mean`"),
        ({"dtype": "float32"}, {"input": {"mean": [0.485] * 3, "std": [0.229] * 3}}, "multiply both by 255"),
        ({"dtype": "float32"}, {"input": {"mean": [0, 0, 0], "std": [0, 0, 0]}}, "std"),
    ],
)
def test_what_does_not_fit_is_said(graph: dict[str, Any], said: dict[str, Any], message: str) -> None:
    """Each mistake of exporting is found, and the message says what to do."""
    with pytest.raises(ModelImportError, match=message):
        import_model(projection(**graph), draft(**said))


def test_unknown_operators_are_named() -> None:
    """A graph of somebody's own operators is refused by the name of their set."""
    with pytest.raises(ModelImportError, match=r"operators of 'com\.mine'"):
        import_model(projection(domain="com.mine"), draft())


@pytest.mark.parametrize("model", [b"", b"text", b"\x08\x07", projection()[:-40]])
def test_no_onnx_file(model: bytes) -> None:
    """Bytes that are no ONNX file, or half of one, are called so."""
    with pytest.raises(ModelImportError, match=r"no ONNX file|cannot load"):
        import_model(model, draft())


def test_references_prove_the_normalisation() -> None:
    """Embeddings of the original model, brought along, agree; the card says how well, and with what."""
    references = [Reference(f"{n}.png", image, as_original(image, 127.5, 127.5)) for n, image in enumerate(pictures())]
    model = projection(dtype="float32", layout="NCHW")
    card = import_model(model, draft(input=HALF), references)
    agreement = card.files["fp32"].agreement
    assert agreement is not None
    assert agreement.min_cosine > 0.9999
    assert agreement.sources == ("0.png", "1.png", "2.png")


def test_a_wrong_normalisation_is_found_and_the_right_one_named() -> None:
    """Where the original disagrees, the usual normalisations are tried, and the one that matches is said."""
    references = [Reference("a.png", image, as_original(image, 127.5, 127.5)) for image in pictures()]
    with pytest.raises(ModelImportError, match=r"cosine -?0\.\d+ .*with mean \[127\.5, .*\(-1 to 1\) it would match"):
        import_model(projection(dtype="float32", layout="NCHW"), draft(input=PLAIN), references)


def test_a_difference_that_nothing_explains() -> None:
    """Where nothing usual matches, the message says where to look."""
    other = Reference("a.png", pictures()[0], np.arange(DIMENSION, dtype=np.float32))
    with pytest.raises(ModelImportError, match=r"order of the channels.*16 x 16 pixels"):
        import_model(projection(), draft(), [other])


def test_opsets_are_read_as_onnx_reads_them() -> None:
    """The little reader and the package `onnx` agree."""
    for opset in (11, 18):
        model = projection(opset=opset, domain="com.mine")
        said = {one.domain: one.version for one in onnx.load_from_string(model).opset_import}
        assert opsets(model) == said == {"": opset, "com.mine": 1}
