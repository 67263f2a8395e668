"""Table: what the pipeline itself loses, beside a device that leaves the cores alone, as a GPU does."""

import time
from typing import Any

import numpy as np

from farpoint_models.embedder import Embeddings, OnnxEmbedder
from farpoint_models.images import ImageBatch
from tests.bench.embed.plan import FRAME
from tests.bench.embed.rig import Rig
from tests.bench.harness import print_table
from tests.bench.pictures import jpegs

_SPEEDS = (0.5, 0.8, 1.0, 3.0)


class _Waiting:
    """An embedder that sleeps for as long as its device would compute."""

    def __init__(self, like: OnnxEmbedder, per_second: float) -> None:
        self._like = like
        self._per_second = per_second

    def __getattr__(self, name: str) -> Any:
        return getattr(self._like, name)

    def embed(self, batch: ImageBatch) -> Embeddings:
        time.sleep(len(batch) / self._per_second)
        return np.zeros((len(batch), self._like.card.dimension), np.float32)


def waiting_table(rig: Rig) -> None:
    """Run the stage with devices slower than decoding, as fast, and faster."""
    pictures = jpegs(*FRAME)
    embedder, rows = rig.embedder, []
    try:
        for speed in _SPEEDS:
            decode, _ = rig.decode_rate(pictures)
            both, _ = rig.decode_rate(pictures, thumbnails=True)
            device = decode * speed
            rig.embedder = _Waiting(embedder, device)  # type: ignore[assignment]
            stage = rig.stage_rate(pictures, 3.0)
            rows.append(
                [
                    f"{decode:.0f}", f"{both:.0f}", f"{device:.0f}", f"{stage:.0f}",
                    f"{stage / min(decode, device):.0%}", f"{stage / min(both, device):.0%}",
                ]
            )  # fmt: skip
    finally:
        rig.embedder = embedder
    print_table(
        "Stage without Kafka, beside a device that only sleeps",
        rows,
        [
            "decode only", "with thumbnails", "device", "stage", "stage / slower of decode and device",
            "/ slower of decode with thumbnails and device",
        ],
    )  # fmt: skip
