"""Table: the stage without Kafka, against the bound of decoding and inference."""

from statistics import median

from tests.bench.embed.plan import Plan
from tests.bench.embed.rig import Rig
from tests.bench.embed.utilisation import utilisation
from tests.bench.harness import print_table
from tests.bench.pictures import jpegs


def stage_table(rig: Rig, plan: Plan) -> None:
    """Measure decode, inference, their bound and the stage, in turn, for each size of picture."""
    rates, costs = [], []
    session = rig.bare_session()
    batch = rig.settings.embedder.max_batch
    for size in plan.sizes:
        pictures = jpegs(*size)
        shown = f"{size[0]}x{size[1]}, {sum(map(len, pictures)) / len(pictures) / 1000:.0f} kB"
        decodes, thumbs, bares, infers, stages = [], [], [], [], []
        with utilisation() as noted:
            for _ in range(plan.rounds):
                decodes.append(rig.decode_rate(pictures))
                thumbs.append(rig.decode_rate(pictures, thumbnails=True))
                bares.append(rig.inference_rate(session, batch))
                infers.append(rig.embedder_cost(batch))
                noted.clear()
                stages.append(rig.stage_cost(pictures))
        decode, bare, stage = max(decodes)[0], max(bares), max(stages)[0]
        # The second bound is that of the best way to run the model, which may be ours.
        infer = max(max(infers)[0], bare)
        bounds = [rig.bound(decode, bare), rig.bound(decode, infer)]
        gpu = f"{median(noted):.0f} %" if noted else "-"
        rates.append(
            [
                shown, f"{decode:.0f}", f"{bare:.0f}", f"{infer:.0f}", *(f"{bound:.0f}" for bound in bounds),
                f"{stage:.0f}", *(f"{stage / bound:.0%}" for bound in bounds), gpu,
            ]
        )  # fmt: skip
        cost = [median(each[1] for each in part) for part in (decodes, infers, thumbs, stages)]
        idle = min(each[2] for each in stages)
        costs.append(
            [
                shown, f"{cost[0]:.2f}", f"{cost[2] - cost[0]:.2f}", f"{cost[1]:.2f}", f"{cost[3]:.2f}",
                f"{(cost[0] + cost[1]) / cost[3]:.0%}", f"{(cost[2] + cost[1]) / cost[3]:.0%}", f"{idle:.0%}",
            ]
        )  # fmt: skip
    print_table(
        f"Stage without Kafka, batches of {batch}, {rig.embedder.file.file} on {rig.embedder.provider.name}, a second",
        rates,
        [
            "picture", "decode only", f"bare inference, {batch}", "inference, best", "bare bound of both", "best bound",
            "stage", "stage / bare bound", "/ best bound", "GPU busy",
        ],
    )  # fmt: skip
    print_table(
        "The same in milliseconds of processor time a frame",
        costs,
        [
            "picture", "decode", "thumbnail", "inference", "stage", "(decode + inference) / stage", "with thumbnail",
            "cores idle",
        ],
    )  # fmt: skip
