"""Health: is the process alive, and may it be relied on. `/livez`, `/readyz` and `/metrics` on one port.

Probes cannot keep secrets, so health is open; everything else asks for the token, where one is set.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from farpoint.errors import FarpointError
from farpoint.settings import HttpSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    ok: bool
    detail: str


Checks = Callable[[], list[Check]]

# No browser may take what we say for a page, whatever is in it.
_PLAIN = {"X-Content-Type-Options": "nosniff"}
_OPEN = ("/livez", "/readyz")


class HealthServer:
    """The HTTP side of a worker.

    Parameters
    ----------
    settings
        Where to listen.
    live
        What `/livez` asks; never the broker, or every worker would be restarted when the broker is away.
    ready
        What `/readyz` asks.
    registry
        What `/metrics` shows.
    """

    def __init__(self, settings: HttpSettings, live: Checks, ready: Checks, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._live = live
        self._ready = ready
        self._registry = registry
        self._token = settings.token.get_secret_value().encode() if settings.token else None
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        self.port = settings.port

    async def start(self) -> None:
        """Listen; raises FarpointError where the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        except OSError as error:
            raise FarpointError(
                f"cannot listen on {self._settings.host}:{self._settings.port}: {error.strerror}; "
                "set FARPOINT_HTTP__PORT to another port"
            ) from None
        self.port = self._runner.addresses[0][1]
        _log.info(
            "health and metrics", host=self._settings.host, port=self.port, asks_for_token=self._token is not None
        )

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        # Before the address is looked at: who has no token does not learn what there is.
        if self._token is not None and request.path not in _OPEN:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            # In constant time, or the answer's delay would tell how much of a guess was right.
            right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
            if scheme.lower() != "bearer" or not right:
                return web.json_response(
                    {"error": "this needs the token"}, status=401, headers={"WWW-Authenticate": "Bearer"} | _PLAIN
                )
        return await handler(request)

    async def _livez(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._live())

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._ready())

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type} | _PLAIN)


def _answer(checks: list[Check]) -> web.Response:
    ok = all(check.ok for check in checks)
    return web.json_response([asdict(check) for check in checks], status=200 if ok else 503, headers=_PLAIN)
