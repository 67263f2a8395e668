"""The errors of the service, by what the process does about them.

`FarpointError` and `SettingsError` end a command with one clear line (exit 1 and 2). What a *record* did wrong is no
error of the process: see `farpoint_models.errors.InvalidRecord`. Anything else is a bug or a broken machine: it ends
the process with its stack trace, and Kafka redelivers.
"""


class FarpointError(Exception):
    """Something failed that a person can mend; the message says what, where, and what to do."""


class SettingsError(FarpointError):
    """A setting is unknown or has a bad value; the message names it."""
