"""Table: the execution providers that are installed."""

import onnxruntime

from farpoint_models.card import load_model_file
from tests.bench.embed.rig import Rig
from tests.bench.harness import print_table


def providers_table(rig: Rig) -> None:
    """Measure the other execution providers that the installed ONNX Runtime has."""
    others = [
        name
        for name in onnxruntime.get_available_providers()
        if name in {"OpenVINOExecutionProvider", "XnnpackExecutionProvider", "DnnlExecutionProvider"}
    ]
    rows = []
    for precision in ("fp32", "int8"):
        model = load_model_file(rig.settings.embedder.model, rig.card.files[precision])
        for name in [*others, "CPUExecutionProvider"]:
            wanted = list(dict.fromkeys([name, "CPUExecutionProvider"]))
            session = onnxruntime.InferenceSession(model, providers=wanted)
            rate = [rig.inference_rate((session, session.get_inputs()[0].name), batch, 1.0) for batch in (1, 4, 32)]
            rows.append([precision, session.get_providers()[0], *(f"{each:.0f}" for each in rate)])
    print_table("Execution providers, bare", rows, ["precision", "provider", "1", "4", "32"])
