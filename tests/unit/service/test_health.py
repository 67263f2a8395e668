"""Health over HTTP: 503 as long as anything does not hold, each check by name."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from pydantic import SecretStr
from tests.unit.service.stage_kit import NAMES

from farpoint.errors import FarpointError
from farpoint.health import Check, HealthServer
from farpoint.metrics import Metrics
from farpoint.settings import HttpSettings

GOOD = Check("model", True, "there")
BAD = Check("partitions.embed", False, "waiting for the group")


@asynccontextmanager
async def serving(live: list[Check], ready: list[Check], token: str | None = None) -> AsyncIterator[str]:
    """Serve these checks; gives the address."""
    settings = HttpSettings(port=0, token=None if token is None else SecretStr(token))
    server = HealthServer(settings, lambda: live, lambda: ready, Metrics(NAMES, ["detect"]).registry)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def ask(url: str, **headers: str) -> tuple[int, str, str]:
    """Return status, content type and body."""
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_ready_only_when_all_holds() -> None:
    """One check that does not hold makes it 503, with every check and its reason in the answer."""
    ready = [GOOD, BAD]
    async with serving([GOOD], ready) as address:
        status, content_type, body = await ask(f"{address}/readyz")
        assert status == 503
        assert content_type.startswith("application/json")
        assert json.loads(body) == [
            {"name": "model", "ok": True, "detail": "there"},
            {"name": "partitions.embed", "ok": False, "detail": "waiting for the group"},
        ]
        ready.remove(BAD)
        assert (await ask(f"{address}/readyz"))[0] == 200
        ready.append(BAD)
        assert (await ask(f"{address}/readyz"))[0] == 503


async def test_alive_though_not_ready() -> None:
    """Liveness asks its own checks: a worker that waits for the group is not restarted."""
    async with serving([GOOD], [BAD]) as address:
        assert (await ask(f"{address}/livez"))[0] == 200
    async with serving([Check("stages", False, "stuck: detect")], [GOOD]) as address:
        status, _, body = await ask(f"{address}/livez")
        assert status == 503
        assert "stuck: detect" in body


async def test_metrics_in_the_format_that_is_asked_for() -> None:
    """Prometheus' text by default, OpenMetrics for whoever accepts it."""
    async with serving([GOOD], [GOOD]) as address:
        status, content_type, body = await ask(f"{address}/metrics")
        assert status == 200
        assert content_type.startswith("text/plain; version=")
        assert "# TYPE farpoint_vectors_assigned_total counter" in body
        _, content_type, body = await ask(f"{address}/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        assert body.endswith("# EOF\n")


@pytest.mark.parametrize("token", ["hunter2", "gr\u00fcezi"])
async def test_all_but_health_asks_for_the_token(token: str) -> None:
    """Without the right token 401, also for what does not exist; with it the metrics; health is open to probes."""
    async with serving([GOOD], [GOOD], token) as address:
        for wrong in ("", "Bearer", "Bearer wrong", f"Basic {token}", f"Bearer {token}x", f"Bearer {token[:-1]}"):
            for path in ("/metrics", "/nothing"):
                assert (await ask(f"{address}{path}", Authorization=wrong))[0] == 401
        async with aiohttp.ClientSession() as session, session.get(f"{address}/metrics") as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert token not in await answer.text()
        for scheme in ("Bearer", "bearer"):
            status, _, body = await ask(f"{address}/metrics", Authorization=f"{scheme} {token}")
            assert status == 200
            assert "farpoint_vectors_assigned_total" in body
        assert (await ask(f"{address}/livez"))[0] == 200
        assert (await ask(f"{address}/readyz"))[0] == 200


async def test_no_browser_takes_an_answer_for_a_page() -> None:
    """Every answer names its type and forbids guessing another, so that HTML in it stays text."""
    hostile = Check("<script>alert(1)</script>", False, "<img src=x>")
    async with serving([hostile], [hostile]) as address, aiohttp.ClientSession() as session:
        for path in ("/livez", "/readyz", "/metrics"):
            async with session.get(f"{address}{path}") as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.content_type in ("application/json", "text/plain")


async def test_a_taken_port_is_named() -> None:
    """The error says which port and which setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HealthServer(HttpSettings(port=port), list, list, Metrics(NAMES, ["detect"]).registry)
        with pytest.raises(FarpointError, match=rf"cannot listen on 127.0.0.1:{port}: .*FARPOINT_HTTP__PORT"):
            await server.start()
        await server.stop()
