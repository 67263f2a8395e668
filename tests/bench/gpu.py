"""The embed stage on a GPU: `make bench-gpu`. The tables of `bench-embed`, TensorRT, and JPEG decoding on the GPU."""

import sys
from collections.abc import Sequence

from farpoint_models.cuda import driver_version, problem_with_machine
from tests.bench.embed.pace import paced
from tests.bench.embed.plan import Plan, plan_for
from tests.bench.embed.report import report
from tests.bench.embed.rig import Rig
from tests.bench.harness import print_table
from tests.bench.pictures import jpegs


def tensorrt_table(plan: Plan) -> None:
    """Measure the TensorRT provider where its libraries are."""
    rows = []
    for device in ("cuda", "tensorrt"):
        try:
            rig = Rig(device, plan.seconds)
        except Exception as error:
            rows.append([device, f"not to be had: {error}", "-", "-"])
            continue
        rows.append([device, *(f"{rig.embedder_rate(batch):.0f}" for batch in (1, 8, 64))])
    print_table("TensorRT, our embedder alone, pictures a second", rows, ["device", "1", "8", "64"])


def gpu_decode_table(rig: Rig, plan: Plan) -> None:
    """Compare decoding on the GPU (nvImageCodec) with decoding on the CPU, to pixels of full size on the device."""
    try:
        from nvidia import nvimgcodec
    except ImportError:
        print("\nDecoding on the GPU: not measured, nvidia-nvimgcodec-cu13 is not installed")
        return
    decoder = nvimgcodec.Decoder()
    rows = []
    for size in plan.sizes:
        pictures = jpegs(*size)

        def step(pictures: Sequence[bytes] = pictures) -> int:
            decoder.decode(list(pictures))
            return len(pictures)

        rows.append([f"{size[0]}x{size[1]}", f"{rig.decode_rate(pictures)[0]:.0f}", f"{paced(step, plan.seconds):.0f}"])
    print_table(
        "JPEG decoding, pictures a second", rows, ["picture", f"CPU, {rig.threads} threads", "GPU, nvImageCodec"]
    )


def main() -> int:
    """Measure and print; 1 where there is no GPU."""
    problem = problem_with_machine()
    if problem is not None:
        print(f"bench-gpu needs a GPU: {problem}", file=sys.stderr)
        return 1
    print(f"NVIDIA driver {driver_version()}")
    plan = plan_for("cuda", sys.argv[1:])
    report("cuda", plan)
    tensorrt_table(plan)
    gpu_decode_table(Rig("cuda", plan.seconds), plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
