"""The demo's cameras: the same show each time, with the strangers where they were planted."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from farpoint.demo import cameras
from farpoint.demo.cameras import (
    REST_FRAMES,
    SHOW_FRAMES,
    SPLICE_FRAMES,
    WARM_FRAMES,
    DemoCamera,
    DemoShow,
)
from farpoint_models.images import decode_image

LIGHT = {"own": 60, "other": 200}


@pytest.fixture(autouse=True)
def plain_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put plain pictures in the place of the clips: dark ones, or light ones."""

    def load(name: str, max_frames: int = 250) -> list[Any]:
        return [np.full((48, 64, 3), LIGHT[name], np.uint8)] * min(5, max_frames)

    monkeypatch.setattr(cameras, "load_clip", load)


def test_strangers_come_late_and_where_they_should() -> None:
    """After the warm frames a few of the other clip, then its own, then the others again; every frame a picture."""
    shots = list(DemoCamera("own", ["other", "other"], seed=1).shots())
    assert [shot.index for shot in shots] == list(range(SHOW_FRAMES))
    second = WARM_FRAMES + SPLICE_FRAMES + REST_FRAMES
    planted = [shot.index for shot in shots if shot.planted]
    assert planted == [*range(WARM_FRAMES, WARM_FRAMES + SPLICE_FRAMES), *range(second, second + SPLICE_FRAMES)]
    for shot in shots[WARM_FRAMES - 2 :: 2]:
        assert bool(decode_image(shot.jpeg).mean() > 130) is shot.planted


def test_a_camera_without_strangers_shows_its_own() -> None:
    """Nothing is planted where nothing is named."""
    assert not any(shot.planted for shot in DemoCamera("own", [], seed=1).shots())


def test_no_two_frames_are_the_same_and_the_show_is() -> None:
    """A loop varies from pass to pass, and with the same seed is the same show."""
    first = [shot.jpeg for shot in DemoCamera("own", ["other"], seed=1).shots()]
    assert len(set(first)) == len(first)
    assert [shot.jpeg for shot in DemoCamera("own", ["other"], seed=1).shots()] == first
    assert next(DemoCamera("own", ["other"], seed=2).shots()).jpeg != first[0]


class NotedPublisher:
    """Notes what is published."""

    def __init__(self) -> None:
        self.pictures: list[Any] = []
        self.flushed = False

    def publish(self, picture: Any) -> None:
        """Note a picture."""
        self.pictures.append(picture)

    def flush(self) -> None:
        """Note the flush."""
        self.flushed = True


def small_cameras() -> list[Any]:
    """Return two cameras of three frames, the second one planted."""

    def shots() -> list[Any]:
        return [SimpleNamespace(index=index, jpeg=b"j", planted=index == 1) for index in range(3)]

    return [SimpleNamespace(source=f"camera-{name}", total=3, shots=shots) for name in "ab"]


def test_cameras_take_turns() -> None:
    """Everything is published in turn, with ids by which the planted ones are known."""
    publisher: Any = NotedPublisher()
    show = DemoShow(small_cameras(), lambda: True)
    show.run(publisher)
    assert [picture.id for picture in publisher.pictures] == [
        "camera-a/0", "camera-b/0", "camera-a/1", "camera-b/1", "camera-a/2", "camera-b/2",
    ]  # fmt: skip
    assert show.planted == {"camera-a/1", "camera-b/1"}
    assert show.published == show.total == 6
    assert publisher.flushed


def test_the_show_ends_when_there_is_no_room_for_ever() -> None:
    """Told to stop, it publishes no more."""
    publisher: Any = NotedPublisher()
    show = DemoShow(small_cameras(), lambda: len(publisher.pictures) < 3)
    show.run(publisher)
    assert show.published == 3
