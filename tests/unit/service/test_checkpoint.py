"""Checkpoints: what is written comes back, what is damaged is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farpoint.checkpoint import VERSION, Checkpoint, CheckpointError, ClusterNote, read_checkpoint, write_checkpoint

NOTE = ClusterNote(17, 4021, "2026-01-01T00:00:00.000Z", "cam-1", ["a", "b"], 0.25)


def a_checkpoint() -> Checkpoint:
    """Make a checkpoint with every field filled."""
    return Checkpoint("shared", 3, "m@1", 78, {"vision.frames.v1/3": 1042}, [NOTE], b"\x00\xff")


def test_a_checkpoint_comes_back() -> None:
    """Every field survives the way through bytes."""
    assert read_checkpoint(write_checkpoint(a_checkpoint())) == a_checkpoint()


@pytest.mark.parametrize("version", [VERSION - 1, 99])
def test_another_version_is_refused(version: int) -> None:
    """A checkpoint of another version, older or newer, is not guessed at, whatever else it has."""
    value = msgspec.msgpack.encode({"version": version, "shape": "unknown"})
    with pytest.raises(CheckpointError, match=f"version {version};"):
        read_checkpoint(value)


def test_a_cut_checkpoint_is_refused() -> None:
    """No prefix of a checkpoint passes for one: forgetting what is normal must not go unnoticed."""
    whole = write_checkpoint(a_checkpoint())
    for end in range(len(whole)):
        with pytest.raises(CheckpointError):
            read_checkpoint(whole[:end])


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    """Whatever lies in the topic, the error is one that says so."""
    try:
        read_checkpoint(value)
    except CheckpointError:
        return
