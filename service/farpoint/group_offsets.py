"""What a consumer group has committed, asked for by an outsider."""

import time

from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from farpoint.kafka_clients import admin, kafka_errors
from farpoint.records import Positions
from farpoint.settings import KafkaSettings

# A cluster makes its offsets topic when the first group asks for it.
_COORDINATOR_SECONDS = 30.0


def committed_offsets(settings: KafkaSettings, group: str) -> Positions:
    """Return the offsets that a group has committed, by topic and partition; empty where it never did; blocking."""
    deadline = time.monotonic() + _COORDINATOR_SECONDS
    with kafka_errors(settings), admin(settings) as client:
        while True:
            try:
                offsets = client.list_group_offsets({group: None})[group]
                break
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    return {(part.topic, part.partition): at.offset for part, at in offsets.items() if at.offset >= 0}
