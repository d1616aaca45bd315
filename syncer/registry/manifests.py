"""Writing manifests, byte for byte, and linking them to their subjects (distribution-spec "Pushing Manifests")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import ImmutableTag, ProtocolViolation, SyncerError
from syncer.events import RequestKind
from syncer.oci.reference import check_tag
from syncer.registry.call import Call
from syncer.registry.urls import redact

if TYPE_CHECKING:
    from syncer.oci.manifest import Manifest
    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository


async def push(repository: RegistryRepository, manifest: Manifest, tag: str) -> None:
    """Write the exact bytes in one PUT, under ``tag`` or else under the digest.

    Writing it again is harmless, so a lost answer is simply asked for again; a tag that may not move
    and holds these very bytes already counts as written.

    Raises:
        NotFound: when content it links to is missing, with the digests in ``missing`` where they are named.
        ImmutableTag: when the tag is held by another manifest and may not move.
        ProtocolViolation: when the registry stored something else.
    """
    reference = check_tag(tag) if tag else manifest.digest
    try:
        reply = await put(repository, manifest, reference)
    except ImmutableTag:
        if not tag or not await _holds(repository, tag, manifest):
            raise
        return
    if manifest.subject is not None and "OCI-Subject" not in reply.headers:
        # distribution-spec "Pushing Manifests with Subject": without the header the client keeps the list itself.
        await repository.client.fallback_tags.add(repository, manifest.subject.digest, manifest.referrer_descriptor)


async def put(repository: RegistryRepository, manifest: Manifest, reference: str) -> Reply:
    """Send the PUT and check its answer."""
    reply = await repository.client.exchange(
        Call(
            kind=RequestKind.MANIFEST_PUT,
            method="PUT",
            url=repository.client.url(f"/v2/{repository.repository}/manifests/{reference}"),
            asked=repository.asked(reference),
            scopes=repository.scopes,
            expected=frozenset({200, 201, 202}),
            headers={"Content-Type": manifest.media_type},
            body=manifest.raw,
            side=repository.side,
        )
    )
    digest = reply.headers.get("Docker-Content-Digest", "")
    is_ours = digest == manifest.digest
    # A tag of a manifest known by sha512 may well be answered with its sha256.
    is_comparable = digest.partition(":")[0] == manifest.digest.algorithm
    if (digest and is_comparable and not is_ours) or (reply.status != 201 and not is_ours):  # noqa: PLR2004 - Created
        raise ProtocolViolation(
            f"{repository.registry} answered {reply.status} with digest {digest[:100] or 'none'} "
            f"to the manifest {manifest.digest}",
            registry=repository.registry,
            method="PUT",
            url=redact(reply.url),
            hint="The registry changed the manifest, or something that is not a registry answers.",
            side=repository.side,
        )
    return reply


async def _holds(repository: RegistryRepository, tag: str, manifest: Manifest) -> bool:
    try:
        return (await repository.resolve(tag)).digest == manifest.digest
    except SyncerError:
        return False
