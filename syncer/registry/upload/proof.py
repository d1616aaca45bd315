"""Believing that a blob was stored (reference 2.5, S13).

A captive portal says 200 or 201 to everything. So only exact statuses count, a digest in the answer
must be the blob's, and where no digest is named the blob is looked for once: a registry that has
been seen to keep its word is believed for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import NotFound, ProtocolViolation, StatusError
from syncer.registry.capabilities import Capability
from syncer.registry.network.urls import redact

if TYPE_CHECKING:
    from syncer.oci.digest import Digest
    from syncer.registry.call import Reply
    from syncer.registry.upload.calls import UploadCalls

_CREATED = 201
_HINT = "Something that is not a registry may be answering: a proxy, or a log-in page."


def contradicts(reply: Reply, digest: Digest) -> str:
    """Return the digest that ``reply`` names instead of ``digest``; empty when it names none or the same.

    That of another algorithm cannot be compared: content known by sha512 may well be answered with its sha256.
    """
    named = reply.headers.get("Docker-Content-Digest", "")
    is_comparable = named.partition(":")[0] == digest.algorithm
    return named if named != digest and is_comparable else ""


async def check_stored(calls: UploadCalls, reply: Reply) -> None:
    """Return when ``reply`` and, where it takes that, a HEAD say that the blob is stored.

    Raises:
        ProtocolViolation: when it is not, or another is.
        RegistryError: when the HEAD fails for other reasons.
    """
    digest = calls.descriptor.digest
    named = reply.headers.get("Docker-Content-Digest", "")
    if other := contradicts(reply, digest):
        raise violation(calls, reply, f"with another digest, {other[:100]}")
    if reply.status != _CREATED and named != digest:
        raise violation(calls, reply, f"with status {reply.status} and without the digest")
    if not named:
        await _check_shown(calls, reply)


async def is_stored(calls: UploadCalls) -> bool | None:
    """Ask for the blob; True when it is there, False when it is not or is another, None when that cannot be told.

    Raises:
        RegistryError: when the registry fails.
    """
    try:
        reply = await look(calls)
    except NotFound:
        return False
    if reply is None:
        return None
    named = reply.headers.get("Docker-Content-Digest", "")
    if named and named.partition(":")[0] == calls.descriptor.digest.algorithm:
        return named == calls.descriptor.digest
    length = reply.headers.get("Content-Length", "")
    return length == str(calls.descriptor.size) if length else None


async def look(calls: UploadCalls) -> Reply | None:
    """Send a HEAD for the blob and return the answer; None where the registry, or its storage, answers no HEAD.

    Raises:
        NotFound: when there is no such blob.
        RegistryError: when the registry fails.
    """
    try:
        return await calls.client.exchange(calls.head())
    except NotFound:
        raise
    except (StatusError, ProtocolViolation) as error:
        if error.retryable:
            raise
        return None


async def _check_shown(calls: UploadCalls, reply: Reply) -> None:
    """Look for a blob that the registry says to have stored, unless it is known to keep its word."""
    capabilities = calls.client.capabilities
    if capabilities.observed(Capability.STORES_BLOBS):
        return
    if await is_stored(calls) is not True:
        raise violation(calls, reply, "but does not show it")
    if calls.descriptor.size:
        # Of nothing, anybody has a copy.
        capabilities.learn(Capability.STORES_BLOBS, offered=True)


def violation(calls: UploadCalls, reply: Reply, problem: str, method: str = "PUT") -> ProtocolViolation:
    """Return the error for an answer that cannot be believed."""
    return ProtocolViolation(
        f"{calls.client.host} took {calls.asked} {problem}",
        registry=calls.client.host,
        method=method,
        url=redact(reply.url),
        hint=_HINT,
        side=calls.repository.side,
    )
