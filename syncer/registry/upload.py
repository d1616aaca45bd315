"""Making a blob present: mount it, or open an upload and stream it (distribution-spec "Pushing blobs").

One POST asks for a mount and opens the upload if there is nothing to mount; one PUT carries the
bytes and commits them. What can go wrong between the two is settled by going back to a known state:
is the blob there after all, and if not, a new POST with the bytes read anew.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from syncer.content import BlobOutcome
from syncer.errors import (
    CertificateError,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    ServerFailure,
    StatusError,
    SyncerError,
    Timeout,
    TransportError,
    Unauthorized,
)
from syncer.events import RequestKind
from syncer.registry.auth import Scope
from syncer.registry.call import Call, StreamBody
from syncer.registry.capabilities import Capability
from syncer.registry.urls import redact, with_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from yarl import URL

    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository

    Opener = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]

#: Seconds that giving up a session may take; the registry forgets it in time by itself.
ABORT_DEADLINE = 2.0
#: Seconds that a registry gets to notice that a body was cut off, before it is asked to delete the session.
_NOTICE = 0.1
_CORRUPT = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
#: How often each kind of failure that no waiting cures may start the upload over.
_RESTARTS = {"lost": 3, "refused": 1, "corrupt": 1}


async def begin(repository: RegistryRepository, descriptor: Descriptor, mount_from: str) -> UploadSession | BlobOutcome:
    """Ask for a mount from ``mount_from``, or from the repository itself, which tells whether it has the blob.

    distribution-spec "Mounting a blob from another repository": 201 is a mount, 202 an upload that
    was opened instead. A registry that fails over the parameters is asked again without them.

    Raises:
        NotFound: when the registry does not know the repository and does not create it.
        RegistryError: when no upload can be opened.
    """
    capabilities = repository.client.capabilities
    if capabilities.offers(Capability.MOUNT) is not False:
        source = mount_from or repository.repository
        try:
            reply = await _opening(repository, descriptor, _mount_call(repository, descriptor, source))
        except (CertificateError, RateLimited):
            # Neither is about the mount, and both would only happen again.
            raise
        except (RegistryError, NotFound) as error:
            # Any failure may be about the mount: a token for one repository only, an old registry, a proxy.
            if not mount_from and isinstance(error, StatusError) and error.status in (400, 405, 501):
                capabilities.learn(Capability.MOUNT, offered=False)
        else:
            capabilities.learn(Capability.MOUNT, offered=True)
            if reply.status == 201:  # noqa: PLR2004 - Created: mounted
                return BlobOutcome.PRESENT if source == repository.repository else BlobOutcome.MOUNTED
            return UploadSession(repository, descriptor, _location(repository, descriptor, reply))
    return UploadSession(repository, descriptor, await _open(repository, descriptor))


class UploadSession:
    """An upload that a registry has opened for one blob."""

    def __init__(self, repository: RegistryRepository, descriptor: Descriptor, location: URL) -> None:
        self._repository = repository
        self._client = repository.client
        self._descriptor = descriptor
        self._location: URL | None = location
        self._is_cut = False

    async def send(self, opener: Opener) -> None:
        """Stream the blob from ``opener`` and commit it; what ``opener`` raises is raised as it is.

        Raises:
            DigestMismatch: when other bytes than were sent arrived, twice.
            RegistryError: when the registry fails; the session has been given up then.
        """
        restarts: Counter[str] = Counter()
        attempt = 0
        try:
            while True:
                attempt += 1
                if self._location is None:
                    self._location = await _open(self._repository, self._descriptor)
                body, error = await self._put(self._location, opener)
                if error is None:
                    return
                # An answer that was lost is not a commit that was lost: look before sending it all again.
                is_ambiguous = body.is_complete and isinstance(error, TransportError | ServerFailure)
                if is_ambiguous and await self._is_committed():
                    return
                await self._restart(error, attempt, restarts)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.abort()
            raise

    async def abort(self) -> None:
        """Give the upload up (distribution-spec "Deleting an upload"); whatever the registry says is fine."""
        location, self._location = self._location, None
        if location is None:
            return
        with anyio.move_on_after(ABORT_DEADLINE):
            if self._is_cut:
                # A DELETE that overtakes the end of the PUT is undone by what the PUT still writes (distribution).
                await self._client.sleep(_NOTICE)
            try:
                if not await self._delete(location) and self._is_cut:
                    # The state in our Location is from before the bytes that did arrive; a GET gives a new one.
                    status = self._call(
                        RequestKind.UPLOAD_GET, "GET", location, expected=frozenset({200, 204}), tries=1
                    )
                    reply = await self._client.exchange(status)
                    await self._delete(_location(self._repository, self._descriptor, reply))
            except SyncerError:
                return

    async def _delete(self, location: URL) -> bool:
        """Delete the session at ``location``; False when the registry does not know it in this state."""
        expected = frozenset({200, 202, 204, 404, 416})
        call = self._call(RequestKind.UPLOAD_DELETE, "DELETE", location, expected=expected, tries=1)
        return (await self._client.exchange(call)).status < 300  # noqa: PLR2004 - the end of success (RFC 9110)

    async def _put(self, location: URL, opener: Opener) -> tuple[StreamBody, SyncerError | None]:
        """Send the blob once; return what the target made of it, and raise what the source did."""
        async with opener() as chunks:
            body = StreamBody(chunks, self._descriptor.size, self._client.limits.pass_bytes)
            try:
                error = await self._exchange(location, body)
            finally:
                # The chunks are read by a task of aiohttp's: it must be out of them before they are closed.
                with anyio.CancelScope(shield=True):
                    await body.settled()
                self._is_cut = not body.is_complete
            if body.failure is not None:
                raise body.failure
        return body, error

    async def _exchange(self, location: URL, body: StreamBody) -> SyncerError | None:
        """Send ``body`` and return what went wrong at the target."""
        url = with_query(location, digest=self._descriptor.digest)
        call = self._call(RequestKind.UPLOAD_PUT, "PUT", url, expected=frozenset({200, 201, 204}), body=body)
        error: SyncerError | None = Timeout(
            f"{self._client.host} takes no more bytes of {call.asked}",
            registry=self._client.host,
            method=call.method,
            url=redact(url),
            side=call.side,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, body, group.cancel_scope)
            try:
                error = self._check_commit(await self._client.exchange(call), body)
            except SyncerError as failed:
                error = failed
            group.cancel_scope.cancel()
        return error

    async def _watch(self, body: StreamBody, scope: anyio.CancelScope) -> None:
        """End a PUT that makes no headway; aiohttp bounds the wait for an answer, but not for room to write."""
        timeouts = self._client.timeouts
        # Before that it waits for a token, or for the registry's leave to send: no fault of the target's.
        await body.started.wait()
        while not body.is_complete:
            before = body.sent
            await anyio.sleep(timeouts.stall)
            if body.sent == before and not body.is_reading:
                break
        else:
            await anyio.sleep(timeouts.stall + timeouts.commit)
        scope.cancel()

    def _check_commit(self, reply: Reply, body: StreamBody) -> SyncerError | None:
        """Return what is wrong with the answer to the PUT, if anything (reference 2.5, S13)."""
        self._location = None
        digest = reply.headers.get("Docker-Content-Digest", "")
        wanted = self._descriptor.digest
        if not body.is_complete:
            problem = f"before it had received more than {body.sent} of {body.size} bytes"
        elif digest and digest != wanted and digest.partition(":")[0] == wanted.algorithm:
            problem = f"with another digest, {digest[:100]}"
        elif reply.status != 201 and digest != wanted:  # noqa: PLR2004 - Created is what the specification asks for
            problem = f"with status {reply.status} and without the digest"
        else:
            return None
        return ProtocolViolation(
            f"{self._client.host} took {self._repository.asked(wanted)} {problem}",
            registry=self._client.host,
            method="PUT",
            url=redact(reply.url),
            side=self._repository.side,
        )

    async def _restart(self, error: SyncerError, attempt: int, restarts: Counter[str]) -> None:
        """Get ready for another session, or raise what ends the upload."""
        kind = _kind(error)
        if kind is None:
            if not await self._client.wait_to_retry(RequestKind.UPLOAD_PUT, error, attempt):
                raise error
        else:
            if kind != "refused":
                # The registry has thrown the session away already, with the bytes in it.
                self._location = None
            restarts[kind] += 1
            if restarts[kind] > _RESTARTS[kind]:
                raise self._final(error)
        await self.abort()

    def _final(self, error: SyncerError) -> SyncerError:
        if _kind(error) != "corrupt":
            return error
        return DigestMismatch(
            f"{self._client.host} received other bytes of {self._descriptor.digest} than were sent, twice: {error}",
            hint="Something between here and the registry changes them; nothing was committed.",
            side=self._repository.side,
        )

    async def _is_committed(self) -> bool:
        repository = self._repository
        call = self._call(
            RequestKind.BLOB_HEAD,
            "HEAD",
            self._client.url(f"/v2/{repository.repository}/blobs/{self._descriptor.digest}"),
            expected=frozenset({200}),
        )
        try:
            reply = await self._client.exchange(call)
        except (RegistryError, NotFound):
            return False
        if reply.headers.get("Docker-Content-Digest", self._descriptor.digest) != self._descriptor.digest:
            return False
        self._location = None
        return True

    def _call(
        self,
        kind: RequestKind,
        method: str,
        url: URL,
        *,
        expected: frozenset[int],
        tries: int = 0,
        body: StreamBody | None = None,
    ) -> Call:
        headers = {}
        if body is not None:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
        return Call(
            kind=kind,
            method=method,
            url=url,
            asked=self._repository.asked(self._descriptor.digest),
            scopes=self._repository.scopes,
            expected=expected,
            headers=headers,
            body=body,
            side=self._repository.side,
            tries=tries,
            is_data=body is not None,
        )


def _kind(error: SyncerError) -> str | None:
    """Return the kind of a failure that calls for a new session at once; None for all others."""
    if isinstance(error, Unauthorized):
        return "refused"
    codes = set(error.codes) if isinstance(error, StatusError) else set()
    if isinstance(error, NotFound) or codes & _LOST or (isinstance(error, StatusError) and error.status == 416):  # noqa: PLR2004 - Range Not Satisfiable
        return "lost"
    if codes & _CORRUPT:
        return "corrupt"
    return None


def _mount_call(repository: RegistryRepository, descriptor: Descriptor, source: str) -> Call:
    call = _open_call(repository, descriptor)
    scopes = repository.scopes
    if source != repository.repository:
        # The push scope first: some registries look at the first only.
        scopes = (*scopes, Scope.repository(source, "pull"))
    parameters = {"mount": descriptor.digest, "from": source}
    return Call(
        kind=call.kind,
        method=call.method,
        url=with_query(call.url, **parameters),
        asked=call.asked,
        scopes=scopes,
        expected=frozenset({201, 202}),
        side=call.side,
        tries=1,
    )


def _open_call(repository: RegistryRepository, descriptor: Descriptor) -> Call:
    return Call(
        kind=RequestKind.UPLOAD_POST,
        method="POST",
        url=repository.client.url(f"/v2/{repository.repository}/blobs/uploads/"),
        asked=repository.asked(descriptor.digest),
        scopes=repository.scopes,
        expected=frozenset({202}),
        side=repository.side,
    )


async def _open(repository: RegistryRepository, descriptor: Descriptor) -> URL:
    reply = await _opening(repository, descriptor, _open_call(repository, descriptor))
    return _location(repository, descriptor, reply)


async def _opening(repository: RegistryRepository, descriptor: Descriptor, call: Call) -> Reply:
    """Send a POST that may open an upload; when cancelled meanwhile, wait a moment for where it is, to give it up.

    Otherwise every stop would leave sessions behind that only the registry's own purge removes.
    """
    reply: Reply | None = None
    failure: SyncerError | None = None

    async def hasten(shield: anyio.CancelScope) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            shield.deadline = anyio.current_time() + ABORT_DEADLINE

    try:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope(shield=True) as shield:
                group.start_soon(hasten, shield)
                try:
                    reply = await repository.client.exchange(call)
                except SyncerError as failed:
                    failure = failed
            group.cancel_scope.cancel()
        # The group swallows a cancellation of its own making only; one from outside is raised here at the latest.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class():
        if reply is not None and reply.status == 202:  # noqa: PLR2004 - Accepted: an upload was opened
            with anyio.CancelScope(shield=True):
                await UploadSession(repository, descriptor, _location(repository, descriptor, reply)).abort()
        raise
    if failure is not None:
        raise failure
    assert reply is not None  # noqa: S101 - for the type checker: neither means cancelled, which was raised above
    return reply


def _location(repository: RegistryRepository, descriptor: Descriptor, reply: Reply) -> URL:
    location = reply.headers.get("Location", "")
    if not location:
        raise ProtocolViolation(
            f"{repository.registry} opened an upload for {repository.asked(descriptor.digest)} without saying where",
            registry=repository.registry,
            method="POST",
            url=redact(reply.url),
            side=repository.side,
        )
    return repository.client.resolve(reply.url, location)
