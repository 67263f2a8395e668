"""Addresses of streams: which are taken, and how they are shown."""

import re

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp")

_SECRETS = re.compile(r"(?i)(user|usr|login|pass|pwd|token|key|secret|auth)[^=/]*=[^/]*")


def without_credentials(address: str) -> str:
    """Return a stream's address as it may be shown: no user, no password, no query (cameras take passwords there).

    >>> without_credentials("rtsp://admin:p@ss/w0rd@10.0.0.7:554/hall?token=abc")
    'rtsp://10.0.0.7:554/hall'
    """
    scheme, separator, rest = address.partition("://")
    before_query = re.split(r"[?#]", rest, maxsplit=1)[0]
    # A password typed as it is may hold any of @ / ? #: whatever stands before the last @ is taken for credentials.
    # Only behind a path is a query surely one, whose @ says nothing.
    if "@" in before_query or ("@" in rest and "/" not in before_query):
        rest = rest.rpartition("@")[2]
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return scheme + separator + _SECRETS.sub("***", rest)
