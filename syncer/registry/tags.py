"""The tags of a repository, page by page, with their digests where the registry lists them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from syncer.errors import NotFound, StatusError
from syncer.events import RequestKind
from syncer.oci.digest import Digest, is_digest
from syncer.oci.reference import is_tag
from syncer.registry.call import Call
from syncer.registry.capabilities import Capability
from syncer.registry.network.urls import with_query
from syncer.registry.paging import PAGE_LIMIT, entries, pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository

#: How registries refuse a page that is larger than they give (PAGINATION_NUMBER_INVALID; Quay once 413).
_PAGE_REFUSED = frozenset({400, 413, 422})
#: A list of this many bytes is looked through in a thread, to keep the loop going.
_READ_ON_LOOP = 256 * 1024


async def described(repository: RegistryRepository) -> AsyncIterator[tuple[str, Digest | None]]:
    """Yield every tag once, with its digest where the list has it; entries that are no tags are left out.

    Nulls (Nexus) and digests (Artifactory) have been seen among the tags. gcr.io and Artifact Registry add
    to each page a map of what every tag stands for, which is taken where it is there, whoever sends it.

    Raises:
        NotFound: when there is no such repository.
        ProtocolViolation: when a page is no list of tags, or the pages lead away or in a circle.
    """
    seen: set[str] = set()
    async for document, reply in _pages(repository):
        if len(reply.body) > _READ_ON_LOOP:
            digests = await anyio.to_thread.run_sync(listed_digests, document)
        else:
            digests = listed_digests(document)
        async for tag in entries(repository.client, document, "tags", reply):
            if tag not in seen and is_tag(tag):
                seen.add(tag)
                yield tag, digests.get(tag)


def listed_digests(document: dict[str, Any]) -> dict[str, Digest]:
    """Return what the tags stand for by a page's ``manifest`` member, ``{"sha256:…": {"tag": [...]}}`` (GCR).

    A tag that is said to stand for two manifests, or for something that is no digest, is left out.
    """
    listed = document.get("manifest")
    found: dict[str, Digest] = {}
    doubtful: set[str] = set()
    for text, entry in listed.items() if isinstance(listed, dict) else ():
        tags = entry.get("tag") if isinstance(entry, dict) else None
        digest = Digest(text) if is_digest(text) else None
        for tag in tags if isinstance(tags, list) else ():
            if not isinstance(tag, str):
                continue
            if digest is None or found.setdefault(tag, digest) != digest:
                doubtful.add(tag)
    for tag in doubtful:
        found.pop(tag, None)
    return found


async def _pages(repository: RegistryRepository) -> AsyncIterator[tuple[dict[str, Any], Reply]]:
    """Yield the pages of the list; those of a registry that gives large ones are asked for large."""
    client = repository.client
    capabilities = client.capabilities
    call = Call(
        kind=RequestKind.TAGS,
        method="GET",
        url=client.url(f"/v2/{repository.repository}/tags/list"),
        asked=str(repository),
        scopes=repository.scopes,
        side=repository.side,
        limit=PAGE_LIMIT,
    )
    is_refused = False
    if capabilities.offers(Capability.TAG_PAGE):
        sized = replace(call, url=with_query(call.url, n=str(capabilities.traits.tag_page)))
        is_begun = False
        try:
            async for page in pages(client, sized):
                is_begun = True
                yield page
        except StatusError as error:
            if is_begun or error.status not in _PAGE_REFUSED:
                raise
            is_refused = True
        else:
            return
    try:
        async for page in pages(client, call):
            if is_refused:
                # Only now is it known that the number was what was refused.
                capabilities.learn(Capability.TAG_PAGE, offered=False)
            yield page
    except NotFound as error:
        if "NAME_UNKNOWN" not in error.codes:
            error.hint = f"{error.hint} Some registries answer so for a repository without tags.".strip()
        raise
