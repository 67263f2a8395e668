"""Batches in, embeddings out: right numbers, whatever the batch size."""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.onnx_models import model_folder, projection

from farpoint_models.binding import DeviceSession
from farpoint_models.canary import CanaryError, canary_image
from farpoint_models.card import ModelCardError, ModelFile, load_card, shipped_model_folder
from farpoint_models.embedder import (
    DeviceError,
    DummyEmbedder,
    Embedder,
    OnnxEmbedder,
)
from farpoint_models.images import decode_image, preprocess, stack
from farpoint_models.providers import ProviderUnavailableError


@pytest.fixture(scope="module")
def int8() -> OnnxEmbedder:
    """Load the shipped model as a CPU that is made for it runs it."""
    return OnnxEmbedder(shipped_model_folder(), device="cpu", precision="int8", threads=1)


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """Write a folder as somebody's exporter would: `model.onnx`, and a card without int8, hash or canary."""
    shipped = load_card(shipped_model_folder())
    shutil.copy(shipped_model_folder() / "model.onnx", tmp_path)
    card = msgspec.structs.replace(shipped, name="own", files={"fp32": ModelFile(file="model.onnx")}, prefer={})
    (tmp_path / "card.json").write_bytes(card.to_json())
    return tmp_path


def photographs(embedder: Embedder) -> NDArray[np.uint8]:
    """Two real pictures and the canary, preprocessed."""
    images = [
        decode_image((files("sklearn.datasets") / "images" / name).read_bytes()) for name in ("china.jpg", "flower.jpg")
    ]
    return stack([preprocess(image, embedder.card) for image in (*images, canary_image())]).astype(np.uint8)


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of each row with its partner."""
    return np.asarray(np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def test_the_cpu_runs_int8(int8: OnnxEmbedder) -> None:
    """On the CPU the shipped model runs its int8 file, and says so, and where its nodes ran."""
    assert set(int8.provider.placement.nodes) == {"CPUExecutionProvider"}
    assert sum(int8.provider.placement.heavy.values()) > 40
    assert int8.file.file == "model.int8.onnx"
    assert (int8.model_id, int8.dimension, int8.provider.device) == ("efficientnet-lite0@1", 1280, "cpu")


def test_canary_comes_out_as_the_card_says(int8: OnnxEmbedder) -> None:
    """The generated picture has the embedding that was computed where the model was made."""
    embedding = int8.embed(preprocess(canary_image(), int8.card)[np.newaxis])
    expected = np.asarray(int8.file.canary, np.float32)
    assert embedding.shape == (1, 1280)
    assert embedding.dtype == np.float32
    assert np.abs(embedding[0, : len(expected)] - expected).max() < 0.05


def test_golden_embedding_of_fp32(own_model: Path) -> None:
    """The full model gives the numbers of the card to four digits on every machine."""
    embedder = OnnxEmbedder(own_model, device="cpu", threads=1)
    embedding = embedder.embed(preprocess(canary_image(), embedder.card)[np.newaxis])[0]
    expected = np.asarray(load_card(shipped_model_folder()).files["fp32"].canary)
    assert np.allclose(embedding[: len(expected)], expected, atol=1e-3)


def test_int8_agrees_with_fp32(int8: OnnxEmbedder, own_model: Path) -> None:
    """Both files of the shipped model put a real picture in the same place."""
    fp32 = OnnxEmbedder(own_model, device="cpu", threads=1)
    batch = photographs(int8)
    assert cosine(int8.embed(batch), fp32.embed(batch)).min() > 0.97


def test_pictures_differ(int8: OnnxEmbedder) -> None:
    """Different pictures get different directions: the model looks at its input."""
    rows = int8.embed(photographs(int8))
    assert cosine(rows[:1], rows[1:2])[0] < 0.6


@pytest.mark.parametrize("count", [0, 1, 3, 8, 13])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_row_does_not_depend_on_its_batch(int8: OnnxEmbedder, count: int, threads: int) -> None:
    """A picture has the very same embedding alone on all cores, and among others on one: order and count are kept."""
    embedder = OnnxEmbedder(shipped_model_folder(), device="cpu", precision="int8", threads=threads)
    pictures = photographs(int8)
    batch = pictures[np.arange(count) % 3]
    alone = np.concatenate([int8.embed(pictures[n : n + 1]) for n in range(3)])
    rows = embedder.embed(batch)
    assert rows.shape == (count, 1280)
    assert (rows == alone[np.arange(count) % 3]).all()


def test_padding_never_leaves(int8: OnnxEmbedder) -> None:
    """Rows are writable memory of their own, not a view of the device's buffer."""
    batch = photographs(int8)
    first = int8.embed(batch)
    kept = first.copy()
    int8.embed(batch[::-1])
    assert (first == kept).all()


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((1, 224, 200, 3), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
    ],
)
def test_wrong_batch_is_refused(int8: OnnxEmbedder, batch: NDArray[np.uint8]) -> None:
    """A batch of another type or shape is refused with what was expected."""
    with pytest.raises(ValueError, match="takes"):
        int8.embed(batch)


def test_own_model_runs(own_model: Path) -> None:
    """A folder with `model.onnx` and a plain card runs on the CPU: no int8, no hash, no canary needed."""
    embedder = OnnxEmbedder(own_model, device="cpu", threads=2)
    embedder.warm_up()
    assert embedder.model_id == "own@1"
    assert embedder.embed(photographs(embedder)).shape == (3, 1280)


def test_warm_up_tries_the_canary(tmp_path: Path) -> None:
    """A model that runs but computes something else than where it was made does not start."""
    shutil.copytree(shipped_model_folder(), tmp_path, dirs_exist_ok=True)
    card = load_card(tmp_path)
    assert card.files["int8"].canary is not None
    options: dict[str, Any] = {"device": "cpu", "precision": "int8", "threads": 1}
    wrong = msgspec.structs.replace(card.files["int8"], canary=card.files["int8"].canary[::-1])
    (tmp_path / "card.json").write_bytes(msgspec.structs.replace(card, files={**card.files, "int8": wrong}).to_json())
    OnnxEmbedder(shipped_model_folder(), **options).warm_up()
    with pytest.raises(ModelCardError, match="something else"):
        OnnxEmbedder(tmp_path, **options).warm_up()


def test_the_card_states_the_cosine(tmp_path: Path, int8: OnnxEmbedder) -> None:
    """How near the canary must come is the card's to say: the int8 file passes for its own, not for fp32 at .9999."""
    assert int8.check_canary() >= int8.least_canary_cosine == 0.995
    shutil.copytree(shipped_model_folder(), tmp_path, dirs_exist_ok=True)
    card = load_card(tmp_path)
    claimed = msgspec.structs.replace(card.files["int8"], canary=card.files["fp32"].canary, canary_cosine=0.9999)
    (tmp_path / "card.json").write_bytes(msgspec.structs.replace(card, files={**card.files, "int8": claimed}).to_json())
    with pytest.raises(ModelCardError, match=r"expected at least 0\.9999"):
        OnnxEmbedder(tmp_path, device="cpu", precision="int8", threads=1).warm_up()


def test_a_device_that_drifts_is_found(own_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary is tried again while it runs, against what the start gave where the card has none; NaN is no match."""
    embedder = OnnxEmbedder(own_model, device="cpu", threads=1)
    embedder.warm_up()
    assert embedder.check_canary() == pytest.approx(1.0)
    sound = embedder._device.run
    for broken in (-1.0, np.nan):

        def drifting(pictures: Any, out: NDArray[np.float32], factor: float = broken) -> None:
            sound(pictures, out)
            out *= factor

        monkeypatch.setattr(embedder._device, "run", drifting)
        with pytest.raises(CanaryError) as caught:
            embedder.check_canary()
        assert caught.value.cosine < 0.5


def test_fp16_is_the_same_model(own_model: Path) -> None:
    """The file for GPUs puts pictures where fp32 puts them; its card says mean cosine .999 or more."""
    fp16 = OnnxEmbedder(shipped_model_folder(), device="cpu", precision="fp16", threads=1)
    fp16.warm_up()
    agreement = fp16.file.agreement
    assert agreement is not None
    assert agreement.mean_cosine >= 0.999
    batch = photographs(fp16)
    assert cosine(fp16.embed(batch), OnnxEmbedder(own_model, device="cpu", threads=1).embed(batch)).min() > 0.999


@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_bound_device_memory_gives_the_same_rows(int8: OnnxEmbedder, count: int) -> None:
    """The steps of a GPU (memory that stays, padding, copies), run on the CPU: no row of padding, none of before."""
    embedder = OnnxEmbedder(shipped_model_folder(), device="cpu", precision="int8", threads=1)
    session = embedder._device._wide._session  # type: ignore[attr-defined]
    embedder._device = DeviceSession(session, embedder.card, (1, 4), "pictures", "embeddings", "cpu")
    pictures = photographs(int8)
    for turn in range(3):
        which = (np.arange(count) + turn) % 3
        assert np.allclose(embedder.embed(pictures[which]), int8.embed(pictures[which]), atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 7])
def test_a_failing_device_is_told_from_all_else(tmp_path: Path, threads: int, count: int) -> None:
    """What ONNX Runtime raises in the middle of a run becomes one kind of error, with its own words, on any core."""
    folder = model_folder(tmp_path / "model", projection(breaks_on_white=True))
    embedder = OnnxEmbedder(folder, device="cpu", threads=threads)
    embedder.warm_up()
    batch = np.zeros((count, 16, 16, 3), np.uint8)
    batch[-1] = 255
    with pytest.raises(DeviceError, match=r"CPUExecutionProvider failed: .*out of data bounds"):
        embedder.embed(batch)
    assert embedder.embed(batch[:-1]).shape == (count - 1, 8), "the next one is none the worse"


@pytest.mark.parametrize(("field", "value"), [("dimension", 1281), ("input", None)])
def test_graph_must_fit_the_card(own_model: Path, field: str, value: int | None) -> None:
    """A card that tells of another dimension or input type than the graph has is refused at start."""
    card = load_card(own_model)
    change = {field: value or msgspec.structs.replace(card.input, dtype="float32")}
    (own_model / "card.json").write_bytes(msgspec.structs.replace(card, **change).to_json())
    with pytest.raises(ModelCardError, match="the graph"):
        OnnxEmbedder(own_model, device="cpu", threads=1)


def test_changed_model_file_is_refused(tmp_path: Path) -> None:
    """A model file that is not the one of the card never runs."""
    shutil.copytree(shipped_model_folder(), tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "model.onnx", tmp_path / "model.int8.onnx")
    with pytest.raises(ModelCardError, match="sha256"):
        OnnxEmbedder(tmp_path, device="cpu", precision="int8")


@pytest.mark.parametrize("sizes", [(2, 4), (1, 4, 2), (1, 1)])
def test_batch_sizes_must_ascend_from_one(sizes: tuple[int, ...]) -> None:
    """Sizes that cannot cut every batch are refused."""
    with pytest.raises(ValueError, match="ascend"):
        OnnxEmbedder(shipped_model_folder(), device="cpu", batch_sizes=sizes)


def test_errors_of_the_device_are_their_own_kind() -> None:
    """Missing hardware is no error of the card."""
    assert not issubclass(ProviderUnavailableError, ModelCardError)


def test_dummy_is_an_embedder() -> None:
    """The stand-in keeps the contract: deterministic, row by row, likes close and unlikes far."""
    embedder: Embedder = DummyEmbedder()
    embedder.warm_up()
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    rows = embedder.embed(batch)
    assert rows.dtype == np.float32
    assert rows.shape == (5, embedder.dimension)
    assert (embedder.embed(batch[3:4]) == rows[3:4]).all()
    left, right = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    left[:, :16], right[:, 16:] = 200, 200
    like = np.clip(left.astype(int) + rng.integers(0, 20, left.shape), 0, 255).astype(np.uint8)
    a, b, c = embedder.embed(stack([left, like, right]))
    assert cosine(a[None], b[None])[0] > 0.99
    assert cosine(a[None], c[None])[0] < 0.2
    with pytest.raises(ValueError, match="takes"):
        embedder.embed(batch.astype(np.float32))
