"""Bad records without end: when they stop being single records and become an outage."""

from collections import deque
from collections.abc import Sequence

from farpoint.errors import FarpointError
from farpoint.records import DeadLetter, IncomingRecord
from farpoint.settings import DeadLettersSettings


class BadRecords:
    """Counts bad records among those that a stage takes in.

    One bad record is a dead letter. So many in a row, or so large a share, mean that the model, a publisher or we are
    wrong, not the records: going on would empty a topic into its dead letters.

    Parameters
    ----------
    limits
        How many, and what share.

    Examples
    --------
    >>> from farpoint.wire import RecordRef
    >>> from farpoint_models.errors import InvalidReason, InvalidRecord
    >>> bad = IncomingRecord(RecordRef("t", 0, 7, 0), None, b"", ())
    >>> watcher = BadRecords(DeadLettersSettings(max_in_a_row=2))
    >>> letter = DeadLetter(bad, InvalidRecord(InvalidReason.EMPTY_VALUE, "no value"))
    >>> watcher.watch([bad], [letter])
    >>> watcher.watch([bad], [letter])
    Traceback (most recent call last):
        ...
    farpoint.errors.FarpointError: 2 bad records in a row (empty_value), the last at t/0/7: ...
    """

    def __init__(self, limits: DeadLettersSettings) -> None:
        self._limits = limits
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=limits.share_of_records)
        self._bad = 0

    def watch(self, records: Sequence[IncomingRecord], letters: Sequence[DeadLetter]) -> None:
        """Count a batch, before anything of it is delivered.

        Raises
        ------
        FarpointError
            A limit is passed; the process must end with nothing of the batch marked as done.
        """
        bad = {letter.record.ref.place for letter in letters}
        limits = self._limits
        for record in records:
            is_bad = record.ref.place in bad
            self._in_a_row = self._in_a_row + 1 if is_bad else 0
            if len(self._last) == limits.share_of_records:
                self._bad -= self._last[0]
            self._last.append(is_bad)
            self._bad += is_bad
            what = ""
            if self._in_a_row >= limits.max_in_a_row:
                what, setting = f"{self._in_a_row} bad records in a row", "MAX_IN_A_ROW"
            elif len(self._last) == limits.share_of_records and self._bad > limits.max_share * len(self._last):
                what, setting = f"{self._bad} bad records among the last {len(self._last)}", "MAX_SHARE"
            if what:
                reasons = ", ".join(sorted({str(letter.error.reason) for letter in letters}))
                place = "/".join(str(part) for part in record.ref.place)
                raise FarpointError(
                    f"{what} ({reasons}), the last at {place}: stopped, nothing of this batch is marked as done. Mend "
                    f"what publishes them, or raise FARPOINT_DEAD_LETTERS__{setting} to let them pass"
                )
