"""From a request to the act that answers it: method, permission, and what errors become."""

from __future__ import annotations

import time
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import structlog
from aiohttp import web

from syncer.errors import ContentError, NotFound, SyncerError
from syncer.server.auth import Need
from syncer.server.errors import ErrorCode, error_response, refusal
from syncer.server.exchange import Exchange
from syncer.server.routing import Endpoint, Route, parse_path
from syncer.server.settings import Action, RequestRecord, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syncer.server.auth import Authority
    from syncer.server.exchange import Act

_log = structlog.get_logger("syncer.server")

_NOT_FOUND = {
    Endpoint.BLOB: (ErrorCode.BLOB_UNKNOWN, "blob {reference} is not in {repository}"),
    Endpoint.MANIFEST: (ErrorCode.MANIFEST_UNKNOWN, "manifest {reference} is not in {repository}"),
    Endpoint.UPLOAD: (
        ErrorCode.BLOB_UPLOAD_UNKNOWN,
        "there is no such upload session in {repository}; it was committed, cancelled or has expired",
    ),
}
_NO_REPOSITORY = (ErrorCode.NAME_UNKNOWN, "there is no repository {repository}")
#: What a path is taken for until it has been read.
_NOWHERE = Route(endpoint=Endpoint.BASE)
_READING = ("GET", "HEAD")
#: What nginx and distribution say of a client that left first; never on the wire.
_CLIENT_GONE = 499
_SERVER_ERROR = 500


class Dispatcher:
    """Answers every request of the server."""

    def __init__(
        self,
        acts: Mapping[Endpoint, Mapping[str, Act]],
        authority: Authority,
        settings: ServerSettings,
    ) -> None:
        self._acts = acts
        self._authority = authority
        self._settings = settings
        self._in_progress = 0
        self._settled = anyio.Event()
        self._draining = False

    async def drained(self) -> None:
        """Close each connection with its next answer from now on; return when no request is being answered."""
        self._draining = True
        await self.settled()

    async def settled(self) -> None:
        """Return when no request is being answered."""
        while self._in_progress:
            await self._settled.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and tell the settings' hook of it."""
        started = time.perf_counter()
        exchange = Exchange(request=request, route=_NOWHERE)
        self._in_progress += 1
        status, sent = _CLIENT_GONE, 0
        try:
            response = await self._answer(exchange)
            response.headers["Docker-Distribution-API-Version"] = "registry/2.0"
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Server"] = "syncer"
            if self._draining and not response.prepared:
                response.force_close()
            status, sent = _outcome(exchange, response)
            return response
        finally:
            self._in_progress -= 1
            self._record(exchange, status, sent, time.perf_counter() - started)
            if not self._in_progress:
                self._settled.set()
                self._settled = anyio.Event()

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        try:
            route = parse_path(request.path)
            if route is None:
                return error_response(404, ErrorCode.UNSUPPORTED, "there is no such endpoint")
            exchange.route = route
            act = self._act(exchange)
            if isinstance(act, web.Response):
                return act
            if (refused := await self._authorize(exchange)) is not None:
                return refused
            return await act(exchange)
        except NotFound:
            return _absence(exchange.route)
        except (SyncerError, OSError) as error:
            # Damaged content that is read is our failure; content that is sent to us is the client's.
            ours = isinstance(error, ContentError) and request.method in _READING
            answer = None if ours else refusal(error)
            if answer is None:
                return self._failed(request, error)
            if answer.status >= _SERVER_ERROR:
                # Somebody has to make room, here: the client is told nothing of this machine.
                event = "storage.full" if answer.status == HTTPStatus.INSUFFICIENT_STORAGE else "files.exhausted"
                reason = error.message if isinstance(error, SyncerError) else str(error)
                _log.error(event, method=request.method, path=request.path, reason=reason)
            return answer
        except Exception as error:  # noqa: BLE001 - the last stop: a client gets an answer, never a traceback
            return self._failed(request, error)

    def _act(self, exchange: Exchange) -> Act | web.Response:
        request, route = exchange.request, exchange.route
        acts = self._acts[route.endpoint]
        allowed = [m for m in acts if m in _READING or not self._settings.read_only or route.endpoint is Endpoint.TOKEN]
        if request.method in allowed:
            return acts[request.method]
        message = "this registry is read-only" if request.method in acts else f"{request.method} is not supported here"
        return error_response(405, ErrorCode.UNSUPPORTED, message, headers={"Allow": ", ".join(allowed)})

    async def _authorize(self, exchange: Exchange) -> web.Response | None:
        request, route = exchange.request, exchange.route
        if self._authority.is_open or route.endpoint is Endpoint.TOKEN:
            return None
        identity = await self._authority.identify(request)
        needs = _needs(request, route)
        # Of several needs only the first must be met: a mount whose origin may not be read is a plain upload.
        if identity is None or not self._authority.permits(identity, needs[0]):
            return self._authority.refuse(request, identity, needs)
        exchange.identity = identity
        return None

    def _failed(self, request: web.Request, error: Exception) -> web.Response:
        # As text: a renderer that shows local variables would show credentials.
        trace = "".join(traceback.format_exception(error))
        _log.error("request.failed", method=request.method, path=request.path, trace=trace)
        return error_response(_SERVER_ERROR, ErrorCode.UNKNOWN, "the registry failed; its log says why")

    def _record(self, exchange: Exchange, status: int, sent: int, seconds: float) -> None:
        if self._settings.on_request is None:
            return
        request = exchange.request
        self._settings.on_request(
            RequestRecord(
                method=request.method,
                path=request.path,
                query=request.rel_url.raw_query_string,
                status=status,
                bytes_in=request.content.total_bytes,
                bytes_out=sent,
                seconds=seconds,
                user=exchange.identity.user,
            )
        )


def _absence(route: Route) -> web.Response:
    """Return the 404 of an endpoint; what the layout says of it would name directories of this machine."""
    code, message = _NOT_FOUND.get(route.endpoint, _NO_REPOSITORY)
    return error_response(404, code, message.format(reference=route.reference[:160], repository=route.repository))


def _needs(request: web.Request, route: Route) -> list[Need]:
    if route.endpoint is Endpoint.BASE:
        return [Need()]
    if route.endpoint is Endpoint.CATALOG:
        return [Need.of_catalog()]
    if route.endpoint in (Endpoint.UPLOADS, Endpoint.UPLOAD):
        needs = [Need.of_repository(route.repository, Action.PUSH)]
        origin = request.query.get("from", "")
        if origin and "mount" in request.query and route.endpoint is Endpoint.UPLOADS and '"' not in origin:
            needs.append(Need.of_repository(origin, Action.PULL))
        return needs
    action = {"GET": Action.PULL, "HEAD": Action.PULL, "DELETE": Action.DELETE}.get(request.method, Action.PUSH)
    return [Need.of_repository(route.repository, action)]


def _outcome(exchange: Exchange, response: web.StreamResponse) -> tuple[int, int]:
    """Return the status and the bytes of the body as the client saw them."""
    if exchange.client_is_gone():
        return _CLIENT_GONE, exchange.sent
    if isinstance(response, web.Response):
        body = response.body
        sent = len(body) if isinstance(body, bytes) and exchange.request.method != "HEAD" else 0
        return response.status, sent
    return response.status, exchange.sent
