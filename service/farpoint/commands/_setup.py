"""What every command does first."""

import logging

from farpoint.log import configure_logging
from farpoint.settings import Settings, load_settings


def settings_and_log() -> Settings:
    """Read the settings and send the log to stderr as they say; a bad setting ends the command with exit 2."""
    settings = load_settings()
    configure_logging(settings.log)
    if settings.log.level != "debug":
        # kafka-python tells of each attempt to connect; what fails in the end is the command's one line.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return settings
