"""A client that keeps to no rule: it sends what it is told, as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping


async def send(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> aiohttp.ClientResponse:
    """Send one request as it is written, and return the answer with its body read."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False) as response,
    ):
        await response.read()
        return response
