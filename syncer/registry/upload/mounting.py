"""Beginning with a blob: mount it, or open an upload (distribution-spec "Mounting a blob from another repository")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from syncer.content import BlobOutcome
from syncer.errors import (
    CertificateError,
    Denied,
    NotFound,
    RateLimited,
    RateLimitReached,
    RegistryError,
    StatusError,
    SyncerError,
    Unauthorized,
)
from syncer.registry.capabilities import Capability
from syncer.registry.settings import UploadForm
from syncer.registry.upload.calls import UploadCalls
from syncer.registry.upload.forms import Terms, first_form
from syncer.registry.upload.opening import ACCEPTED, Opened, asked_of_existing, exchanged, location_of, open_session
from syncer.registry.upload.proof import check_stored
from syncer.registry.upload.resuming import Note, claimed, resumed
from syncer.registry.upload.session import UploadSession

if TYPE_CHECKING:
    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository

#: Answers that say that mounting is not offered, rather than that this blob is not to be had.
_NO_MOUNT = frozenset({400, 405, 501})


async def begin(repository: RegistryRepository, descriptor: Descriptor, mount_from: str) -> UploadSession | BlobOutcome:
    """Ask for a mount from ``mount_from``, or from the repository itself, which tells whether it has the blob.

    201 is a mount, 202 an upload that was opened instead, and is used. A registry that answers
    anything else is asked again without the mount. A small blob that may go out in the POST itself,
    and is known nowhere in the registry, is not asked for. Where an earlier run was killed in the middle
    of a large blob, its session is asked first, and gone on with unless the blob can be mounted.

    Raises:
        NotFound: when the registry does not know the repository and does not create it.
        ProtocolViolation: when it says that it mounted the blob, and has mounted another or none.
        RegistryError: when no upload can be opened.
    """
    calls = UploadCalls(repository, descriptor)
    record = claimed(calls)
    kept = None if record is None else await resumed(calls, record)
    if kept is None:
        return await _begin_anew(calls, mount_from)
    if mount_from:
        begun = await _begin_anew(calls, mount_from)
        if isinstance(begun, BlobOutcome):
            await UploadSession(repository, descriptor, kept).abort()
            return begun
        try:
            await begun.abort()
        except anyio.get_cancelled_exc_class():
            # The note of what has no bytes took the place of its own; the next run is to find what has some.
            Note(calls).write(kept.location, kept.offset)
            raise
    return UploadSession(repository, descriptor, kept)


async def _begin_anew(calls: UploadCalls, mount_from: str) -> UploadSession | BlobOutcome:
    repository, descriptor, client = calls.repository, calls.descriptor, calls.client
    source = mount_from or repository.repository
    terms = Terms.of(client.capabilities, client.uploads)
    if not mount_from and first_form(descriptor.size, client.uploads, terms) is UploadForm.SINGLE_POST:
        return UploadSession(repository, descriptor)
    if not _may_mount(calls, source):
        return UploadSession(repository, descriptor, await open_session(calls))
    answer = await _asked(calls, source)
    if not isinstance(answer, SyncerError):
        if answer.status != ACCEPTED:
            await check_stored(calls, answer)
            return BlobOutcome.PRESENT if source == repository.repository else BlobOutcome.MOUNTED
        if location_of(calls, answer) is not None:
            return UploadSession(repository, descriptor, Opened.by(calls, answer))
    opened = await open_session(calls)
    if source != repository.repository and isinstance(answer, Unauthorized | Denied):
        # Only now is it known that it was the right to the source that is missing.
        client.capabilities.mounts_refused.add(source)
    return UploadSession(repository, descriptor, opened)


def _may_mount(calls: UploadCalls, source: str) -> bool:
    capabilities = calls.client.capabilities
    return capabilities.offers(Capability.MOUNT) is not False and source not in capabilities.mounts_refused


async def _asked(calls: UploadCalls, source: str) -> Reply | SyncerError:
    """Ask for a mount from ``source``; return what it failed with when that may be about the mount."""
    capabilities = calls.client.capabilities
    is_own = source == calls.repository.repository
    try:
        # Only when nothing else is named can a missing repository be no other than the target.
        reply = await (asked_of_existing if is_own else exchanged)(calls, calls.mount(source))
    except (CertificateError, RateLimited, RateLimitReached):
        # None is about the mount, and all would only happen again.
        raise
    except (RegistryError, NotFound) as error:
        # A token for one repository only, an old registry, a proxy.
        if is_own and isinstance(error, StatusError) and error.status in _NO_MOUNT:
            capabilities.learn(Capability.MOUNT, offered=False)
        return error
    capabilities.learn(Capability.MOUNT, offered=True)
    return reply
