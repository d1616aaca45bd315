"""Going on with the upload of an earlier run, which was killed; and the note that makes it possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import CertificateError, NotFound, RateLimited, RateLimitReached, RegistryError
from syncer.registry.unfinished import LARGE, kept_location, may_be_kept
from syncer.registry.upload.forms import Terms, continuing_form
from syncer.registry.upload.opening import Opened, give_up, location_of
from syncer.registry.upload.progress import chunk_minimum, offset_in_status

if TYPE_CHECKING:
    from yarl import URL

    from syncer.plan.records import UnfinishedUpload
    from syncer.registry.upload.calls import UploadCalls


class Note:
    """The note of one upload: written as it goes on, crossed out when it has ended."""

    def __init__(self, calls: UploadCalls, *, is_written: bool = False) -> None:
        """Note nothing yet, or go on with what an earlier run has written."""
        self._calls = calls
        self._is_written = is_written
        self._key = (calls.client.host, calls.repository.repository, calls.descriptor.digest)

    def write(self, location: URL, offset: int) -> None:
        """Note where the upload goes on, and how far the registry has confirmed it; where that is of any use."""
        unfinished = self._calls.client.unfinished
        if unfinished is None or self._calls.descriptor.size < LARGE:
            return
        if may_continue(self._calls) and may_be_kept(location, self._calls.client.home, self._key[1]):
            unfinished.note(*self._key, location, offset)
            self._is_written = True
        else:
            # What was noted before holds no longer.
            self.cross_out()

    def cross_out(self) -> None:
        """Note that nothing is left to go on with."""
        unfinished = self._calls.client.unfinished
        if self._is_written and unfinished is not None:
            unfinished.forget(*self._key)
            self._is_written = False


def claimed(calls: UploadCalls) -> UnfinishedUpload | None:
    """Return what an earlier run noted of this upload, once."""
    unfinished = calls.client.unfinished
    if unfinished is None:
        return None
    return unfinished.claim(calls.client.host, calls.repository.repository, calls.descriptor.digest)


async def resumed(calls: UploadCalls, record: UnfinishedUpload) -> Opened | None:
    """Ask the session of ``record`` how far it is; None when nothing of it can be gone on with.

    Whatever the registry says about it, but that it has bytes, ends the note. Where it says nothing, the note stays
    until that of another session takes its place.

    Raises:
        CertificateError, RateLimited, RateLimitReached: any other request would fail as this one.
    """
    note = Note(calls, is_written=True)
    location = kept_location(record, calls.client.home)
    if location is None or not may_continue(calls):
        note.cross_out()
        return None
    try:
        reply = await calls.client.exchange(calls.status(location))
        location = location_of(calls, reply) or location
    except (CertificateError, RateLimited, RateLimitReached):
        raise
    except (RegistryError, NotFound) as error:
        if not error.retryable:
            note.cross_out()
        return None
    offset = offset_in_status(reply.headers.get("Range", ""), record.offset)
    if offset and offset <= calls.descriptor.size:
        minimum = chunk_minimum(reply.headers.get("OCI-Chunk-Min-Length", ""))
        return Opened(location=location, chunk_minimum=minimum, offset=offset)
    # It is there, and of no use.
    await give_up(calls, location, is_cut=False)
    note.cross_out()
    return None


def may_continue(calls: UploadCalls) -> bool:
    """Tell whether the registry takes the rest of a blob in a session that has bytes from before."""
    client = calls.client
    terms = Terms.of(client.capabilities, client.uploads)
    return continuing_form(calls.descriptor.size, client.uploads, terms) is not None
