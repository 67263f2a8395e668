"""Table: sizes of batches."""

from tests.bench.embed.plan import FRAME, Plan
from tests.bench.embed.rig import Rig
from tests.bench.harness import print_table
from tests.bench.pictures import jpegs


def batch_table(rig: Rig, plan: Plan) -> None:
    """Measure batch sizes."""
    session = rig.bare_session()
    pictures = jpegs(*FRAME)
    rows = [
        [
            batch,
            f"{rig.inference_rate(session, batch, 0.6):.0f}",
            f"{rig.embedder_rate(batch, 0.6):.0f}",
            f"{rig.stage_rate(pictures, 0.8, batch):.0f}",
        ]
        for batch in plan.batches
    ]
    print_table(
        "Batch sizes, pictures a second",
        rows,
        ["batch", "bare ONNX Runtime", "our embedder alone", "stage, MAX_BATCH so large"],
    )
