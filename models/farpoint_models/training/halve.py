"""fp16 from fp32: half the memory, and the tensor cores of a GPU."""

from typing import Final

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

METHOD: Final = "weights and activations in 16-bit floats, between a float32 input and a float32 output"
"""What `halve` does, for the card."""


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float graph to 16-bit floats.

    Parameters
    ----------
    model
        float32 in, float32 out.

    Returns
    -------
    onnx.ModelProto
        The same inputs and outputs, 16-bit floats in between.
    """
    own = onnx.ModelProto()
    own.CopyFrom(model)  # it is converted in place
    # Shapes are not inferred: the exporter has done so, and what is inferred again ends in a temporary file.
    half = OnnxModel(convert_float_to_float16(own, keep_io_types=True, disable_shape_infer=True))
    half.topological_sort()  # the casts of the input come last
    return half.model
