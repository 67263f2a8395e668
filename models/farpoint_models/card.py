"""A model's card: what it is, what it takes in, which files it is made of, and how far each was proven."""

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "fp16", "int8"]

SHIPPED_MODEL: Final = "efficientnet-lite0"

_Size = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]


class ModelCardError(ValueError):
    """A model folder is incomplete, its card cannot be read, or a file is not the one the card describes."""


class ModelInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model takes in.

    Parameters
    ----------
    height, width
        Pixels.
    layout
        `NHWC` or `NCHW`, the axes of a batch.
    dtype
        `uint8`: the model normalises by itself; `float32`: `(pixel - mean) / std` is done before.
    mean, std
        Per channel R, G, B, in pixel units (0 to 255); for `uint8` a statement of what the graph does.
    resize
        `stretch`: the whole picture, its aspect ratio given up; `crop`: the largest central part of the right ratio.
    """

    height: _Size
    width: _Size
    layout: Literal["NHWC", "NCHW"] = "NCHW"
    dtype: Literal["uint8", "float32"] = "float32"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    resize: Literal["stretch", "crop"] = "stretch"


class Parity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far an exported graph is from the model it was exported from.

    Parameters
    ----------
    reference
        What it was compared with.
    pictures
        How many real pictures were compared.
    max_abs_difference
        Largest difference of any component of any embedding.
    tolerance
        What was allowed.
    """

    reference: str
    pictures: int
    max_abs_difference: float
    tolerance: float


class Agreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well a model of fewer bits agrees with the full one on pictures that its making never saw.

    Parameters
    ----------
    reference
        What it was compared with, and where both ran.
    pictures
        How many held-out pictures.
    mean_cosine, min_cosine
        Cosine between the two embeddings of one picture: mean over the pictures, and the worst.
    sources
        Where the pictures came from.
    """

    reference: str
    pictures: int
    mean_cosine: float
    min_cosine: float
    sources: tuple[str, ...]


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model was quantised.

    Parameters
    ----------
    method
        In words.
    pictures
        How many real pictures set the ranges of its activations.
    sources
        Where they came from.
    """

    method: str
    pictures: int
    sources: tuple[str, ...]


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One ONNX file of a model.

    Parameters
    ----------
    file
        Its name in the card's folder.
    sha256
        Of its bytes, hexadecimal; None in a card written by hand: then the file is taken as it is.
    canary
        The first components of the embedding of `canary.canary_image`; None: what the model gives at its start stands
        in for it, so that only later drift is seen.
    canary_cosine
        Least cosine between that and what the device computes, at start and ever after; None: the customary one of the
        precision.
    parity, calibration, agreement
        What was measured when it was made.
    """

    file: _Name
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    canary: tuple[float, ...] | None = None
    canary_cosine: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    parity: Parity | None = None
    calibration: Calibration | None = None
    agreement: Agreement | None = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model is.

    Parameters
    ----------
    name, revision
        Together the name of the vector space, `name@revision`: vectors of different ids are never compared.
    dimension
        D, components of an embedding.
    input
        What it takes in.
    output
        Name of the graph's output that is the embedding; None: its first.
    files
        `fp32` and, where there are, `fp16` and `int8`.
    prefer
        Which of them each device runs; `fp32` where nothing is said. A CPU without instructions for products of 8 bits
        runs `fp32` instead of `int8`.
    opset
        ONNX operator set of the files.
    licence, source, description
        For people.

    Examples
    --------
    >>> card = ModelCard.from_json(
    ...     b'{"name": "mine", "revision": 2, "dimension": 512, "input": {"height": 224, "width": 224}}'
    ... )
    >>> card.id, card.file_for("cpu").file
    ('mine@2', 'model.onnx')
    """

    name: _Name
    revision: Annotated[int, msgspec.Meta(ge=1)]
    dimension: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    input: ModelInput
    output: str | None = None
    files: dict[Precision, ModelFile] = msgspec.field(default_factory=lambda: {"fp32": ModelFile(file="model.onnx")})
    prefer: dict[Device, Precision] = msgspec.field(default_factory=dict)
    opset: int | None = None
    licence: str | None = None
    source: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        if "fp32" not in self.files:
            raise ValueError("`files` has no `fp32`")
        if missing := sorted(set(self.prefer.values()) - set(self.files)):
            raise ValueError(f"`prefer` names {missing[0]}, which `files` has not")
        if min(self.input.std) <= 0:
            raise ValueError("`input.std` must be positive")

    @property
    def id(self) -> str:
        """Name of the vector space, as on the wire: `efficientnet-lite0@1`."""
        return f"{self.name}@{self.revision}"

    def precision_for(self, device: Device) -> Precision:
        """Say which of the files a device should run."""
        return self.prefer.get(device, "fp32")

    def file_for(self, device: Device) -> ModelFile:
        """Give the file that a device should run."""
        return self.files[self.precision_for(device)]

    @classmethod
    def from_json(cls, data: bytes) -> "ModelCard":
        """Read a card.

        Raises
        ------
        ModelCardError
            With the field that is missing, unknown or wrong.

        Examples
        --------
        >>> ModelCard.from_json(b'{"name": "mine"}')
        Traceback (most recent call last):
        ...
        farpoint_models.card.ModelCardError: card.json: Object missing required field `revision`
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ModelCardError(f"card.json: {error}") from error

    def to_json(self) -> bytes:
        """Write a card, indented, with a newline at the end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def shipped_model_folder() -> Path:
    """Find the model that comes with the package.

    Returns
    -------
    Path
        Inside the installed package, or beside it in a checkout.

    Examples
    --------
    >>> load_card(shipped_model_folder()).id
    'efficientnet-lite0@1'
    """
    package = Path(__file__).parent
    installed = package / "artifacts" / SHIPPED_MODEL
    return installed if installed.is_dir() else package.parent / "artifacts" / SHIPPED_MODEL


def load_card(folder: Path) -> ModelCard:
    """Read the card of a model folder.

    Parameters
    ----------
    folder
        With `card.json` and the ONNX files it names.

    Raises
    ------
    ModelCardError
        When there is no such card or it is wrong.
    """
    path = folder / "card.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelCardError(f"{path}: {error.strerror}; a model is a folder with model.onnx and card.json") from error
    return ModelCard.from_json(data)


def load_model_file(folder: Path, file: ModelFile) -> bytes:
    """Read one ONNX file of a model folder, and make sure it is the one the card describes.

    Parameters
    ----------
    folder
        The model's folder.
    file
        Which one, from its card.

    Returns
    -------
    bytes
        The ONNX graph.

    Raises
    ------
    ModelCardError
        When it is missing, or its sha256 is another.
    """
    path = folder / file.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelCardError(f"{path}: {error.strerror}; card.json names this file") from error
    if file.sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != file.sha256:
        raise ModelCardError(
            f"{path}: its sha256 is {found}, the card says {file.sha256}; "
            "copy the model again, or export it again if it was changed on purpose"
        )
    return data
