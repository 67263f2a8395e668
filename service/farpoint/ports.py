"""TCP ports of this machine: whether one can be had, and finding some that can."""

import errno
import random
import socket
from collections.abc import Collection

from farpoint.errors import FarpointError

# Below what systems hand out to outgoing connections (32768 and up): such a one might take a port before we use it.
_SEARCHED = range(20_000, 32_000)
_ATTEMPTS = 200


def check_free(host: str, port: int) -> None:
    """Raise FarpointError, saying what to do, unless a server can listen on host and port now."""
    try:
        _listen(host, port)
    except socket.gaierror:
        raise FarpointError(f"{host} is not a name or address that this machine knows: see --host") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"port {port} of {host} is taken: stop what listens there, or choose another with --port"
        elif error.errno == errno.EACCES:
            what = f"port {port} is reserved to the administrator: choose one above 1023 with --port"
        elif error.errno == errno.EADDRNOTAVAIL:
            what = f"{host} is not an address of this machine: see --host"
        else:
            what = f"cannot listen on port {port} of {host}: {error.strerror}"
        raise FarpointError(what) from None


def free_ports(count: int, host: str = "127.0.0.1", avoid: Collection[int] = ()) -> range:
    """Return that many free ports in a row; they stay free only by luck, so use them soon."""
    for _ in range(_ATTEMPTS):
        first = random.randrange(_SEARCHED.start, _SEARCHED.stop - count)  # noqa: S311 -- no secret
        ports = range(first, first + count)
        if any(port in avoid for port in ports):
            continue
        try:
            for port in ports:
                _listen(host, port)
        except OSError:
            continue
        return ports
    raise FarpointError(f"found no {count} free ports in a row between {_SEARCHED.start} and {_SEARCHED.stop}")


def accepts(host: str, port: int) -> bool:
    """Return whether somebody listens on host and port."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _listen(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as server:
        # As Java does: connections of a former server that are still closing are no obstacle.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(1)
