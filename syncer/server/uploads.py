"""Blob uploads (distribution-spec endpoints 4, 5, 6, 11, 13 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from syncer.errors import InvalidDigest, InvalidReference, NotFound, RangeRejected, SizeExceedsLimit, StatusError
from syncer.oci.digest import ALGORITHMS, Digest
from syncer.oci.reference import check_repository
from syncer.server.auth import Authority, Need
from syncer.server.bodies import batches, invite
from syncer.server.errors import refusal
from syncer.server.headers import Span, parse_content_range
from syncer.server.mounts import BlobOrigins
from syncer.server.sessions import DEFAULT_ALGORITHM, UploadSession, UploadSessions
from syncer.server.settings import Action

if TYPE_CHECKING:
    from syncer.layout.tree import LayoutTree
    from syncer.server.exchange import Exchange, Identity
    from syncer.server.settings import ServerSettings


class Uploads:
    """Takes blobs in."""

    def __init__(
        self, tree: LayoutTree, sessions: UploadSessions, authority: Authority, settings: ServerSettings
    ) -> None:
        self._tree = tree
        self._sessions = sessions
        self._authority = authority
        self._settings = settings
        self._origins = BlobOrigins()

    async def start(self, exchange: Exchange) -> web.StreamResponse:
        """Mount a blob, take a whole one from the body, or open a session, by the query."""
        request, route = exchange.request, exchange.route
        if mount := request.query.get("mount", ""):
            mounted = await self._mount(exchange, Digest(mount))
            if mounted is not None:
                return mounted
        if text := request.query.get("digest", ""):
            return await self._take_whole(exchange, Digest(text))
        algorithm = request.query.get("digest-algorithm", DEFAULT_ALGORITHM)
        if algorithm not in ALGORITHMS:
            raise InvalidDigest(f"unknown digest algorithm {algorithm[:40]!r}")
        session = await self._sessions.open(route.repository, algorithm)
        return web.Response(status=202, headers=_progress(session))

    async def status(self, exchange: Exchange) -> web.StreamResponse:
        """Tell how many bytes a session has."""
        route = exchange.route
        session = await self._sessions.settled(route.repository, route.reference)
        return web.Response(status=204, headers=_progress(session))

    async def append(self, exchange: Exchange) -> web.StreamResponse:
        """Take a chunk, or a stream when there is no Content-Range."""
        request, route = exchange.request, exchange.route
        span = _announced(request)
        async with self._sessions.hold(route.repository, route.reference, exchange.client_is_gone) as session:
            try:
                await self._receive(request, session, span)
            except (RangeRejected, SizeExceedsLimit) as error:
                return _rejected(error, session)
            return web.Response(status=202, headers=_progress(session))

    async def commit(self, exchange: Exchange) -> web.StreamResponse:
        """Take the rest of a blob, if any, check its digest and put it into the repository."""
        request, route = exchange.request, exchange.route
        text = request.query.get("digest", "")
        if not text:
            raise InvalidDigest("the digest parameter is missing")
        digest = Digest(text)
        span = _announced(request)
        async with self._sessions.hold(route.repository, route.reference, exchange.client_is_gone) as session:
            try:
                await self._receive(request, session, span)
            except (RangeRejected, SizeExceedsLimit) as error:
                return _rejected(error, session)
            return await self._adopt(session, digest)

    async def cancel(self, exchange: Exchange) -> web.StreamResponse:
        """Drop a session and what it received."""
        route = exchange.route
        async with self._sessions.hold(route.repository, route.reference, exchange.client_is_gone) as session:
            await self._sessions.drop(session)
        return web.Response(status=204)

    async def _receive(self, request: web.Request, session: UploadSession, span: Span | None) -> None:
        if span is not None and span.start != session.offset:
            raise RangeRejected(
                f"the session has {session.offset} bytes; the chunk starts at {span.start}",
                status=416,
                codes=("BLOB_UPLOAD_INVALID",),
            )
        length = request.content_length
        if span is not None and length is not None and length != span.length:
            raise RangeRejected(
                f"Content-Length is {length}, and Content-Range has {span.length} bytes",
                status=400,
                codes=("SIZE_INVALID",),
            )
        limit = self._settings.max_blob_size
        if limit is not None and session.offset + (length or 0) > limit:
            raise SizeExceedsLimit(f"the blob is longer than the limit of {limit} bytes")
        if not request.can_read_body:
            return
        await invite(request)
        try:
            await self._sessions.receive(
                session,
                batches(request, stall_timeout=self._settings.stall_timeout),
                limit=limit,
                exactly=span.length if span is not None else None,
            )
        finally:
            # Also when the client was cut off: it will come back and ask for the offset.
            if request.method == "PATCH":
                with anyio.CancelScope(shield=True):
                    await self._sessions.secure(session)

    async def _take_whole(self, exchange: Exchange, digest: Digest) -> web.StreamResponse:
        """Take a blob in one request (POST with a digest)."""
        repository = exchange.route.repository
        opened = await self._sessions.open(repository, digest.algorithm)
        async with self._sessions.hold(repository, opened.identifier, exchange.client_is_gone) as session:
            try:
                await self._receive(exchange.request, session, None)
                return await self._adopt(session, digest)
            except BaseException:
                # Nobody was told of this session, so nobody can go on with it.
                await self._sessions.drop(session)
                raise

    async def _adopt(self, session: UploadSession, digest: Digest) -> web.Response:
        await self._sessions.verify(session, digest)
        # Once the file has moved, the session must be forgotten, whatever happens to this request.
        with anyio.CancelScope(shield=True):
            store = await self._tree.store(session.repository, create=True)
            await store.adopt(session.path, digest)
            self._sessions.forget(session)
        self._origins.note(digest, session.repository)
        return _created(session.repository, digest)

    async def _mount(self, exchange: Exchange, digest: Digest) -> web.Response | None:
        """Return 201 when the blob is there now, or None: then a session is opened (202)."""
        repository = exchange.route.repository
        origin = exchange.request.query.get("from", "")
        for candidate in (repository, origin) if origin else (repository, *self._origins.candidates(digest)):
            if candidate != repository and not self._may_pull(exchange.identity, candidate):
                continue
            if await self._link(candidate, repository, digest):
                self._origins.note(digest, repository)
                return _created(repository, digest)
        return None

    def _may_pull(self, identity: Identity, repository: str) -> bool:
        try:
            need = Need.of_repository(check_repository(repository), Action.PULL)
        except InvalidReference:
            return False
        return self._authority.permits(identity, need)

    async def _link(self, origin: str, repository: str, digest: Digest) -> bool:
        try:
            source = await self._tree.store(origin)
            # Asked first, so that a mount that misses leaves no empty repository behind.
            if await source.blob_size(digest) is None:
                return False
            if origin == repository:
                return True
            target = await self._tree.store(repository, create=True)
            return await target.link(source, digest)
        except NotFound:
            return False


def _announced(request: web.Request) -> Span | None:
    text = request.headers.get("Content-Range")
    if text is None:
        return None
    span = parse_content_range(text)
    if span is None:
        raise StatusError(f"Content-Range is not FIRST-LAST: {text[:80]!r}", status=400, codes=("BLOB_UPLOAD_INVALID",))
    return span


def _progress(session: UploadSession) -> dict[str, str]:
    """Return the headers that say where a session is and how far; no bytes and one are both ``0-0``."""
    return {
        "Location": f"/v2/{session.repository}/blobs/uploads/{session.identifier}",
        "Range": f"0-{max(0, session.offset - 1)}",
        "Docker-Upload-UUID": session.identifier,
    }


def _rejected(error: RangeRejected | SizeExceedsLimit, session: UploadSession) -> web.Response:
    response = refusal(error, headers=_progress(session))
    assert response is not None  # noqa: S101 - both kinds have an answer
    return response


def _created(repository: str, digest: Digest) -> web.Response:
    return web.Response(
        status=201,
        headers={"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest},
    )
