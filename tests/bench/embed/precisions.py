"""Table: fp32, fp16 and int8."""

from farpoint.errors import FarpointError
from farpoint_models.instructions import int8_instructions
from tests.bench.embed.plan import Plan
from tests.bench.embed.rig import Rig
from tests.bench.harness import print_table


def precision_table(device: str, plan: Plan) -> None:
    """Measure the precisions, and what the processor is made for."""
    rows = []
    for precision in ("fp32", "fp16", "int8"):
        try:
            rig = Rig(device, plan.seconds, precision=precision)
        except FarpointError as error:  # a GPU has no kernels for some
            rows.append([precision, str(error)[:100], "-", "-"])
            continue
        rows.append([precision, *(f"{rig.embedder_rate(batch, 1.0):.0f}" for batch in (1, 4, 32))])
    instructions = f"int8 instructions: {int8_instructions() or 'none known'}"
    print_table(f"Precisions, our embedder alone ({instructions})", rows, ["precision", "1", "4", "32"])
