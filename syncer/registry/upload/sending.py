"""Sending one body, and noticing when it goes no further."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from syncer.errors import SyncerError, Timeout
from syncer.registry.call import StreamBody
from syncer.registry.network.urls import redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.registry.call import Call, Reply
    from syncer.registry.client import RegistryClient


def body_of(client: RegistryClient, chunks: AsyncIterator[bytes], size: int) -> StreamBody:
    """Return a body of ``size`` bytes under the registry's ceiling on bytes per second."""
    return StreamBody(chunks, size, client.limits.pass_bytes, piece=client.limits.piece, clock=client.clock)


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
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, client, body, group.cancel_scope)
            try:
                outcome = await client.exchange(call)
            except SyncerError as failed:
                outcome = failed
            group.cancel_scope.cancel()
    finally:
        # The chunks are read by a task of aiohttp's: it must be out of them before they are closed.
        with anyio.CancelScope(shield=True):
            await body.settled()
    if body.failure is not None:
        raise body.failure
    return outcome


async def _watch(client: RegistryClient, body: StreamBody, scope: anyio.CancelScope) -> None:
    """End a request that makes no headway; aiohttp bounds the wait for an answer, but not for room to write."""
    timeouts = client.timeouts
    least = max(1, int(timeouts.slowest * timeouts.stall))
    # Before that it waits for a token, or for the registry's leave to send: no fault of the target's.
    await body.started.wait()
    while not body.is_complete:
        before = body.sent
        await anyio.sleep(timeouts.stall)
        # Waiting for the source, or for room under a ceiling, is no fault of the target's either.
        if body.sent - before < least and not body.is_reading and not body.is_complete:
            break
    else:
        await anyio.sleep(timeouts.stall + timeouts.commit)
    scope.cancel()
