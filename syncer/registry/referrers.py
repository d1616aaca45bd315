"""What refers to a manifest: the referrers API, and the tag that stands in for it (distribution-spec 1.1)."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from syncer.errors import (
    MalformedManifest,
    NotFound,
    ProtocolViolation,
    StatusError,
)
from syncer.events import RequestKind
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.manifest import Manifest, parse_object
from syncer.oci.referrers import fallback_tag, referrers_index
from syncer.registry import manifests
from syncer.registry.call import Call
from syncer.registry.paging import pages
from syncer.registry.urls import with_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from syncer.oci.digest import Digest
    from syncer.registry.repository import RegistryRepository

#: How registries without the API answer; the specification names 404, the others have been seen.
_NOT_OFFERED = frozenset({400, 401, 403, 405, 406, 501})
#: Bytes of one page of referrers: an index like any other.
_PAGE_LIMIT = 4 * 1024 * 1024


async def find(
    repository: RegistryRepository, digest: Digest, artifact_type: str, known_tags: Collection[str] | None
) -> list[Descriptor]:
    """Return the descriptors of the manifests whose subject is ``digest``, of ``artifact_type`` if given.

    A registry that turns out to lack the API is not asked again; ``known_tags`` spares the request
    for a tag that is not there.

    Raises:
        RegistryError: when the registry cannot be asked.
        MalformedManifest: when what it lists cannot be read.
    """
    listed: list[Descriptor] | None = None
    if repository.client.capabilities.referrers is not False:
        listed = await _from_api(repository, digest, artifact_type)
    if listed is None:
        tag = fallback_tag(digest)
        listed = [] if known_tags is not None and tag not in known_tags else await _from_tag(repository, tag)
    # The API filters only if it says so (OCI-Filters-Applied); filtering again costs nothing.
    return [found for found in listed if not artifact_type or found.artifact_type == artifact_type]


async def _from_api(repository: RegistryRepository, digest: Digest, artifact_type: str) -> list[Descriptor] | None:
    """Ask the referrers API; None when the registry does not have one."""
    client = repository.client
    url = client.url(f"/v2/{repository.repository}/referrers/{digest}")
    call = Call(
        kind=RequestKind.REFERRERS,
        method="GET",
        url=with_query(url, artifactType=artifact_type) if artifact_type else url,
        asked=f"the referrers of {repository.asked(digest)}",
        scopes=repository.scopes,
        headers={"Accept": media_types.OCI_INDEX},
        side=repository.side,
        limit=_PAGE_LIMIT,
    )
    found: list[Descriptor] = []
    try:
        async for document, _ in pages(client, call):
            if not isinstance(document.get("manifests"), list):
                client.capabilities.referrers = False
                return None
            found.extend(Descriptor.from_json(item, where="a referrer") for item in document["manifests"])
    except NotFound:
        # A repository that does not exist has no referrers either; only a registry that has shown the API knows.
        if client.capabilities.referrers:
            return []
        client.capabilities.referrers = False
        return None
    except (StatusError, ProtocolViolation) as error:
        # A ProtocolViolation is 200 and a page of HTML, or an empty body.
        if isinstance(error, StatusError) and error.status not in _NOT_OFFERED:
            raise
        client.capabilities.referrers = False
        return None
    client.capabilities.referrers = True
    return found


async def _from_tag(repository: RegistryRepository, tag: str) -> list[Descriptor]:
    try:
        manifest = await repository.fetch_manifest(tag)
    except NotFound:
        return []
    # Anybody can push anything under such a tag; what is no index lists nothing.
    return list(manifest.manifests) if manifest.is_index else []


class FallbackTags:
    """Keeps the lists of referrers in registries that do not do so themselves, one change at a time for each."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[anyio.Lock, int]] = {}

    async def add(self, repository: RegistryRepository, subject: Digest, referrer: Descriptor) -> None:
        """List ``referrer`` under the tag of ``subject`` (distribution-spec "Referrers Tag Schema").

        Raises:
            MalformedManifest: when the tag holds something that is no index; it is left alone.
            RegistryError: when the list cannot be read or written.
        """
        tag = fallback_tag(subject)
        async with self._alone(repository.repository, tag):
            try:
                current = await repository.fetch_manifest(tag)
            except NotFound:
                raw = referrers_index([referrer])
            else:
                if not current.is_index:
                    raise MalformedManifest(
                        f"{repository.asked(tag)} should list what refers to {subject}, but it is no index",
                        hint="Delete that tag in the target, then run again.",
                        side=repository.side,
                    )
                if any(held.digest == referrer.digest for held in current.manifests):
                    return
                document = parse_object(current.raw)
                document["manifests"] = [*document["manifests"], referrer.to_json()]
                raw = json.dumps(document, separators=(",", ":")).encode()
            await manifests.put(repository, Manifest.parse(raw, media_types.OCI_INDEX), tag)

    @asynccontextmanager
    async def _alone(self, repository: str, tag: str) -> AsyncIterator[None]:
        """Hold the lock of one list; it exists only while somebody wants it."""
        key = (repository, tag)
        lock, users = self._locks.get(key, (anyio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
