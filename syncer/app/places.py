"""Opening what references name, and closing it together.

What the registries of a spec are is opened by :mod:`syncer.app.spec_places`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import Lock

from syncer.app.layouts import layout_tree, path_source, path_target
from syncer.app.mirroring import Mirroring
from syncer.app.registries import HASTY, made_client, open_unnamed, settings_of_host
from syncer.errors import InvalidReference, Side
from syncer.oci.reference import PathReference, Reference, Transport, check_host
from syncer.registry.settings import TlsSettings
from syncer.registry.standing import Standings

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from syncer.app.surroundings import Surroundings
    from syncer.content import Catalog, Source, Target
    from syncer.events import Observer
    from syncer.registry.client import RegistryClient
    from syncer.registry.settings import RegistrySettings
    from syncer.registry.standing import Standing


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """How the registry of a reference is reached; the paths are PEM files, empty where there is none."""

    #: Hosts, and ``*.domains``, that it may lead to wherever they are.
    trusted_hosts: tuple[str, ...] = ()
    #: None: plain HTTP for loopback addresses where nothing is said of certificates, TLS for all others.
    plain_http: bool | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False


class Opened:
    """What a command has opened by reference; closed with its context.

    An archive appears under its name when the context ends without an error, and not at all otherwise.
    """

    def __init__(self, surroundings: Surroundings, observer: Observer) -> None:
        self._surroundings = surroundings
        self._observer = observer
        self._stack = AsyncExitStack()
        self._clients: dict[tuple[str, Reach], RegistryClient] = {}
        self._standings = Standings(clock=surroundings.clock, sleep=surroundings.sleep, random=surroundings.random)
        self._hasty = self._standings.with_policy(HASTY)
        self._mirroring: Mirroring | None = None
        self._lock = Lock()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def source(self, reference: Reference | PathReference, reach: Reach | None = None) -> Source:
        """Open what ``reference`` names for reading.

        Raises:
            NotFound, LayoutError: when there is no such path, or it is not what the transport says.
            CertificateError, CredentialsError: when a file that is named cannot be used.
            SpecError: when a registries.conf cannot be used.
        """
        if not isinstance(reference, Reference):
            return await self._stack.enter_async_context(path_source(reference))
        registry, repository = reference.registry, reference.repository
        mirroring = await self._rules()
        has_say = reach is not None and replace(reach, trusted_hosts=()) != Reach()
        route = mirroring.route(registry, repository, has_say=has_say)
        if route is None:
            return (await self.client(registry, reach)).repository(repository, Side.SOURCE)
        own = None if route.primary.insecure and not has_say else await self.client(registry, reach)
        return mirroring.repository(registry, repository, route, own)

    async def target(self, reference: Reference | PathReference, reach: Reach | None = None) -> Target:
        """Open what ``reference`` names for writing; layouts, archives and directories are created.

        Raises:
            LayoutError: when the path cannot be written or holds something else.
            CertificateError, CredentialsError: when a file that is named cannot be used.
        """
        if isinstance(reference, Reference):
            client = await self.client(reference.registry, reach)
            return client.repository(reference.repository, Side.TARGET)
        return await self._stack.enter_async_context(path_target(reference))

    async def catalog(self, text: str, reach: Reach | None = None) -> Catalog:
        """Open the list of repositories of ``host[:port]``, or of the layout tree ``oci:PATH``.

        Raises:
            InvalidReference: when the text is neither.
        """
        if text.startswith(f"{Transport.OCI}:"):
            path = text.removeprefix(f"{Transport.OCI}:")
            if not path:
                raise InvalidReference(f"invalid registry {text!r}: the path is empty", hint="Write oci:PATH.")
            return await self._stack.enter_async_context(layout_tree(Path(path)))
        name, slash, rest = text.removeprefix("docker://").rstrip("/").partition("/")
        if slash and "://" not in text.removeprefix("docker://"):
            raise InvalidReference(
                f"{text[:200]!r} is more than a registry", hint=f"Write {name}, with --prefix {rest}/ for a part of it."
            )
        host = check_host(name + slash + rest)
        (await self._rules()).check(host)
        client = await self.client(host, reach)
        return client.catalog(Side.SOURCE)

    async def client(self, host: str, reach: Reach | None = None) -> RegistryClient:
        """Open the registry ``host[:port]``."""
        reach = reach or Reach()
        known = self._clients.get((host, reach))
        if known is not None:
            return known
        tls = TlsSettings(ca=reach.ca, cert=reach.cert, key=reach.key, insecure=reach.insecure)
        settings = settings_of_host(host, self._surroundings, plain_http=reach.plain_http, tls=tls)
        settings = replace(settings, trusted_hosts=reach.trusted_hosts)
        standing = self._standings.of(settings, settings.base_url)
        self._clients[host, reach] = await self._enter(settings, standing)
        return self._clients[host, reach]

    async def _rules(self) -> Mirroring:
        async with self._lock:
            if self._mirroring is None:
                self._mirroring = await Mirroring.open(self._surroundings, self._connect, self._observer)
            return self._mirroring

    async def _enter(self, settings: RegistrySettings, standing: Standing) -> RegistryClient:
        client = made_client(settings, self._surroundings, self._observer, standing=standing)
        return await self._stack.enter_async_context(client)

    async def _connect(self, host: str, *, insecure: bool, patient: bool) -> RegistryClient:
        known = self._standings if patient else self._hasty
        return await open_unnamed(host, self._surroundings, self._enter, known, insecure=insecure)
