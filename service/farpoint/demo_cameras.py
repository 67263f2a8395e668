"""The demo's cameras: real clips, looped with the variation of a real camera, a few foreign frames in each."""

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from farpoint.demo_clips import CLIPS, load_clip, vary_jpeg
from farpoint.publisher import Picture, Publisher

WARM_FRAMES = 640
"""Frames of its own that a camera shows first: enough for its detector to know what is normal."""
SPLICE_FRAMES = 4
TAIL_FRAMES = 120


@dataclass(frozen=True)
class Shot:
    """One frame of a camera."""

    index: int
    jpeg: bytes
    planted: bool


class DemoCamera:
    """A camera that shows one clip over and over, and once, at a known place, a few frames of another.

    Parameters
    ----------
    clip
        What it shows.
    foreign
        The clip that the planted frames come from.
    seed
        Of the variation.
    """

    def __init__(self, clip: str, foreign: str, seed: int) -> None:
        self.source = f"camera-{clip}"
        self._frames = load_clip(clip)
        self._foreign = load_clip(foreign, max_frames=60)[-SPLICE_FRAMES:]
        self._rng = np.random.default_rng(seed)

    @property
    def total(self) -> int:
        """How many frames it will show."""
        return WARM_FRAMES + SPLICE_FRAMES + TAIL_FRAMES

    def shots(self) -> Iterator[Shot]:
        """Show the frames, each a little different from the last time."""
        own = itertools.cycle(self._frames)
        for index in range(self.total):
            place = index - WARM_FRAMES
            planted = 0 <= place < SPLICE_FRAMES
            picture = self._foreign[place] if planted else next(own)
            yield Shot(index, vary_jpeg(picture, self._rng), planted)


def demo_cameras() -> list[DemoCamera]:
    """Return a camera for each clip; its planted frames come from the next one."""
    names = list(CLIPS)
    return [DemoCamera(name, names[(number + 1) % len(names)], seed=number) for number, name in enumerate(names)]


class DemoShow:
    """Publishes what the cameras show, in turn, and remembers what was planted.

    Parameters
    ----------
    cameras
        They take turns, a frame each.
    may_publish
        Waits until there is room for one more frame, or returns False to end the show.
    """

    def __init__(self, cameras: list[DemoCamera], may_publish: Callable[[], bool]) -> None:
        self._cameras = cameras
        self._may_publish = may_publish
        self.total = sum(camera.total for camera in cameras)
        self.published = 0
        self.planted: set[str] = set()
        self.lock = threading.Lock()

    def run(self, publisher: Publisher) -> None:
        """Publish everything; returns when the broker has it all."""
        for turn in zip(*(camera.shots() for camera in self._cameras), strict=True):
            for camera, shot in zip(self._cameras, turn, strict=True):
                if not self._may_publish():
                    return
                item = f"{camera.source}/{shot.index}"
                if shot.planted:
                    with self.lock:
                        self.planted.add(item)
                publisher.publish(
                    Picture(shot.jpeg, source=camera.source, id=item, frame_index=shot.index, subject=item)
                )
                self.published += 1
        publisher.flush()
