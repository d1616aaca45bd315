"""Opening an upload, and giving it up again (distribution-spec "Pushing blobs", "Deleting an upload")."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from syncer.errors import NotFound, ProtocolViolation, RegistryError, SyncerError
from syncer.registry.call import Departure
from syncer.registry.network.urls import redact
from syncer.registry.upload.progress import chunk_minimum

if TYPE_CHECKING:
    from yarl import URL

    from syncer.registry.call import Call, Reply
    from syncer.registry.upload.calls import UploadCalls

#: Seconds that giving up a session may take; the registry forgets it in time by itself.
ABORT_DEADLINE = 2.0
#: Seconds in which the answer to a POST has to come that was on its way when it was cancelled, and in which what it
#: opened has to be given up as well. With the drain before it (7 s) a stop is over within the 10 s of `docker stop`.
_ANSWER_DEADLINE, _HASTE_DEADLINE = 1.5, 2.5
#: Seconds that a registry gets to notice that a body was cut off, before it is asked to delete the session.
_NOTICE = 0.1
ACCEPTED = 202


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Opened:
    """A session that a registry has opened.

    Attributes:
        location: where its next request goes.
        chunk_minimum: the bytes that each chunk but the last should have at least.
        offset: the bytes that it has already.
    """

    location: URL
    chunk_minimum: int = 0
    offset: int = 0

    @classmethod
    def by(cls, calls: UploadCalls, reply: Reply) -> Opened:
        """Return what ``reply`` has opened.

        Raises:
            ProtocolViolation: when it does not say where.
        """
        location = location_of(calls, reply)
        if location is None:
            raise ProtocolViolation(
                f"{calls.client.host} opened an upload for {calls.asked} without saying where",
                registry=calls.client.host,
                method="POST",
                url=redact(reply.url),
                side=calls.repository.side,
            )
        return cls(location=location, chunk_minimum=chunk_minimum(reply.headers.get("OCI-Chunk-Min-Length", "")))


def location_of(calls: UploadCalls, reply: Reply) -> URL | None:
    """Return where the next request goes by ``reply``, byte for byte; None when it does not say.

    Raises:
        ProtocolViolation: when it must not be gone to.
    """
    location = reply.headers.get("Location", "")
    return calls.client.resolve(reply.url, location) if location else None


async def open_session(calls: UploadCalls) -> Opened:
    """Open a session by a plain POST.

    Raises:
        NotFound: when the registry does not know the repository and does not create it.
        RegistryError: when no upload can be opened.
    """
    return Opened.by(calls, await asked_of_existing(calls, calls.open()))


async def asked_of_existing(calls: UploadCalls, call: Call) -> Reply:
    """Send ``call``; when it fails since there is no such repository, have it created, where that is set up, and again.

    Raises:
        SyncerError: what the call or the creation raises.
    """
    try:
        return await exchanged(calls, call)
    except (RegistryError, NotFound) as error:
        creation = calls.client.creation
        if (
            creation is None
            or not creation.is_called_for(error)
            or not await creation.ensure(calls.repository.repository)
        ):
            raise
    return await exchanged(calls, call)


async def exchanged(calls: UploadCalls, call: Call) -> Reply:
    """Send a POST that may open an upload; when cancelled meanwhile, wait a moment for where it is, to give it up.

    Otherwise every stop would leave sessions behind that only the registry's own purge removes. What has not
    been sent by then is not sent any more.
    """
    exchange = _Exchange(calls, call)
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        try:
            await exchange.ended.wait()
        except anyio.get_cancelled_exc_class():
            await exchange.hasten()
            raise
    if exchange.failure is not None:
        raise exchange.failure
    assert exchange.reply is not None  # noqa: S101 - for the type checker: it is that, or a failure
    return exchange.reply


class _Exchange:
    """A POST that may open an upload, in a task of its own that a cancellation does not reach."""

    def __init__(self, calls: UploadCalls, call: Call) -> None:
        self.reply: Reply | None = None
        self.failure: SyncerError | None = None
        self.ended = anyio.Event()
        self._calls = calls
        self._call = call
        self._departure = call.departure or Departure()
        # The call may be sent a second time, which has not departed then.
        self._departure.has_been = False
        self._shield = anyio.CancelScope(shield=True)

    async def run(self) -> None:
        """Send it, and keep what comes of it."""
        try:
            with self._shield:
                self.reply = await self._calls.client.exchange(self._call)
        except SyncerError as failed:
            self.failure = failed
        finally:
            self.ended.set()

    async def hasten(self) -> None:
        """Wait a moment for the answer, where it was sent, and give up what it opens."""
        now = anyio.current_time()
        with anyio.CancelScope(shield=True, deadline=now + _HASTE_DEADLINE):
            if not self._departure.has_been:
                self._shield.cancel()
            self._shield.deadline = now + _ANSWER_DEADLINE
            await self.ended.wait()
            reply = self.reply
            if reply is None or reply.status != ACCEPTED:
                return
            with suppress(ProtocolViolation):
                if (location := location_of(self._calls, reply)) is not None:
                    await give_up(self._calls, location, is_cut=False)


class _Timed(Departure):
    """The departure of a request whose answer has a short time."""

    __slots__ = ("_scope",)

    def __init__(self, scope: anyio.CancelScope) -> None:
        super().__init__()
        self._scope = scope

    def take_place(self) -> None:
        """Let the time run from now on, where it does not yet."""
        super().take_place()
        self._scope.deadline = min(self._scope.deadline, anyio.current_time() + ABORT_DEADLINE)


async def give_up(calls: UploadCalls, location: URL, *, is_cut: bool, is_hurried: bool = True) -> bool:
    """Delete the session at ``location``; whatever the registry says is fine, and it has a short time to say it.

    Args:
        calls: of the upload.
        location: of the session.
        is_cut: a body was broken off: the registry may still be writing what arrived of it.
        is_hurried: the time runs from now on, and not from when the registry may be asked.

    Returns:
        False when the registry did not say in time that the session is gone: it may be there still.
    """
    with anyio.CancelScope() as scope:
        departure = _Timed(scope)
        if is_hurried:
            departure.take_place()
        if is_cut:
            # A DELETE that overtakes the end of the PUT is undone by what the PUT still writes (distribution).
            await calls.client.sleep(_NOTICE)
        try:
            if not await _is_deleted(calls, location, departure) and is_cut:
                # The state in our Location is from before the bytes that did arrive. A GET gives a new one
                # (distribution 3; its 2.8 knows no way back, and keeps the bytes until its own purge).
                reply = await calls.client.exchange(calls.status(location, tries=1))
                fresh = location_of(calls, reply)
                return fresh is not None and await _is_deleted(calls, fresh, departure)
        except NotFound:
            return True
        except SyncerError:
            return False
        return True
    return False


async def _is_deleted(calls: UploadCalls, location: URL, departure: Departure) -> bool:
    """Delete the session at ``location``; False when the registry does not know it in this state."""
    call = replace(calls.delete(location), departure=departure)
    return (await calls.client.exchange(call)).status < 300  # noqa: PLR2004 - the end of success (RFC 9110)
