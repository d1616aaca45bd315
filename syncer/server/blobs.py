"""GET, HEAD and DELETE of blobs (distribution-spec endpoints 2 and 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from syncer.errors import NotFound
from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.server.errors import ErrorCode, error_response
from syncer.server.headers import tag_matches
from syncer.server.sending import BlobSender

if TYPE_CHECKING:
    from syncer.layout.tree import LayoutTree
    from syncer.server.exchange import Exchange
    from syncer.server.guards import RepositoryGuards
    from syncer.server.settings import ServerSettings


class Blobs:
    """The blobs of every repository."""

    def __init__(self, tree: LayoutTree, guards: RepositoryGuards, settings: ServerSettings) -> None:
        self._tree = tree
        self._guards = guards
        self._sender = BlobSender(settings.stall_timeout)

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """Send a blob, or the part that a Range header asks for."""
        request, route = exchange.request, exchange.route
        digest = Digest(route.reference)
        store = await self._tree.store(route.repository)
        if _is_known(request, digest):
            if await store.blob_size(digest) is None:
                raise NotFound(f"blob {digest} is not in {route.repository}")
            return web.Response(status=304, headers=_headers(digest))
        response = await self._sender.send(exchange, store.blob_path(digest), digest, _headers(digest))
        if response is None:
            raise NotFound(f"blob {digest} is not in {route.repository}")
        return response

    async def head(self, exchange: Exchange) -> web.StreamResponse:
        """Tell whether a blob is there, and its size."""
        request, route = exchange.request, exchange.route
        digest = Digest(route.reference)
        store = await self._tree.store(route.repository)
        size = await store.blob_size(digest)
        if size is None:
            raise NotFound(f"blob {digest} is not in {route.repository}")
        if _is_known(request, digest):
            return web.Response(status=304, headers=_headers(digest))
        return web.Response(headers={**_headers(digest), "Content-Length": str(size)})

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """Remove a blob; what refers to it is not looked for, as registries do."""
        route = exchange.route
        digest = Digest(route.reference)
        store = await self._tree.store(route.repository)
        async with self._guards.deleting(route.repository):
            try:
                descriptor = await store.resolve(digest)
            except NotFound:
                descriptor = None
            if descriptor is not None and media_types.is_manifest(descriptor.media_type):
                return error_response(
                    405,
                    ErrorCode.UNSUPPORTED,
                    f"{digest} is a manifest; delete it at /v2/{route.repository}/manifests/{digest}",
                    headers={"Allow": "GET, HEAD"},
                )
            await store.delete_blob(digest)
        return web.Response(status=202)


def _headers(digest: Digest) -> dict[str, str]:
    return {
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
        "Content-Type": "application/octet-stream",
    }


def _is_known(request: web.Request, digest: Digest) -> bool:
    held = request.headers.get("If-None-Match", "")
    return bool(held) and tag_matches(held, digest)
