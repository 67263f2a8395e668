"""Small ONNX graphs that tests bring along as models: a random projection of the pixels, right or wrong in one way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
DIMENSION = 8


def projection(
    *,
    dtype: str = "uint8",
    layout: str = "NHWC",
    batch: int | str = "n",
    side: int | str = SIDE,
    tokens: bool = False,
    opset: int = 18,
    breaks_on_white: bool = False,
    over_the_batch: bool = False,
    scale: float = 1.0,
    domain: str | None = None,
    two_inputs: bool = False,
) -> bytes:
    """Return a graph that projects pixels onto `DIMENSION` random directions.

    `breaks_on_white`: a white picture makes ONNX Runtime fail in the middle of a run. `over_the_batch`: a row depends
    on its neighbours. `tokens`: gives a map and no vector. `scale`: of the weights.
    """
    sides = [side, side]
    shape = [batch, *sides, 3] if layout == "NHWC" else [batch, 3, *sides]
    kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[dtype]
    weights = np.random.default_rng(0).normal(0, 0.01 * scale, (3 * SIDE * SIDE, DIMENSION)).astype(np.float32)
    constants = {"rows": np.asarray([0, 3 * SIDE * SIDE], np.int64), "weights": weights}
    nodes = [helper.make_node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT)]
    if domain:
        nodes.append(helper.make_node("Strange", ["floats"], ["strange"], domain=domain))
    nodes.append(helper.make_node("Reshape", ["floats", "rows"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "weights"], ["projected"]))
    last = "projected"
    if over_the_batch:
        constants |= {"axis": np.asarray([0], np.int64)}
        nodes.append(helper.make_node("ReduceMean", [last, "axis"], ["mean"]))
        nodes.append(helper.make_node("Sub", [last, "mean"], ["centred"]))
        nodes.append(helper.make_node("Add", ["centred", "offset"], ["shifted"]))
        constants["offset"] = np.ones(DIMENSION, np.float32)
        last = "shifted"
    if breaks_on_white:
        # The brightest pixel's place in a table of 255: 255 itself lies behind its end.
        constants |= {"table": np.zeros((255,), np.float32), "one_axis": np.asarray([1], np.int64)}
        nodes.append(helper.make_node("ReduceMin", ["flat", "one_axis"], ["darkest"]))
        nodes.append(helper.make_node("Cast", ["darkest"], ["place"], to=TensorProto.INT64))
        nodes.append(helper.make_node("Gather", ["table", "place"], ["nothing"]))
        nodes.append(helper.make_node("Add", [last, "nothing"], ["guarded"]))
        last = "guarded"
    if tokens:
        constants |= {"map_shape": np.asarray([0, 2, DIMENSION // 2], np.int64)}
        nodes.append(helper.make_node("Reshape", [last, "map_shape"], ["embeddings"]))
        given = ["n", 2, DIMENSION // 2]
    else:
        nodes.append(helper.make_node("Identity", [last], ["embeddings"]))
        given = ["n", DIMENSION]
    inputs = [helper.make_tensor_value_info("pictures", kind, shape)]
    if two_inputs:
        inputs.append(helper.make_tensor_value_info("text", TensorProto.FLOAT, ["n", 1]))
    graph = helper.make_graph(
        nodes,
        "projection",
        inputs,
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, given)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return bytes(model.SerializeToString())


def draft(**said: Any) -> bytes:
    """Return a draft of a card."""
    return json.dumps({"name": "own", "revision": 1, **said}).encode()


def model_folder(folder: Path, model: bytes, **said: Any) -> Path:
    """Write a model folder by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    picture = {"height": SIDE, "width": SIDE, "layout": "NHWC", "dtype": "uint8"}
    (folder / "card.json").write_bytes(draft(dimension=DIMENSION, input=picture, **said))
    return folder
