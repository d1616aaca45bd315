"""GET, HEAD, PUT and DELETE of manifests (distribution-spec endpoints 3, 7 and 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from anyio.to_thread import run_sync

from syncer.errors import InvalidDigest, InvalidReference, LayoutError, MalformedManifest, NotFound
from syncer.layout import files
from syncer.oci.digest import Digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE, Manifest
from syncer.oci.reference import check_tag, is_tag
from syncer.server.bodies import read_whole
from syncer.server.errors import ErrorCode, error_response, errors_response
from syncer.server.headers import tag_matches

if TYPE_CHECKING:
    from pathlib import Path

    from multidict import CIMultiDict

    from syncer.layout.store import LayoutStore
    from syncer.layout.tree import LayoutTree
    from syncer.oci.descriptor import Descriptor
    from syncer.server.exchange import Exchange
    from syncer.server.guards import RepositoryGuards
    from syncer.server.routing import Route
    from syncer.server.settings import ServerSettings

#: Above this, parsing is worth a thread hop.
_PARSE_INLINE = 64 * 1024
#: Tags that one push may set; distribution-spec "Pushing Manifests" asks for ten at least.
MAX_TAGS = 100


class Manifests:
    """The manifests and tags of every repository."""

    def __init__(self, tree: LayoutTree, guards: RepositoryGuards, settings: ServerSettings) -> None:
        self._tree = tree
        self._guards = guards
        self._settings = settings

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """Send the exact bytes that were pushed, whatever Accept says: nothing is ever converted."""
        request = exchange.request
        store, descriptor = await self._resolve(exchange.route)
        headers = _headers(descriptor)
        held = request.headers.get("If-None-Match", "")
        if held and tag_matches(held, descriptor.digest):
            del headers["Content-Type"]
            return web.Response(status=304, headers=headers)
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(descriptor.size)})
        raw = await run_sync(_read, store.blob_path(descriptor.digest), descriptor.digest)
        return web.Response(body=raw, headers=headers)

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """Take a manifest when all that it links to is there; set its tags last.

        Answers 400 MANIFEST_BLOB_UNKNOWN with one entry for each digest that is missing; a subject may be
        missing (distribution-spec "Pushing Manifests with Subject").
        """
        request, route = exchange.request, exchange.route
        digest = Digest(route.reference) if ":" in route.reference else None
        tags = list(dict.fromkeys(request.query.getall("tag", []))) if digest else [route.reference]
        if len(tags) > MAX_TAGS:
            return error_response(414, ErrorCode.UNSUPPORTED, f"one push sets at most {MAX_TAGS} tags")
        try:
            for tag in tags:
                check_tag(tag)
        except InvalidReference as error:
            return error_response(400, ErrorCode.MANIFEST_INVALID, error.message)
        raw = await read_whole(request, self._settings.max_manifest_size, stall_timeout=self._settings.stall_timeout)
        manifest = await _parse(raw, request.headers.get("Content-Type", ""), digest)
        async with self._guards.pushing(route.repository):
            if missing := await self._missing(route.repository, manifest):
                return errors_response(400, [_missing_entry(absent) for absent in missing])
            store = await self._tree.store(route.repository, create=True)
            for tag in tags or [""]:
                await store.put_manifest(manifest, tag)
        response = web.Response(
            status=201,
            headers={
                "Location": f"/v2/{route.repository}/manifests/{manifest.digest}",
                "Docker-Content-Digest": manifest.digest,
            },
        )
        if manifest.subject is not None:
            response.headers["OCI-Subject"] = manifest.subject.digest
        if digest:
            _announce_tags(response.headers, tags)
        return response

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """Remove a tag, or a manifest with all its tags."""
        route = exchange.route
        reference = _locator(route.reference)
        store = await self._tree.store(route.repository)
        async with self._guards.deleting(route.repository):
            if isinstance(reference, Digest):
                await store.delete_manifest(reference)
            else:
                await store.delete_tag(reference)
        return web.Response(status=202)

    async def _resolve(self, route: Route) -> tuple[LayoutStore, Descriptor]:
        reference = _locator(route.reference)
        store = await self._tree.store(route.repository)
        return store, await store.resolve(reference)

    async def _missing(self, repository: str, manifest: Manifest) -> list[Digest]:
        wanted = list(dict.fromkeys([blob.digest for blob in (*manifest.blobs(), *manifest.manifests)]))
        if not wanted:
            return []
        try:
            store = await self._tree.store(repository)
        except NotFound:
            return wanted
        present = await store.present(wanted)
        return [digest for digest in wanted if digest not in present]


def _locator(reference: str) -> str | Digest:
    """Return the tag or digest of a path.

    Raises:
        InvalidDigest: when it has a colon and is no digest.
        NotFound: when it cannot be a tag: then there is none of that name.
    """
    if ":" in reference:
        return Digest(reference)
    if not is_tag(reference):
        raise NotFound(f"no such tag: {reference[:160]!r}")
    return reference


async def _parse(raw: bytes, content_type: str, digest: Digest | None) -> Manifest:
    try:
        if len(raw) <= _PARSE_INLINE:
            return Manifest.parse(raw, content_type, digest=digest)
        return await run_sync(lambda: Manifest.parse(raw, content_type, digest=digest))
    except InvalidDigest as error:
        # A link in the manifest, not the digest that the client pushed it by.
        raise MalformedManifest(error.message) from None


def _read(path: Path, digest: Digest) -> bytes:
    raw = files.read_regular(path, limit=MAX_MANIFEST_SIZE)
    if raw is None:
        raise NotFound(f"manifest {digest} is not in the layout any more")
    if not digest.matches(raw):
        raise LayoutError(f"the manifest {digest} is corrupt on the disk", hint="Delete it and push it again.")
    return raw


def _headers(descriptor: Descriptor) -> dict[str, str]:
    return {
        "Content-Type": descriptor.media_type,
        "Docker-Content-Digest": descriptor.digest,
        "ETag": f'"{descriptor.digest}"',
    }


def _missing_entry(digest: Digest) -> dict[str, object]:
    return {
        "code": ErrorCode.MANIFEST_BLOB_UNKNOWN,
        "message": "the manifest refers to content that is not in the repository",
        "detail": {"digest": digest},
    }


def _announce_tags(headers: CIMultiDict[str], tags: list[str]) -> None:
    for tag in tags:
        headers.add("OCI-Tag", tag)
