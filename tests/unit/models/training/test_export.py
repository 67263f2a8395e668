"""The exporter writes a model folder that computes what torch computes."""

from pathlib import Path

import numpy as np
import pytest

from farpoint_models.canary import canary_image
from farpoint_models.card import load_card, shipped_model_folder
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import preprocess

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a model folder, with a few generated pictures to calibrate on."""
    from farpoint_models.training import export
    from farpoint_models.training.pictures import PictureSource, random_parts

    rng = np.random.default_rng(0)
    parts = random_parts(canary_image(), 24, rng)
    out = tmp_path_factory.mktemp("model")
    export.export(out, [PictureSource("generated", parts[:16])], [PictureSource("others", parts[16:])])
    return out


def test_folder_is_complete(folder: Path) -> None:
    """Both graphs, the card and the licence are written, and the card fits the graphs."""
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx", "model.fp16.onnx", "model.int8.onnx", "card.json", "LICENSE",
    }  # fmt: skip
    card = load_card(folder)
    parity = card.files["fp32"].parity
    assert parity is not None
    assert parity.max_abs_difference <= 1e-4
    OnnxEmbedder(folder, device="cpu").warm_up()


def test_export_computes_what_torch_computes(folder: Path) -> None:
    """The exported fp32 graph and torch agree to 1e-4 on the canary."""
    from farpoint_models.training import export

    card = load_card(folder)
    batch = preprocess(canary_image(), card)[np.newaxis]
    expected = export.torch_embeddings(export.pretrained_network(), batch)[0]
    canary = np.asarray(card.files["fp32"].canary)
    assert np.abs(expected[: len(canary)] - canary).max() <= 1e-4


def test_shipped_model_is_what_the_exporter_makes(folder: Path) -> None:
    """A fresh export computes the numbers of the shipped card."""
    shipped, fresh = load_card(shipped_model_folder()), load_card(folder)
    assert np.allclose(shipped.files["fp32"].canary or (), fresh.files["fp32"].canary or (), atol=1e-4)


def test_no_trace_of_where_it_was_made(folder: Path) -> None:
    """No path of the machine that exported is inside a graph."""
    package = Path(np.__file__).parent.parent
    for name in ("model.onnx", "model.fp16.onnx", "model.int8.onnx"):
        graph = (folder / name).read_bytes()
        for trace in (str(package), str(Path.cwd()), str(Path.home()) + "/", "stack_trace"):
            assert trace.encode() not in graph


def test_parity_is_checked(folder: Path) -> None:
    """A graph that differs from its network is an error, not a figure in a card."""
    import torch

    from farpoint_models.training import export

    network = export.pretrained_network()
    with torch.no_grad():
        next(network.parameters()).mul_(1.01)
    embedder = OnnxEmbedder(folder, device="cpu")
    batch = preprocess(canary_image(), embedder.card)[np.newaxis]
    with pytest.raises(export.ParityError):
        export.check_parity(network, embedder, batch)
