"""The short cut of the fuzzing; `make fuzz` is the full one."""

import pytest

from tests.fuzz.run import attack
from tests.fuzz.targets import targets

COUNT = 400


@pytest.mark.parametrize("target", list(targets()))
def test_hostile_bytes_are_answered(target: str) -> None:
    """Whatever comes in by a door is taken, or refused with a clear reason: no crash, no hang, no swelling."""
    report = attack(target, seed=7, count=COUNT)
    assert report.problems == {}
    assert report.taken < COUNT
