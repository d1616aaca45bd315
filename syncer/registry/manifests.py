"""Writing manifests, byte for byte, and linking them to their subjects (distribution-spec "Pushing Manifests")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import (
    NOT_GIVEN_BACK_HINT,
    ContentError,
    ImmutableTag,
    Interrupted,
    NotFound,
    ProtocolViolation,
    RegistryError,
    ServerFailure,
    StatusError,
    SyncerError,
    TransportError,
)
from syncer.events import RequestKind
from syncer.oci import media_types
from syncer.oci.reference import check_tag
from syncer.registry.call import Call
from syncer.registry.capabilities import Capability
from syncer.registry.network.urls import redact
from syncer.registry.upload.proof import contradicts

if TYPE_CHECKING:
    from syncer.oci.manifest import Manifest
    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository

_CREATED = 201


async def push(repository: RegistryRepository, manifest: Manifest, tag: str) -> None:
    """Write the exact bytes in one PUT, under ``tag`` or else under the digest.

    Writing it again is harmless, so a lost answer is simply asked for again; a tag that may not move
    and holds these very bytes already counts as written, and so does what is there after all when no
    answer ever came, or none but that of something in front of the registry.

    Raises:
        NotFound: when content it links to is missing, with the digests in ``missing`` where they are named.
        ImmutableTag: when the tag is held by another manifest and may not move.
        ProtocolViolation: when the registry stored something else.
    """
    reference = check_tag(tag) if tag else manifest.digest
    try:
        reply = await put(repository, manifest, reference)
        is_listed = "OCI-Subject" in reply.headers
    except ImmutableTag:
        # ECR refuses what is there already, even when it is the same.
        if not await _holds(repository, reference, manifest):
            raise
        return
    except (TransportError, ServerFailure):
        # A proxy that waits for less time than the registry takes says 504 each time, and each time it is done.
        if not await _is_there(repository, reference, manifest):
            raise
        is_listed = repository.client.capabilities.offers(Capability.REFERRERS) is True
    if manifest.subject is not None and not is_listed:
        # distribution-spec "Pushing Manifests with Subject": without the header the client keeps the list itself.
        await repository.client.fallback_tags.add(repository, manifest.subject.digest, manifest.referrer_descriptor)


async def put(repository: RegistryRepository, manifest: Manifest, reference: str) -> Reply:
    """Send the PUT and check its answer (reference 2.5, S13).

    A registry that does not name the digest is asked for the manifest once, to see that it is one.

    Raises:
        NotFound, RegistryError: as :func:`push`.
    """
    reply = await _put(repository, manifest, reference)
    named = reply.headers.get("Docker-Content-Digest", "")
    # A tag of a manifest known by sha512 may well be answered with its sha256.
    if contradicts(reply, manifest.digest) or (reply.status != _CREATED and named != manifest.digest):
        raise _violation(repository, manifest, reply, f"with digest {named[:100] or 'none'}")
    capabilities = repository.client.capabilities
    if not named and not capabilities.observed(Capability.STORES_MANIFESTS):
        if not await _is_stored(repository, manifest, reference):
            raise _violation(repository, manifest, reply, "but does not show it")
        capabilities.learn(Capability.STORES_MANIFESTS, offered=True)
    elif reply.attempts > 1:
        await _check_given_back(repository, manifest)
    return reply


async def _check_given_back(repository: RegistryRepository, manifest: Manifest) -> None:
    """Ask for a manifest that was taken only when it was sent again.

    docker-registry whose disk was full at the first try keeps an empty file of it, takes that for the manifest ever
    after, and acknowledges each later try.

    Raises:
        ServerFailure: when the registry cannot give it back.
    """
    try:
        await repository.resolve(manifest.digest)
    except ServerFailure as error:
        error.hint = f"{error.hint} {NOT_GIVEN_BACK_HINT}".strip()
        raise
    except SyncerError:
        # That says nothing against the registry's word: who may write need not be allowed to read.
        return


async def _put(repository: RegistryRepository, manifest: Manifest, reference: str) -> Reply:
    """Send the PUT; when there is no such repository, have it created, where that is set up, and again."""
    client = repository.client
    call = Call(
        kind=RequestKind.MANIFEST_PUT,
        method="PUT",
        url=client.url(f"/v2/{repository.repository}/manifests/{reference}"),
        asked=repository.asked(reference),
        scopes=repository.scopes,
        expected=frozenset({200, 201, 202}),
        headers={"Content-Type": manifest.media_type},
        body=manifest.raw,
        side=repository.side,
    )
    try:
        return await client.exchange(call)
    except (NotFound, RegistryError) as error:
        if client.creation is None or not client.creation.is_called_for(error):
            raise
        if not await client.creation.ensure(repository.repository):
            raise
    return await client.exchange(call)


async def _is_stored(repository: RegistryRepository, manifest: Manifest, reference: str) -> bool:
    """Ask for what was written: its digest by a HEAD, or its bytes where that tells none.

    Raises:
        RegistryError: when the registry fails at it.
    """
    try:
        there = (await repository.resolve(reference)).digest
        if there.algorithm != manifest.digest.algorithm:
            return (await repository.fetch_manifest(reference)).raw == manifest.raw
    except ContentError:
        # Not there, or something that is no manifest at all.
        return False
    except (StatusError, ProtocolViolation) as error:
        if error.retryable:
            raise
        return False
    return there == manifest.digest


async def _is_there(repository: RegistryRepository, reference: str, manifest: Manifest) -> bool:
    """Ask once whether what was written, as far as anybody knows, is there; False when that is not to be learned."""
    client = repository.client
    call = Call(
        kind=RequestKind.MANIFEST_HEAD,
        method="HEAD",
        url=client.url(f"/v2/{repository.repository}/manifests/{reference}"),
        asked=repository.asked(reference),
        scopes=repository.scopes,
        headers={"Accept": media_types.ACCEPT_MANIFESTS},
        side=repository.side,
        tries=1,
    )
    try:
        reply = await client.exchange(call)
    except (NotFound, RegistryError):
        return False
    return reply.headers.get("Docker-Content-Digest", "") == manifest.digest


async def _holds(repository: RegistryRepository, reference: str, manifest: Manifest) -> bool:
    try:
        return (await repository.resolve(reference)).digest == manifest.digest
    except SyncerError as error:
        if error.retryable or error.is_deferral or isinstance(error, Interrupted):
            # Nobody knows what it holds: that is no verdict on the tag.
            raise
        return False


def _violation(repository: RegistryRepository, manifest: Manifest, reply: Reply, problem: str) -> ProtocolViolation:
    return ProtocolViolation(
        f"{repository.registry} answered {reply.status} to the manifest {manifest.digest} {problem}",
        registry=repository.registry,
        method="PUT",
        url=redact(reply.url),
        hint="The registry changed the manifest, or something that is not a registry answers.",
        side=repository.side,
    )
