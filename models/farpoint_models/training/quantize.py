"""int8 from fp32: static quantisation with ranges taken from real pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

METHOD: Final = (
    "static QDQ: int8 weights per output channel, 7 bits used; uint8 activations, range from the least to the greatest"
)
"""What `quantize` does, for the card.

Seven bits: without VNNI the multiply of x86 adds two products in 16 bits and saturates on eight, silently; so the model
computes the same on every machine.
"""

_BATCH: Final = 16


class _Batches(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    def __init__(self, name: str, pictures: Sequence[NDArray[np.float32]]) -> None:
        self._batches: Iterator[dict[str, Any]] = iter(
            [{name: np.stack(pictures[i : i + _BATCH])} for i in range(0, len(pictures), _BATCH)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def quantize(
    model: onnx.ModelProto, pictures: Sequence[NDArray[np.float32]], *, input_scale: float, input_zero_point: int
) -> onnx.ModelProto:
    """Quantise a float graph.

    Parameters
    ----------
    model
        Takes float32 (N, 3, H, W), normalised; its batch axis is open.
    pictures
        Real ones, float32, (3, H, W), normalised as the graph expects.
    input_scale, input_zero_point
        How uint8 pixels become the graph's input, `(pixel - zero_point) * scale`: its first quantisation then gives the
        pixels back exactly.

    Returns
    -------
    onnx.ModelProto
        Same inputs and outputs, QDQ nodes in between.
    """
    name = model.graph.input[0].name
    exact = {"scale": np.asarray(input_scale, np.float32), "zero_point": np.asarray(input_zero_point, np.uint8)}
    own = onnx.ModelProto()
    own.CopyFrom(model)  # the quantiser moves the weights of what it is given into a temporary file
    with TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            own,
            target,
            _Batches(name, pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # The mean over the last feature map stays in float: it is cheap and is the answer.
            op_types_to_quantize=["Conv", "Clip", "Add"],
            extra_options={"TensorQuantOverrides": {name: [exact]}},
        )
        return onnx.load(target)
