"""Clients whose run is cancelled from outside."""

from __future__ import annotations

import anyio
from aiohttp import web

from syncer.registry.network.transport import _Route
from tests.support.scripted import connected, scripted


async def test_a_client_that_is_cancelled_closes_its_connections() -> None:
    """Leaving a client in a cancelled scope closes every session it has opened."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=b'{"tags": ["a"]}', content_type="application/json")

    async with scripted(answer) as server:
        with anyio.CancelScope() as scope:
            async with connected(server.address) as connection:
                assert [tag async for tag in connection.client.repository("app").tags()] == ["a"]
                transport = connection.client._transport
                elsewhere = transport._session(_Route(is_home=False, proxy=None))
                (await elsewhere.get(f"{server.url}/blob")).release()
                sessions = list(transport._sessions.values())
                scope.cancel()
    assert [session.closed for session in sessions] == [True, True]
