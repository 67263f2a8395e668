"""What one record can do wrong: a closed list, one dead letter each."""

from enum import StrEnum


class InvalidReason(StrEnum):
    """Why a record became a dead letter; the value travels as the header `dlq.reason` and as a metric label."""

    EMPTY_VALUE = "empty_value"
    UNSUPPORTED_CONTENT_TYPE = "unsupported_content_type"
    INVALID_KEY = "invalid_key"
    INVALID_HEADER = "invalid_header"
    # pictures
    UNKNOWN_IMAGE_FORMAT = "unknown_image_format"
    IMAGE_TOO_LARGE = "image_too_large"
    CORRUPT_IMAGE = "corrupt_image"
    # vectors
    MALFORMED_PAYLOAD = "malformed_payload"
    SCHEMA_MISMATCH = "schema_mismatch"
    ITEM_COUNT_MISMATCH = "item_count_mismatch"
    DIMENSION_MISMATCH = "dimension_mismatch"
    MODEL_MISMATCH = "model_mismatch"
    NON_FINITE_VECTOR = "non_finite_vector"
    ZERO_VECTOR = "zero_vector"


class InvalidRecord(ValueError):  # noqa: N818 -- the noun of the domain, as on the wire and in the metrics
    """One record cannot be processed, whatever we do; it becomes one dead letter and its neighbours go on.

    Parameters
    ----------
    reason
        One of the closed list.
    message
        One line for people: what was found, and what was expected.

    Examples
    --------
    >>> raise InvalidRecord(InvalidReason.EMPTY_VALUE, "the record has no value")
    Traceback (most recent call last):
    ...
    farpoint_models.errors.InvalidRecord: empty_value: the record has no value
    """

    def __init__(self, reason: InvalidReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
