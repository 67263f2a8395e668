"""A model of one's own: whether its graph fits its card, and computes what it should.

What goes wrong with exported encoders is always the same: the batch axis is fixed, the output is a map of tokens and no
vector, pixels are normalised in the wrong units. All of it is found here, before a million vectors were made of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from farpoint_models.canary import CANARY_COMPONENTS, canary_image
from farpoint_models.card import Agreement, ModelCard, ModelCardError, ModelFile
from farpoint_models.embedder import Embeddings, OnnxEmbedder
from farpoint_models.graph import embedding_output, fitting_input
from farpoint_models.images import Image, preprocess, stack
from farpoint_models.onnx_header import opsets
from farpoint_models.providers import open_session

MODEL_FILE: Final = "model.onnx"
LEAST_OPSET: Final = 11
LEAST_REFERENCE_COSINE: Final = 0.999
"""Cosine between our embedding of a picture and the one that was brought along: rounding, and nothing else."""

_CANARY_COSINE: Final = 0.9999
_LEAST_ROW_COSINE: Final = 0.9999
_MOST_ALIKE: Final = 0.99999
_KNOWN_DOMAINS: Final = frozenset({"", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training", "ai.onnx.training"})
_WRITTEN_BY_US: Final = ("files", "prefer", "opset")
# What encoders were trained with, in pixel units.
_NORMALISATIONS: Final[Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "ImageNet's": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "CLIP's": ((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305)),
    "-1 to 1": ((127.5,) * 3, (127.5,) * 3),
    "0 to 1": ((0.0,) * 3, (255.0,) * 3),
    "0 to 255": ((0.0,) * 3, (1.0,) * 3),
}


class ModelImportError(ValueError):
    """A graph does not fit its card, or does not compute what it should; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the original model makes of a picture.

    Parameters
    ----------
    name
        Of the picture.
    image
        uint8, (H, W, 3), RGB. One of exactly the model's size leaves resizing out of the comparison.
    embedding
        float32, (D,).
    """

    name: str
    image: Image
    embedding: NDArray[np.float32]


def import_model(model: bytes, draft: bytes, references: Sequence[Reference] = ()) -> ModelCard:
    """Check a graph against what is said about it, and write its card.

    Parameters
    ----------
    model
        An ONNX file, weights inside.
    draft
        A card as JSON: name, revision, and of `input` what the graph does not tell (`mean` and `std` of a graph that
        takes floats). What it does tell may be left out; where both say something, they must agree.
    references
        Pictures with the embeddings that the original model gives them.

    Returns
    -------
    ModelCard
        With sha256, canary and, where there were references, the agreement with them.

    Raises
    ------
    ModelImportError
        Something does not fit; the message says what to change.
    """
    try:
        said = msgspec.json.decode(draft, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ModelImportError(f"the card is no JSON object: {error}") from error
    if given := [name for name in _WRITTEN_BY_US if name in said]:
        raise ModelImportError(f"leave `{given[0]}` out of the card: the import writes it")
    opset = _checked_opset(model)
    session = _session(model)
    said["input"] = _checked_input(session, said.get("input", {}))
    output, dimension = _checked_output(session, said)
    if output is not None:
        said["output"] = output
    if dimension is not None:
        said["dimension"] = dimension
    file = ModelFile(file=MODEL_FILE, sha256=hashlib.sha256(model).hexdigest())
    card = _card(said | {"opset": opset})
    card = msgspec.structs.replace(card, files={"fp32": file})
    with TemporaryDirectory(prefix="farpoint-import-") as name:
        folder = Path(name)
        (folder / MODEL_FILE).write_bytes(model)
        (folder / "card.json").write_bytes(card.to_json())
        try:
            embedder = OnnxEmbedder(folder, device="cpu")
            canary = _checked_rows(embedder, session)
            agreement = _checked_references(embedder, model, card, references) if references else None
        except ModelCardError as error:
            raise ModelImportError(str(error)) from error
    file = msgspec.structs.replace(
        file,
        # Five digits, not five decimals: some embeddings are small.
        canary=tuple(float(f"{value:.5g}") for value in canary[:CANARY_COMPONENTS]),
        canary_cosine=_CANARY_COSINE,
        agreement=agreement,
    )
    return msgspec.structs.replace(card, files={"fp32": file})


def _checked_opset(model: bytes) -> int:
    try:
        needed = opsets(model)
    except ValueError as error:
        raise ModelImportError(f"this is no ONNX file: {error}") from error
    if unknown := sorted(set(needed) - _KNOWN_DOMAINS):
        raise ModelImportError(
            f"the graph uses operators of {unknown[0]!r}; ONNX Runtime has none: export without them"
        )
    opset = needed.get("", 0)
    if opset < LEAST_OPSET:
        raise ModelImportError(f"the graph is of opset {opset}; export it again with opset {LEAST_OPSET} or later")
    return opset


def _session(model: bytes) -> Any:
    try:
        return open_session(model, "cpu", "cpu", "")[0]
    except Exception as error:  # ONNX Runtime has a dozen classes of its own
        text = " ".join(str(error).split())[:300]
        remedy = "export it with an opset that this ONNX Runtime knows"
        if "external" in text.lower() or ".data" in text:
            remedy = "save it as one file: onnx.save(onnx.load(PATH), NEW, save_as_external_data=False)"
        raise ModelImportError(f"ONNX Runtime cannot load the graph ({text}); {remedy}") from error


def _checked_input(session: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise ModelImportError(
            f"the graph has {len(inputs)} inputs ({names}); expected one, a batch of pictures: export the "
            "image encoder alone"
        )
    (one,) = inputs
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    if one.type not in types:
        raise ModelImportError(f"the graph takes {one.type}; expected tensor(uint8) or tensor(float)")
    if len(one.shape) != 4:
        raise ModelImportError(f"the graph takes {one.shape}; expected a batch of pictures, four axes")
    batch, *rest = one.shape
    if isinstance(batch, int):
        raise ModelImportError(
            f"the batch axis is fixed at {batch}: export it open, with dynamic_shapes={{0: torch.export.Dim('n')}} or "
            f"dynamic_axes={{{one.name!r}: {{0: 'n'}}}}"
        )
    layouts = [name for name, axis in (("NCHW", 0), ("NHWC", 2)) if rest[axis] == 3]
    found: dict[str, Any] = {"dtype": types[one.type]}
    if len(layouts) == 1:
        found["layout"] = layouts[0]
    elif not layouts and all(isinstance(size, int) for size in rest):
        raise ModelImportError(f"the graph takes {one.shape}; no axis has the three channels of a picture")
    layout = found.get("layout") or said.get("layout", "NCHW")
    sides = dict(zip(("height", "width"), rest[:2] if layout == "NHWC" else rest[1:], strict=True))
    found |= {name: size for name, size in sides.items() if isinstance(size, int)}
    for name, value in found.items():
        if said.get(name, value) != value:
            raise ModelImportError(f"the card says {name} {said[name]!r}, the graph {value!r}")
    if missing := [name for name in ("height", "width") if name not in found and name not in said]:
        raise ModelImportError(f"the graph leaves its {missing[0]} open: say `input.{missing[0]}` in the card")
    merged = {**said, **found}
    if merged["dtype"] == "float32":
        _check_normalisation(merged)
    return merged


def _check_normalisation(said: Mapping[str, Any]) -> None:
    for name in ("mean", "std"):
        if name not in said:
            raise ModelImportError(
                f"the graph takes floats: say `input.{name}` in the card, in pixel units (0 to 255), or export it with "
                "the normalisation inside and uint8 pixels as its input"
            )
    numbers = [abs(value) for name in ("mean", "std") for value in said[name] if isinstance(value, int | float)]
    # A model of plain pixels has std 1; a deviation below that is one of pixels between 0 and 1.
    if numbers and min(said["std"]) < 1.0 and max(numbers) <= 1.0:
        raise ModelImportError(
            f"`input.mean` {list(said['mean'])} and `input.std` {list(said['std'])} are those of pixels between 0 and "
            "1; the card wants them in pixel units: multiply both by 255"
        )


def _checked_output(session: Any, said: Mapping[str, Any]) -> tuple[str | None, int | None]:
    outputs = session.get_outputs()
    listed = "; ".join(f"{output.name}: {output.shape}" for output in outputs)
    wanted = said.get("output")
    if wanted is None:
        chosen = next((output for output in outputs if len(output.shape) == 2), None)
        if chosen is None:
            raise ModelImportError(
                f"no output is one vector a picture, (N, D), but {listed}: export the pooled vector, or the class token"
            )
    else:
        chosen = next((output for output in outputs if output.name == wanted), None)
        if chosen is None:
            raise ModelImportError(f"the graph has no output {wanted!r}, only {listed}")
        if len(chosen.shape) != 2:
            raise ModelImportError(f"the output {wanted} is {chosen.shape}; expected one vector a picture, (N, D)")
    dimension = chosen.shape[1]
    if isinstance(dimension, int) and said.get("dimension", dimension) != dimension:
        raise ModelImportError(f"the card says dimension {said['dimension']}, the graph {dimension}")
    if not isinstance(dimension, int) and "dimension" not in said:
        raise ModelImportError("the graph leaves the size of its vectors open: say `dimension` in the card")
    return (chosen.name if len(outputs) > 1 else wanted), (dimension if isinstance(dimension, int) else None)


def _card(said: Mapping[str, Any]) -> ModelCard:
    try:
        return msgspec.convert(said, ModelCard)
    except msgspec.ValidationError as error:
        raise ModelImportError(f"the card: {error}") from error


def _checked_rows(embedder: OnnxEmbedder, session: Any) -> Embeddings:
    name, output = fitting_input(session, embedder.card), embedding_output(session, embedder.card)
    images = [canary_image(), canary_image()[::-1, ::-1], np.full_like(canary_image(), 128), 255 - canary_image()]
    batch = stack([preprocess(np.ascontiguousarray(image), embedder.card) for image in images])
    try:
        # As one batch, which a GPU makes of them.
        together = session.run([output], {name: batch})[0]
        alone = np.concatenate([embedder.embed(batch[row : row + 1]) for row in range(len(batch))])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelImportError(f"the graph does not run: {text}") from error
    if not np.isfinite(alone).all():
        raise ModelImportError("the graph gives numbers that are not finite: look at `input.mean` and `input.std`")
    if not np.linalg.norm(alone, axis=1).all():
        raise ModelImportError("the graph gives a vector of zeros: it has no direction to compare")
    if (least := float(cosines(together, alone).min())) < _LEAST_ROW_COSINE:
        raise ModelImportError(
            f"a picture's vector depends on its neighbours in the batch (cosine {least:.4f} to the one alone): is the "
            "network in inference mode, network.eval()?"
        )
    if (alike := float(cosines(alone[:1], alone[3:])[0])) > _MOST_ALIKE:
        raise ModelImportError(
            f"the graph gives a picture and its negative the same vector (cosine {alike:.6f}): look at "
            "`input.mean` and `input.std`"
        )
    row: Embeddings = alone[0]
    return row


def _checked_references(
    embedder: OnnxEmbedder, model: bytes, card: ModelCard, references: Sequence[Reference]
) -> Agreement:
    wanted = np.stack([reference.embedding for reference in references]).astype(np.float32)
    if wanted.shape[1] != card.dimension:
        raise ModelImportError(f"the references have {wanted.shape[1]} numbers, the graph gives {card.dimension}")
    found = cosines(_embedded(embedder, references), wanted)
    worst = int(found.argmin())
    if found[worst] < LEAST_REFERENCE_COSINE:
        raise ModelImportError(
            f"cosine {found[worst]:.4f} to the reference of {references[worst].name}, expected at least "
            f"{LEAST_REFERENCE_COSINE}: {_hint(model, card, references, wanted)}"
        )
    return Agreement(
        reference="the original model, on pictures that were brought along",
        pictures=len(references),
        mean_cosine=round(float(found.mean()), 5),
        min_cosine=round(float(found.min()), 5),
        sources=tuple(reference.name for reference in references),
    )


def _hint(model: bytes, card: ModelCard, references: Sequence[Reference], wanted: Embeddings) -> str:
    """Say what would have matched: the mistakes are few, and a try is cheap."""
    tries: dict[str, ModelCard] = {}
    if card.input.dtype == "float32":
        for name, (mean, std) in _NORMALISATIONS.items():
            changed = msgspec.structs.replace(card.input, mean=mean, std=std)
            shown = f"with mean {list(mean)} and std {list(std)} ({name}) it would match"
            tries[shown] = msgspec.structs.replace(card, input=changed)
    other = "crop" if card.input.resize == "stretch" else "stretch"
    tries[f'with resize "{other}" it would match'] = msgspec.structs.replace(
        card, input=msgspec.structs.replace(card.input, resize=other)
    )
    with TemporaryDirectory(prefix="farpoint-import-") as name:
        folder = Path(name)
        (folder / MODEL_FILE).write_bytes(model)
        for shown, changed_card in tries.items():
            (folder / "card.json").write_bytes(changed_card.to_json())
            found = cosines(_embedded(OnnxEmbedder(folder, device="cpu"), references), wanted)
            if found.min() >= LEAST_REFERENCE_COSINE:
                return shown
    return (
        "look at the normalisation, the order of the channels (RGB) and the resizing; a picture of exactly "
        f"{card.input.width} x {card.input.height} pixels leaves resizing out"
    )


def _embedded(embedder: OnnxEmbedder, references: Sequence[Reference]) -> Embeddings:
    return embedder.embed(stack([preprocess(reference.image, embedder.card) for reference in references]))


def cosines(a: Embeddings, b: Embeddings) -> NDArray[np.float32]:
    """Cosine of each row with its partner.

    Examples
    --------
    >>> cosines(np.array([[1, 0]], np.float32), np.array([[2, 0]], np.float32))
    array([1.], dtype=float32)
    """
    products: NDArray[np.float32] = np.sum(a * b, axis=1)
    return products / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
