"""Health: is the process alive, and may it be relied on. `/livez`, `/readyz` and `/metrics` on one port."""

from collections.abc import Callable
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
        app = web.Application()
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
        _log.info("health and metrics", host=self._settings.host, port=self.port)

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _livez(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._live())

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._ready())

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


def _answer(checks: list[Check]) -> web.Response:
    ok = all(check.ok for check in checks)
    return web.json_response([asdict(check) for check in checks], status=200 if ok else 503)
