"""Table: memory over many frames."""

import asyncio
from itertools import cycle, islice

import numpy as np
import psutil

from farpoint.embed_stage import EmbedStage
from farpoint.metrics import Metrics
from farpoint.records import IncomingRecord
from farpoint.topics import TopicNames
from farpoint.wire import RecordRef
from tests.bench.embed.plan import Plan
from tests.bench.embed.rig import Rig, Sink
from tests.bench.harness import print_table
from tests.bench.pictures import jpegs


def memory_table(rig: Rig, plan: Plan) -> None:
    """Embed frames of mixed sizes, and note the memory of the process on the way."""
    frames = plan.memory_frames
    rng = np.random.default_rng(0)
    sizes = [(int(rng.integers(160, 1600)), int(rng.integers(120, 1200))) for _ in range(48)]
    pictures = [jpegs(width, height, 1)[0] for width, height in sizes]
    process = psutil.Process()
    marks = [process.memory_info().rss / 2**20]
    counts = [0]

    async def run() -> None:
        names = TopicNames("bench")
        stage = EmbedStage(rig.embedder, rig.threads, rig.settings, Sink(), Metrics(names, ["embed"]))
        running = asyncio.create_task(stage.run())
        for offset, data in enumerate(islice(cycle(pictures), frames)):
            await stage.put(IncomingRecord(RecordRef(names.frames, 0, offset, 0), b"cam", data, ()))
            if offset + 1 in (frames // 10, frames // 4, frames // 2, frames):
                await stage.flush()
                marks.append(process.memory_info().rss / 2**20)
                counts.append(offset + 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    print_table(
        "Memory over frames of mixed sizes, MiB",
        [[f"{mark:.0f}" for mark in marks]],
        [f"{count:,} frames" for count in counts],
    )
