"""An upload on its way: sends the bytes in the form that fits, and acts on the ladder when that fails."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from syncer.errors import ConnectionFailed, DigestMismatch, NotFound, RegistryError, StatusError, SyncerError
from syncer.events import RequestKind
from syncer.registry.call import StreamBody
from syncer.registry.capabilities import Capability
from syncer.registry.settings import UploadForm
from syncer.registry.upload import forms
from syncer.registry.upload.calls import UploadCalls
from syncer.registry.upload.feed import Feed
from syncer.registry.upload.forms import Cause, Terms
from syncer.registry.upload.ladder import SESSION_ENDED, Ladder, Signal, Stage, Step, signal_of
from syncer.registry.upload.opening import Opened, asked_of_existing, give_up, location_of, open_session
from syncer.registry.upload.progress import confirms, offset_in_status
from syncer.registry.upload.proof import check_stored, is_stored, violation
from syncer.registry.upload.resuming import Note
from syncer.registry.upload.sending import body_of, delivered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from yarl import URL

    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Call, Reply
    from syncer.registry.repository import RegistryRepository

    Opener = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]

_CREATED = 201
_CAUSES = {
    Signal.TOO_LARGE: Cause.SIZE,
    Signal.CUT: Cause.SIZE,
    Signal.UNSUPPORTED: Cause.REQUEST,
    Signal.OUT_OF_STEP: Cause.OFFSET,
}
_ABOUT_THE_POST = (Signal.UNSUPPORTED, Signal.TOO_LARGE, Signal.OUT_OF_STEP, Signal.CORRUPT)
_CAPABILITIES = {
    UploadForm.PUT: Capability.WHOLE_PUT,
    UploadForm.STREAM: Capability.PATCH,
    UploadForm.CHUNKS: Capability.CHUNKS,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trouble:
    """A request that failed: with what, where, and how far it had come."""

    error: SyncerError
    stage: Stage
    signal: Signal
    sent: int
    size: int


class UploadSession:
    """The upload of one blob to one repository."""

    def __init__(self, repository: RegistryRepository, descriptor: Descriptor, opened: Opened | None = None) -> None:
        """Go on with what was ``opened``; None when the blob is to go out in the POST, or to open a session then."""
        self._calls = UploadCalls(repository, descriptor)
        has_bytes = opened is not None and opened.offset > 0
        self._note = Note(self._calls, is_written=has_bytes)
        self._client = repository.client
        self._size = descriptor.size
        self._location: URL | None = None
        self._chunk_minimum = 0
        self._refused: set[UploadForm] = set()
        self._lessons: list[Capability] = []
        self._suspected_bound: int | None = None
        choose = forms.continuing_form if has_bytes else forms.session_form if opened else forms.first_form
        self._form = choose(self._size, self._client.uploads, self._terms) or UploadForm.STREAM
        self._ladder = Ladder()
        #: How long the last body took, and when a token was refused.
        self._seconds = 0.0
        self._refused_at: float | None = None
        self._attempt = 0
        #: What the session has, and the most that it ever had.
        self._offset = 0
        self._headway = 0
        self._patches = 0
        self._is_cut = False
        if opened:
            self._continue(opened)

    async def send(self, opener: Opener) -> None:
        """Send the blob from ``opener`` and commit it; what ``opener`` raises is raised as it is.

        Raises:
            DigestMismatch: when other bytes than were sent arrived, twice.
            NotFound: when there is no such repository.
            RegistryError: when the registry fails; the session has been given up then.
        """
        try:
            if self._form is UploadForm.SINGLE_POST:
                data = await _gathered(opener, self._size)
                if await self._post(data):
                    return
                opener = _holding(data)
            while not await self._feed(opener):
                pass
        except BaseException:
            await self.abort()
            raise

    async def abort(self) -> None:
        """Give the upload up (distribution-spec "Deleting an upload"); whatever the registry says is fine.

        A registry that wants to be left alone, or is busy with others of us, is waited for, unless this is cancelled.
        """
        location, self._location = self._location, None
        if location is None:
            return
        try:
            is_gone = await give_up(self._calls, location, is_cut=self._is_cut, is_hurried=False)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                if await give_up(self._calls, location, is_cut=self._is_cut):
                    self._note.cross_out()
            raise
        if is_gone:
            # One that may be there still is left to the next run, which asks for it.
            self._note.cross_out()

    @property
    def _terms(self) -> Terms:
        terms = Terms.of(self._client.capabilities, self._client.uploads)
        if self._suspected_bound is None:
            return terms
        bounds = [bound for bound in (terms.largest_body, self._suspected_bound) if bound is not None]
        return replace(terms, largest_body=min(bounds, default=None))

    def _continue(self, opened: Opened) -> None:
        self._location = opened.location
        self._chunk_minimum = opened.chunk_minimum
        self._offset = opened.offset
        self._headway = max(self._headway, opened.offset)
        self._note.write(opened.location, opened.offset)

    def _close(self) -> None:
        """Take note that the registry has no such session any more."""
        self._location = None
        self._note.cross_out()

    async def _post(self, data: bytes) -> bool:
        """Send the blob in the POST; False when it has to be sent in a session after all."""
        capabilities = self._client.capabilities
        await self._client.limits.pass_bytes(len(data))
        try:
            reply = await asked_of_existing(self._calls, self._calls.single(data))
        except StatusError as error:
            if signal_of(error, Stage.WHOLE, is_sent=True) not in _ABOUT_THE_POST:
                raise
            capabilities.learn(Capability.SINGLE_POST, offered=False)
        else:
            if reply.status == _CREATED:
                await check_stored(self._calls, reply)
                capabilities.learn(Capability.SINGLE_POST, offered=True)
                return True
            # The registry has opened a session, and thrown the bytes away (distribution).
            capabilities.learn(Capability.SINGLE_POST, offered=False)
            self._continue(Opened.by(self._calls, reply))
        self._form = forms.session_form(self._size, self._client.uploads, self._terms)
        return False

    async def _feed(self, opener: Opener) -> bool:
        """Read the source once, and send what the session lacks; True when the blob is committed."""
        if self._location is None:
            self._continue(await open_session(self._calls))
        async with opener() as chunks:
            feed = Feed(chunks)
            await feed.skip(self._offset)
            while True:
                trouble = await self._advance(feed)
                if trouble is None:
                    if self._location is None:
                        return True
                    continue
                if trouble.stage is Stage.WHOLE or trouble.sent < trouble.size or not feed.is_usable:
                    # The bytes that were broken off must be read anew: let go of the source meanwhile.
                    break
                if await self._recovered(trouble):
                    return True
                if self._location is None or feed.position != self._offset:
                    return False
        return await self._recovered(trouble)

    async def _advance(self, feed: Feed) -> _Trouble | None:
        """Send the next request of the form."""
        if self._form is UploadForm.PUT:
            return await self._commit(feed, self._size, Stage.WHOLE)
        if self._offset == self._size:
            return await self._commit(feed, 0, Stage.COMMIT)
        return await self._patch(feed)

    async def _commit(self, feed: Feed, length: int, stage: Stage) -> _Trouble | None:
        body = body_of(self._client, feed.part(length), length)
        outcome = await self._deliver(self._calls.put(self._here, body), body)
        if isinstance(outcome, SyncerError):
            return self._trouble(outcome, stage, body)
        if not body.is_complete:
            raise violation(self._calls, outcome, f"before it had received more than {body.sent} of {body.size} bytes")
        await check_stored(self._calls, outcome)
        # Not before: what an answer that cannot be believed says nothing about is to be given up.
        self._close()
        self._learn()
        return None

    async def _patch(self, feed: Feed) -> _Trouble | None:
        length = self._size - self._offset
        start: int | None = self._offset
        if self._form is UploadForm.CHUNKS:
            chunk = forms.chunk_size(self._size, self._client.uploads, self._terms, self._chunk_minimum)
            length = min(length, chunk)
        elif self._offset == 0:
            start = None
        body = body_of(self._client, feed.part(length), length)
        outcome = await self._deliver(self._calls.patch(self._here, body, start), body)
        if isinstance(outcome, SyncerError):
            return self._trouble(outcome, Stage.PART, body)
        if not body.is_complete:
            problem = f"before it had received more than {body.sent} of {body.size} bytes"
            raise violation(self._calls, outcome, problem, method="PATCH")
        self._location = location_of(self._calls, outcome) or self._location
        there = outcome.headers.get("Range", "")
        if not confirms(there, self._offset + length):
            problem = f"up to byte {self._offset + length}, and says it has {there[:40]!r}"
            error = violation(self._calls, outcome, problem, method="PATCH")
            return _Trouble(error=error, stage=Stage.PART, signal=Signal.OUT_OF_STEP, sent=length, size=length)
        self._patches += 1
        self._arrived_at(self._offset + length)
        return None

    def _trouble(self, error: SyncerError, stage: Stage, body: StreamBody) -> _Trouble:
        now = self._client.clock()
        # What has been refused a while ago says nothing of the token that was shown now.
        shown = self._seconds if self._refused_at is None else max(self._seconds, now - self._refused_at)
        signal = signal_of(error, stage, is_sent=body.is_complete, seconds=shown)
        if signal in (Signal.REFUSED, Signal.OUTLIVED):
            self._refused_at = now
        return _Trouble(error=error, stage=stage, signal=signal, sent=body.sent, size=body.size)

    async def _deliver(self, call: Call, body: StreamBody) -> Reply | SyncerError:
        began = self._client.clock()
        try:
            return await delivered(self._client, call, body)
        finally:
            self._seconds = self._client.clock() - began
            self._is_cut = not body.is_complete

    async def _recovered(self, trouble: _Trouble) -> bool:
        """Take the steps of the ladder; True when the blob turned out to be committed."""
        error, signal = trouble.error, trouble.signal
        is_connection = isinstance(error, ConnectionFailed)
        for step in self._ladder.steps(trouble.stage, signal, sent=trouble.sent, is_connection=is_connection):
            match step:
                case Step.WAIT:
                    await self._wait(trouble)
                case Step.LOOK:
                    if await self._is_committed():
                        return True
                case Step.ASK:
                    if await self._is_found():
                        return False
                case Step.RESTART:
                    await self._end(signal)
                    return False
                case Step.DEMOTE:
                    await self._demote(trouble)
                    return False
                case Step.FAIL:
                    break
        raise self._final(error, signal)

    async def _wait(self, trouble: _Trouble) -> None:
        self._attempt += 1
        kind = RequestKind.UPLOAD_PATCH if trouble.stage is Stage.PART else RequestKind.UPLOAD_PUT
        if not await self._client.wait_to_retry(kind, trouble.error, self._attempt):
            raise trouble.error

    async def _is_committed(self) -> bool:
        try:
            if not await is_stored(self._calls):
                return False
        except RegistryError:
            return False
        # Either the answer to the commit was lost, or the blob was there before and the session is still open.
        await self.abort()
        return True

    async def _is_found(self) -> bool:
        """Ask where the session is; False when nothing of it can be gone on with."""
        try:
            reply = await self._client.exchange(self._calls.status(self._here))
            fresh = location_of(self._calls, reply)
        except (RegistryError, NotFound):
            return False
        offset = offset_in_status(reply.headers.get("Range", ""), self._offset)
        if not offset or offset > self._size or (offset < self._size and not self._may_chunk):
            return False
        # Quay's answer has no Location: then the last one holds.
        self._location = fresh or self._location
        self._arrived_at(offset)
        return True

    async def _end(self, signal: Signal) -> None:
        """End the session, and get ready for another."""
        if signal in SESSION_ENDED:
            # The registry has thrown it away already, with the bytes in it.
            self._close()
        await self.abort()
        self._offset = self._patches = 0
        self._is_cut = False

    async def _demote(self, trouble: _Trouble) -> None:
        """Get ready for another form, or raise when there is none left."""
        cause = _CAUSES[trouble.signal]
        settings, capabilities = self._client.uploads, self._client.capabilities
        is_answer = trouble.signal is Signal.TOO_LARGE
        bound = forms.bound_after(trouble.size if is_answer else trouble.sent)
        if cause is not Cause.SIZE:
            self._lessons.append(_CAPABILITIES[self._form])
        elif is_answer:
            capabilities.largest_body = min(bound, capabilities.largest_body or bound)
        else:
            # A connection that was reset is no definite answer; an upload that works then is.
            self._suspected_bound = bound
        if self._form is UploadForm.CHUNKS and cause is Cause.SIZE and bound >= forms.SMALLEST_CHUNK:
            # The same again, in smaller chunks.
            following: UploadForm | None = UploadForm.CHUNKS
        else:
            refused = frozenset({*self._refused, self._form})
            following = forms.next_form(cause, refused, settings, self._terms)
        if following is None:
            if is_answer or cause is not Cause.SIZE:
                raise self._exhausted(trouble.error)
            # It may have been chance: the same again, for as long as the policy goes along.
            following = self._form
        if following is not self._form:
            self._refused.add(self._form)
        await self._end(trouble.signal)
        self._form = following

    def _exhausted(self, error: SyncerError) -> SyncerError:
        """Return ``error`` with why nothing else is tried."""
        if forms.is_fixed(self._client.uploads):
            reason = f"'upload: {{form: {self._form}}}' is set for this registry; without it other forms are tried."
        elif not self._may_chunk:
            reason = "No other form of upload is left to try: this registry does not put blobs together from chunks."
        else:
            reason = "No other form of upload is left to try."
        error.hint = f"{error.hint} {reason}".strip()
        return error

    def _final(self, error: SyncerError, signal: Signal) -> SyncerError:
        if signal in SESSION_ENDED:
            self._close()
        if signal is not Signal.CORRUPT:
            return error
        return DigestMismatch(
            f"{self._client.host} received other bytes of {self._calls.asked} than were sent, twice: {error}",
            hint="Something between here and the registry changes them; nothing was committed.",
            side=self._calls.repository.side,
        )

    def _arrived_at(self, offset: int) -> None:
        self._offset = offset
        self._note.write(self._here, offset)
        if offset > self._headway:
            self._headway = offset
            self._attempt = 0
            self._ladder.made_headway()

    def _learn(self) -> None:
        """Note what this upload has shown: the form that worked, and those that did not before it."""
        capabilities = self._client.capabilities
        for capability in self._lessons:
            capabilities.learn(capability, offered=False)
        if self._suspected_bound is not None:
            capabilities.largest_body = min(self._suspected_bound, capabilities.largest_body or self._suspected_bound)
        if self._form is UploadForm.STREAM and self._patches:
            capabilities.learn(Capability.PATCH, offered=True)
        elif self._patches > 1:
            capabilities.learn(Capability.CHUNKS, offered=True)

    @property
    def _may_chunk(self) -> bool:
        return forms.may_chunk(self._client.uploads, self._terms)

    @property
    def _here(self) -> URL:
        assert self._location is not None  # noqa: S101 - for the type checker: nothing is sent without a session
        return self._location


async def _gathered(opener: Opener, size: int) -> bytes:
    async with opener() as chunks:
        # To the end, be it of nothing: who checks the bytes has its say there.
        return b"".join([chunk async for chunk in StreamBody(chunks, size)])


def _holding(data: bytes) -> Opener:
    """Return an opener of ``data``."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        yield chunks()

    return opened
