"""When bad records stop being single ones."""

import pytest
from tests.unit.service.stage_kit import NAMES, record

from farpoint.bad_records import BadRecords
from farpoint.errors import FarpointError
from farpoint.records import DeadLetter
from farpoint.settings import DeadLettersSettings
from farpoint_models.errors import InvalidReason, InvalidRecord

BAD = InvalidRecord(InvalidReason.CORRUPT_IMAGE, "cannot be decoded")


def feed(watcher: BadRecords, pattern: str, first: int = 0) -> None:
    """Let a batch in: `x` is a bad record, `.` a good one."""
    records = [record(NAMES.frames, first + index, b"") for index in range(len(pattern))]
    watcher.watch(records, [DeadLetter(one, BAD) for one, sign in zip(records, pattern, strict=True) if sign == "x"])


def test_bad_records_in_a_row() -> None:
    """The limit counts over batches, in a row only: a good record between begins the count anew."""
    watcher = BadRecords(DeadLettersSettings(max_in_a_row=3))
    feed(watcher, "xx")
    feed(watcher, ".xx")
    with pytest.raises(
        FarpointError,
        match=r"3 bad records in a row \(corrupt_image\), the last at vision.frames.v1/0/5:.*MAX_IN_A_ROW",
    ):
        feed(watcher, "x", first=5)


def test_share_of_bad_records() -> None:
    """More than the share among the last records stops, however they are mixed; before so many came, nothing does."""
    limits = DeadLettersSettings(max_in_a_row=100, max_share=0.5, share_of_records=8)
    watcher = BadRecords(limits)
    feed(watcher, "xxxx")  # too few to speak of a share
    feed(watcher, "....")
    feed(watcher, ".x.x.x.x.x")  # half of the last eight, never more
    with pytest.raises(FarpointError, match=r"5 bad records among the last 8 \(corrupt_image\).*MAX_SHARE"):
        feed(watcher, "xx")
