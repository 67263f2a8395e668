"""The demo's cameras: real clips, looped with the variation of a real camera, a few foreign frames in each."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from farpoint.demo.clips import CLIPS, load_clip, vary_jpeg
from farpoint.publishing.publisher import Picture, Publisher
from farpoint.publishing.video import BgrPicture

WARM_FRAMES = 640
"""Frames of its own that a camera shows first: enough for its detector to know what is normal."""
SPLICE_FRAMES = 4
"""Foreign frames in a row."""
REST_FRAMES = 60
"""Frames of its own behind each place where foreign ones may be."""
SPLICES = 2
SHOW_FRAMES = WARM_FRAMES + SPLICES * (SPLICE_FRAMES + REST_FRAMES)
# The one that stands still, as a camera that watches something does. The others' cameras move and cut: what is rare
# there is normal, and a stranger is hardly rarer (docs/detector.md).
PLANTED_IN = "carphone"


@dataclass(frozen=True)
class Shot:
    """One frame of a camera."""

    index: int
    jpeg: bytes
    planted: bool


class DemoCamera:
    """A camera that shows one clip over and over and, at known places, a few frames of others.

    Parameters
    ----------
    clip
        What it shows.
    foreign
        The clips that planted frames come from, at most `SPLICES`, a splice each.
    seed
        Of the variation.
    """

    def __init__(self, clip: str, foreign: Sequence[str], seed: int) -> None:
        self.source = f"camera-{clip}"
        self.total = SHOW_FRAMES
        self._frames = load_clip(clip)
        self._planted: dict[int, BgrPicture] = {}
        for number, name in enumerate(foreign):
            place = WARM_FRAMES + number * (SPLICE_FRAMES + REST_FRAMES)
            self._planted |= dict(enumerate(load_clip(name, max_frames=60)[-SPLICE_FRAMES:], start=place))
        self._rng = np.random.default_rng(seed)

    def shots(self) -> Iterator[Shot]:
        """Show `total` frames, each a little different from the last time."""
        own = itertools.cycle(self._frames)
        for index in range(self.total):
            planted = index in self._planted
            picture = self._planted[index] if planted else next(own)
            yield Shot(index, vary_jpeg(picture, self._rng), planted)


def demo_cameras() -> list[DemoCamera]:
    """Return a camera for each clip; one of them has strangers, from both others."""
    return [
        DemoCamera(name, [other for other in CLIPS if other != name] if name == PLANTED_IN else [], seed=number)
        for number, name in enumerate(CLIPS)
    ]


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
