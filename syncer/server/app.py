"""The registry as an aiohttp application, and as a server that is started and stopped."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import structlog
from aiohttp import web
from anyio.to_thread import run_sync

from syncer.errors import UsageError
from syncer.layout import files
from syncer.server.auth import Authority
from syncer.server.blobs import Blobs
from syncer.server.bodies import expect_nothing
from syncer.server.dispatch import Dispatcher
from syncer.server.guards import RepositoryGuards
from syncer.server.listing import Listing
from syncer.server.manifests import Manifests
from syncer.server.referrers import Referrers
from syncer.server.routing import Endpoint
from syncer.server.sessions import UploadSessions
from syncer.server.settings import AuthMode, ServerSettings
from syncer.server.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from syncer.layout.tree import LayoutTree
    from syncer.server.exchange import Act, Exchange

_log = structlog.get_logger("syncer.server")

_DISPATCHER = web.AppKey("dispatcher", Dispatcher)
_PURGE_INTERVAL = 3600.0
#: Bytes that aiohttp buffers of each body before it stops reading from the socket.
_READ_BUFFER = 256 * 1024
#: A push of many tags has a long query, and some tokens are long headers.
_MAX_LINE = 64 * 1024
#: Seconds for which the rest of a body that was refused is read and thrown away.
_LINGER = 5.0
_IDLE_CONNECTION = 75.0
#: Seconds that aiohttp gives to what the drain time was not enough for, to write an answer.
_CUT_OFF = 0.5


def create_app(
    tree: LayoutTree, settings: ServerSettings | None = None, *, clock: Callable[[], float] = time.time
) -> web.Application:
    """Return the registry over ``tree`` as an application.

    Run it with ``auto_decompress=False``, or request bodies that have a Content-Encoding are changed on
    the way in; :class:`RegistryServer` does. The tree is flushed when the application stops, and
    remains the caller's to close. ``clock`` gives the seconds since the epoch, for tokens.

    Raises:
        UsageError: when settings contradict each other.
    """
    settings = settings or ServerSettings()
    _check(settings)
    authority = Authority(settings, clock=clock)
    folder = tree.root / ".syncer" / "uploads"
    sessions = UploadSessions(
        folder, durable=settings.durable, lifetime=settings.upload_lifetime, patience=settings.session_patience
    )
    dispatcher = Dispatcher(_acts(tree, sessions, authority, settings), authority, settings)

    async def running(_app: web.Application) -> AsyncIterator[None]:
        for entry in await authority.load():
            _log.warning("htpasswd.entry_unusable", line=entry.line, user=entry.user, reason=entry.reason)
        purging: asyncio.Task[None] | None = None
        if not settings.read_only:
            await run_sync(_prepare, folder)
            await sessions.purge()
            purging = asyncio.create_task(_purge(sessions))
        try:
            yield
        finally:
            if purging is not None:
                purging.cancel()
                with suppress(asyncio.CancelledError):
                    await purging
            # A request whose client has gone is no connection's any more, and may still be writing.
            with anyio.move_on_after(settings.drain_timeout, shield=True):
                await dispatcher.settled()
            with anyio.CancelScope(shield=True):
                await tree.flush()

    app = web.Application()
    app[_DISPATCHER] = dispatcher
    app.router.add_route("*", "/{path:.*}", dispatcher.handle, expect_handler=expect_nothing)
    app.cleanup_ctx.append(running)
    return app


async def _base(_exchange: Exchange) -> web.StreamResponse:
    return web.json_response({})


def _acts(
    tree: LayoutTree, sessions: UploadSessions, authority: Authority, settings: ServerSettings
) -> dict[Endpoint, dict[str, Act]]:
    """Return what answers each endpoint and method; the order is that of the Allow header."""
    guards = RepositoryGuards()
    blobs = Blobs(tree, guards, settings)
    manifests = Manifests(tree, guards, settings)
    uploads = Uploads(tree, sessions, authority, settings)
    listing = Listing(tree, settings)
    referrers = Referrers(tree)
    return {
        Endpoint.BASE: {"GET": _base, "HEAD": _base},
        Endpoint.TOKEN: {"GET": authority.token, "POST": authority.token},
        Endpoint.CATALOG: {"GET": listing.catalog, "HEAD": listing.catalog},
        Endpoint.TAGS: {"GET": listing.tags, "HEAD": listing.tags},
        Endpoint.REFERRERS: {"GET": referrers.get, "HEAD": referrers.get},
        Endpoint.BLOB: {"GET": blobs.get, "HEAD": blobs.head, "DELETE": blobs.delete},
        Endpoint.MANIFEST: {
            "GET": manifests.get,
            "HEAD": manifests.get,
            "PUT": manifests.put,
            "DELETE": manifests.delete,
        },
        Endpoint.UPLOADS: {"POST": uploads.start},
        Endpoint.UPLOAD: {
            "GET": uploads.status,
            "PATCH": uploads.append,
            "PUT": uploads.commit,
            "DELETE": uploads.cancel,
        },
    }


class RegistryServer:
    """The registry on a socket: ``async with RegistryServer(tree) as server: server.address``.

    Entering binds; leaving stops to accept, lets requests in progress end (``drain_timeout``), and cuts
    the rest off.
    """

    def __init__(
        self,
        tree: LayoutTree,
        settings: ServerSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to serve ``tree`` at ``host:port``; port 0 takes a free one.

        Raises:
            UsageError: when settings contradict each other.
        """
        self._settings = settings or ServerSettings()
        self._app = create_app(tree, self._settings, clock=clock)
        self._wanted = (host, port)
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self.host = host
        self.port = port

    @property
    def address(self) -> str:
        """``host:port``, as a reference to this registry begins; an IPv6 address is in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root of the API's URLs, without a slash at its end."""
        return f"{'https' if self._settings.certificate else 'http'}://{self.address}"

    async def __aenter__(self) -> Self:
        """Bind and serve.

        Raises:
            UsageError: when the address cannot be bound or the certificate not be used.
            CredentialsError: when the password file cannot be read.
            LayoutError: when the tree cannot be used.
        """
        context = await run_sync(_tls_context, self._settings)
        runner = web.AppRunner(
            self._app,
            access_log=None,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            lingering_time=_LINGER,
            keepalive_timeout=_IDLE_CONNECTION,
            shutdown_timeout=_CUT_OFF,
        )
        host, port = self._wanted
        try:
            await runner.setup()
            site = web.TCPSite(runner, host, port, ssl_context=context, backlog=1024)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="Choose another address, or stop what is listening there.",
            ) from None
        except BaseException:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()
            raise
        self._runner, self._site = runner, site
        self.host, self.port = runner.addresses[0][:2]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; also when this task is being cancelled."""
        runner, self._runner = self._runner, None
        site, self._site = self._site, None
        if runner is None or site is None:
            return
        with anyio.CancelScope(shield=True):
            await site.stop()
            # Not left to aiohttp: a connection it is closing drops what arrives, so no upload would ever end.
            with anyio.move_on_after(self._settings.drain_timeout):
                await self._app[_DISPATCHER].drained()
            await runner.cleanup()

    async def settled(self) -> None:
        """Return once no request is being handled: every record has been given to ``on_request`` then."""
        await self._app[_DISPATCHER].settled()


async def _purge(sessions: UploadSessions) -> None:
    while True:
        await asyncio.sleep(_PURGE_INTERVAL)
        removed = await sessions.purge()
        if removed:
            _log.info("uploads.purged", sessions=removed)


def _prepare(folder: Path) -> None:
    """Make the folder of the upload sessions, which is the first thing to fail on a root that cannot be written."""
    files.refuse_links(folder.parent.parent, folder.parent, folder)
    with files.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _check(settings: ServerSettings) -> None:
    if settings.auth is not AuthMode.NONE and settings.htpasswd is None and not settings.anonymous_pull:
        raise UsageError(
            "logins are asked for, but there is no password file", hint="Give the path of an htpasswd file."
        )
    if settings.auth is AuthMode.NONE and settings.htpasswd is not None:
        raise UsageError("there is a password file, but logins are not asked for", hint="Set auth to basic or token.")
    if (settings.certificate is None) != (settings.key is None):
        raise UsageError("a certificate and its key belong together", hint="Give both, or neither for plain HTTP.")
    if settings.token_lifetime < 1 or settings.page_size < 1:
        raise UsageError("token_lifetime and page_size must be positive")


def _tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificate {settings.certificate} cannot be used with the key {settings.key}: {error}",
            hint="Both must be PEM files, and the key the certificate's own, without a passphrase.",
        ) from None
    return context
