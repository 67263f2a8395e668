"""`farpoint models`: what is let in is kept whole, what is there is listed, and nothing is overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.onnx_models import DIMENSION, SIDE, draft, model_folder, projection

from farpoint.cli import cli
from farpoint.errors import FarpointError
from farpoint.model_library import ModelLibrary
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import preprocess


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a graph and the draft of its card, and set a library."""
    (tmp_path / "graph.onnx").write_bytes(projection())
    (tmp_path / "card.json").write_bytes(draft())
    monkeypatch.setenv("FARPOINT_EMBEDDER__LIBRARY", str(tmp_path / "library"))
    return tmp_path


def run(*arguments: object) -> Result:
    """Run `farpoint models ...` in this process."""
    return CliRunner().invoke(cli, ["models", *map(str, arguments)])


def test_a_model_is_brought_in_and_used(files: Path) -> None:
    """The folder that the command names has a whole model, which runs, and whose canary is the card's."""
    done = run("import", files / "graph.onnx", "--card", files / "card.json")
    assert done.exit_code == 0, done.output
    last = done.output.strip().splitlines()[-1]
    folder = Path(last.removeprefix("export FARPOINT_EMBEDDER__MODEL="))
    assert folder == files / "library" / "own@1"
    embedder = OnnxEmbedder(folder, device="cpu")
    embedder.warm_up()
    assert embedder.model_id == "own@1"
    assert embedder.file.canary is not None


def test_list_and_show(files: Path) -> None:
    """Both models are listed, the shipped one in use; a card is shown by id and by name, a damaged one as such."""
    assert run("import", files / "graph.onnx", "--card", files / "card.json").exit_code == 0
    listed = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [(one["id"], one["in_use"]) for one in listed] == [("efficientnet-lite0@1", True), ("own@1", False)]
    for name in ("own", "own@1", files / "library" / "own@1"):
        shown = json.loads(run("show", name, "--json").stdout)
        assert shown["card"]["dimension"] == DIMENSION
    assert "own@1 in " in run("show", "own").stdout
    (files / "library" / "own@1" / "model.onnx").write_bytes(b"another")
    (damaged,) = [json.loads(line) for line in run("list", "--json").stdout.splitlines()][1:]
    assert damaged["id"] is None
    assert "sha256" in damaged["problem"]
    assert "damaged" in run("list").stdout


def test_nothing_is_overwritten(files: Path) -> None:
    """A second model of the same id is refused, and the first stays as it was."""
    library = ModelLibrary(files / "library")
    first = library.bring_in(files / "graph.onnx", files / "card.json", [])
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    with pytest.raises(FarpointError, match="raise the card's revision"):
        library.bring_in(files / "graph.onnx", files / "card.json", [])
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    assert [path.name for path in library.folder.iterdir()] == ["own@1"], "no draft is left behind"


def test_references_are_read(files: Path) -> None:
    """A picture and its vector are compared; a vector that is another's ends the import with one line."""
    library = ModelLibrary(files / "library")
    from PIL import Image

    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(files / "a.png")
    by_hand = OnnxEmbedder(model_folder(files / "by-hand", projection()), device="cpu")
    np.save(files / "a.npy", by_hand.embed(preprocess(pixels, by_hand.card)[np.newaxis])[0])
    np.save(files / "b.npy", np.ones(DIMENSION, np.float32))
    with pytest.raises(FarpointError, match=r"graph\.onnx: cosine .* to the reference of a\.png"):
        library.bring_in(files / "graph.onnx", files / "card.json", [(files / "a.png", files / "b.npy")])
    stored = library.bring_in(files / "graph.onnx", files / "card.json", [(files / "a.png", files / "a.npy")])
    assert stored.card is not None
    assert stored.card.files["fp32"].agreement is not None


@pytest.mark.parametrize(
    ("picture", "vector", "said"),
    [("none.png", "a.npy", "none.png"), ("card.json", "a.npy", "begins with"), ("a.png", "card.json", "numpy.save")],
)
def test_what_cannot_be_read_is_named(files: Path, picture: str, vector: str, said: str) -> None:
    """A reference that is no picture or no vector is named; nothing is unpickled."""
    from PIL import Image

    Image.new("RGB", (SIDE, SIDE)).save(files / "a.png")
    np.save(files / "a.npy", np.ones(DIMENSION, np.float32))
    with pytest.raises(FarpointError, match=said):
        ModelLibrary(files / "library").bring_in(
            files / "graph.onnx", files / "card.json", [(files / picture, files / vector)]
        )


def test_an_unknown_name_says_what_there_is(files: Path) -> None:
    """A name that no model has is answered with those there are."""
    with pytest.raises(FarpointError, match="efficientnet-lite0@1"):
        ModelLibrary(files / "library").find("nothing")
