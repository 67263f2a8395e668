"""All tables, one after another."""

from farpoint.malloc import bound_malloc
from farpoint_models.images import limit_cv2_threads
from tests.bench.embed.batches import batch_table
from tests.bench.embed.kafka import kafka_tables
from tests.bench.embed.memory import memory_table
from tests.bench.embed.plan import Plan
from tests.bench.embed.precisions import precision_table
from tests.bench.embed.processes import gil_table
from tests.bench.embed.providers import providers_table
from tests.bench.embed.rig import Rig
from tests.bench.embed.stage import stage_table
from tests.bench.embed.waiting import waiting_table
from tests.bench.harness import machine


def report(device: str, plan: Plan) -> None:
    """Measure and print."""
    bound_malloc()  # as the worker does
    limit_cv2_threads()
    print(machine(), flush=True)
    rig = Rig(device, plan.seconds)
    print(f"{rig.embedder.model_id}, {rig.embedder.provider.note}; {rig.embedder.provider.placement}", flush=True)
    stage_table(rig, plan)
    batch_table(rig, plan)
    precision_table(device, plan)
    gil_table(rig)
    if device == "cpu":
        waiting_table(rig)
        providers_table(rig)
    memory_table(rig, plan)
    kafka_tables(rig, plan)
