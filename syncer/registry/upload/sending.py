"""Sending one body, and noticing when it goes no further."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

from syncer.errors import SyncerError, Timeout
from syncer.registry.call import StreamBody
from syncer.registry.network.transport import Headway
from syncer.registry.network.urls import redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.registry.call import Call, Reply
    from syncer.registry.client import RegistryClient
    from syncer.registry.settings import TimeoutSettings


def body_of(client: RegistryClient, chunks: AsyncIterator[bytes], size: int) -> StreamBody:
    """Return a body of ``size`` bytes under the registry's ceiling on bytes per second."""
    limits = client.limits
    ready = limits.wait_pause
    return StreamBody(chunks, size, limits.pass_bytes, piece=limits.piece, ready=ready, clock=client.clock)


async def delivered(client: RegistryClient, call: Call, body: StreamBody) -> Reply | SyncerError:
    """Send ``call`` with its ``body``, once; return the answer, or what went wrong at the target.

    Nobody reads the body any more when this returns.

    Raises:
        Exception: what the body's source raised, as it is.
    """
    outcome: Reply | SyncerError = Timeout(
        f"{client.host} takes no more bytes of {call.asked}, or too few",
        registry=client.host,
        method=call.method,
        url=redact(call.url),
        side=call.side,
    )
    try:
        with anyio.CancelScope() as scope:
            body.on_turn = _Watch(scope, client.timeouts)
            try:
                outcome = await client.exchange(call)
            except SyncerError as failed:
                outcome = failed
    finally:
        # The chunks are read by a task of aiohttp's: it must be out of them before they are closed.
        await body.settled()
    if body.failure is not None:
        raise body.failure
    return outcome


class _Watch:
    """Ends a request that makes no headway; aiohttp bounds the wait for an answer, but not for room to write.

    Waiting for the source, or for room under a ceiling, is no fault of the target's.
    """

    def __init__(self, scope: anyio.CancelScope, timeouts: TimeoutSettings) -> None:
        self._scope = scope
        self._timeouts = timeouts
        self._headway = Headway(timeouts.slowest, timeouts.stall)
        self._taken = 0
        self._since: float | None = None

    def __call__(self, taken: int | None, *, is_last: bool) -> None:
        """Take note of whose turn it is, and bound the other side's."""
        now = anyio.current_time()
        if self._since is not None and self._headway.is_too_slow(now - self._since, self._taken):
            self._scope.cancel()
        if taken is None:
            self._since = None
            self._scope.deadline = math.inf
            return
        self._since, self._taken = now, taken
        self._scope.deadline = now + self._timeouts.stall + (self._timeouts.commit if is_last else 0.0)
