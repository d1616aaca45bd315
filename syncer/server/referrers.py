"""The referrers API (distribution-spec endpoint 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from syncer.errors import NotFound
from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.oci.referrers import referrers_index

if TYPE_CHECKING:
    from syncer.layout.tree import LayoutTree
    from syncer.oci.descriptor import Descriptor
    from syncer.server.exchange import Exchange

#: Clients read no index over 4 MiB: a longer list goes in pages.
_PAGE_BYTES = 3 * 1024 * 1024
#: The length of a descriptor's JSON without its annotations, generously.
_DESCRIPTOR_BYTES = 512


class Referrers:
    """Answers what refers to a manifest."""

    def __init__(self, tree: LayoutTree) -> None:
        self._tree = tree

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """List the manifests whose subject is the digest; 200 with an empty list when nothing is known of it."""
        request, route = exchange.request, exchange.route
        digest = Digest(route.reference)
        try:
            store = await self._tree.store(route.repository)
            found = await store.referrers(digest)
        except NotFound:
            # "If the referrers API is supported, the registry MUST NOT return a 404" (Listing Referrers).
            found = []
        artifact_type = request.query.get("artifactType", "")
        if artifact_type:
            found = [descriptor for descriptor in found if descriptor.artifact_type == artifact_type]
        page, more = _take_page(found, request.query.get("last", ""))
        response = web.Response(body=referrers_index(page), headers={"Content-Type": media_types.OCI_INDEX})
        if artifact_type:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        if more:
            query = {"last": page[-1].digest, **({"artifactType": artifact_type} if artifact_type else {})}
            response.headers["Link"] = f'<{request.rel_url.raw_path}?{urlencode(query)}>; rel="next"'
        return response


def _take_page(found: list[Descriptor], last: str) -> tuple[list[Descriptor], bool]:
    """Return the descriptors after the digest ``last``, as many as fit a page, and whether more follow."""
    ordered = sorted(found, key=lambda descriptor: descriptor.digest)
    remaining = [descriptor for descriptor in ordered if descriptor.digest > last]
    size = 0
    for count, descriptor in enumerate(remaining):
        size += _DESCRIPTOR_BYTES + sum(
            6 * (len(key) + len(value)) if not (key + value).isascii() else len(key) + len(value) + 8
            for key, value in descriptor.annotations.items()
        )
        if count and size > _PAGE_BYTES:
            return remaining[:count], True
    return remaining, False
