"""The folder where `farpoint models` keeps models, one a folder named `name@revision`, beside the shipped one."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from farpoint.errors import FarpointError
from farpoint_models.card import ModelCard, ModelCardError, load_card, load_model_file, shipped_model_folder
from farpoint_models.errors import InvalidRecord
from farpoint_models.images import decode_image
from farpoint_models.importing import MODEL_FILE, ModelImportError, Reference, import_model


@dataclass(frozen=True)
class StoredModel:
    """A model folder; `card` is None, and `problem` says why, where it is no whole model."""

    folder: Path
    card: ModelCard | None
    problem: str | None = None


class ModelLibrary:
    """Models in a folder.

    Parameters
    ----------
    folder
        Made when something is put into it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()

    def models(self) -> list[StoredModel]:
        """List the shipped model and those of the folder, whole or not."""
        own = sorted(card.parent for card in self.folder.glob("*/card.json") if not card.parent.name.startswith("."))
        return [_look(folder) for folder in [shipped_model_folder(), *own]]

    def find(self, name: str) -> StoredModel:
        """Find a model by its folder, its `name@revision`, or its name where only one revision is there.

        Raises
        ------
        FarpointError
            There is none, or there are several.
        """
        if (Path(name) / "card.json").is_file():
            return _look(Path(name))
        models = [model for model in self.models() if model.card is not None]
        found = [model for model in models if model.card and name in (model.card.id, model.card.name)]
        if len(found) == 1:
            return found[0]
        there = ", ".join(model.card.id for model in models if model.card)
        if found:
            raise FarpointError(f"{name} has several revisions: say which, of {there}")
        raise FarpointError(f"there is no model {name}; there are {there}, and any folder with a card.json")

    def bring_in(self, model: Path, card: Path, references: Sequence[tuple[Path, Path]]) -> StoredModel:
        """Check a graph against its card, and keep both.

        Parameters
        ----------
        model, card
            ONNX file and draft of its card.
        references
            Pictures, each with the embedding (`.npy`) that the original model gives it.

        Raises
        ------
        FarpointError
            A file cannot be read, something does not fit, or there is such a model already.
        """
        try:
            checked = import_model(
                _read(model), _read(card), [_reference(picture, vector) for picture, vector in references]
            )
        except ModelImportError as error:
            raise FarpointError(f"{model}: {error}") from None
        folder = self.folder / checked.id
        if folder.exists():
            raise FarpointError(
                f"{folder} is there already: its vectors must stay comparable; raise the card's revision"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".import-", dir=self.folder))
        try:
            shutil.copyfile(model, draft / MODEL_FILE)
            (draft / "card.json").write_bytes(checked.to_json())
            draft.chmod(0o755)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return StoredModel(folder, checked)


def _look(folder: Path) -> StoredModel:
    try:
        card = load_card(folder)
        for file in card.files.values():
            load_model_file(folder, file)
    except ModelCardError as error:
        return StoredModel(folder, None, str(error))
    return StoredModel(folder, card)


def _reference(picture: Path, vector: Path) -> Reference:
    try:
        image = decode_image(_read(picture))
    except InvalidRecord as error:
        raise FarpointError(f"{picture}: {error.message}") from None
    try:
        embedding = np.load(vector, allow_pickle=False)
        return Reference(picture.name, image, np.asarray(embedding, np.float32).reshape(-1))
    except (OSError, ValueError) as error:
        raise FarpointError(f"{vector}: expected one vector as numpy.save writes it ({error})") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FarpointError(f"{path}: {error.strerror}") from None
