"""How much is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

FRAME = (800, 600)
"""The picture of about 50 kB that goes through Kafka."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long.

    Parameters
    ----------
    sizes
        Of pictures, `FRAME` among them.
    batches
        Sizes of batches.
    loads
        Shares of the throughput at which latency is measured.
    seconds
        Of a round.
    rounds
        Of which the best counts.
    memory_frames
        Frames of mixed sizes over which memory is watched.
    kafka_frames
        Frames that go through Kafka for the throughput.
    """

    memory_frames: int
    kafka_frames: int
    sizes: Sequence[tuple[int, int]] = ((320, 240), FRAME, (1920, 1080))
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    loads: Sequence[float] = (0.25, 0.5, 0.9)
    seconds: float = 0.7
    rounds: int = 5


def plan_for(device: str, arguments: Sequence[str]) -> Plan:
    """Read `--quick` and `--frames=N` from a command line."""
    memory = next((int(argument[9:]) for argument in arguments if argument.startswith("--frames=")), 2000)
    if "--quick" in arguments:
        return Plan(
            memory, 2000 if device == "cpu" else 20_000, sizes=(FRAME,), batches=(1, 4, 32), loads=(0.5,), seconds=0.5,
            rounds=1,
        )  # fmt: skip
    return Plan(memory, 6000 if device == "cpu" else 20_000)
